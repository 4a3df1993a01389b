"""Requests, settings and catalogues for tests of the HTTP side; no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.dreambooth_api.requests import TrainingRequest
from enlight.dreambooth_api.settings import Settings

REQUEST = TrainingRequest(
    model_id="chair",
    base_name="enlight/pocket",
    instance_prompt="a sks chair",
    photos=(),
    max_training_steps=4,
    resolution_px=64,
    train_batch_size=1,
    learning_rate=1e-4,
    lr_scheduler="constant",
    lr_warmup_steps=0,
    gradient_accumulation_steps=1,
    seed=0,
    kind="full",
    lora_rank=4,
    lora_alpha=4,
    prior_preservation=False,
    prior_loss_weight=1.0,
    class_prompt="",
    num_class_images=0,
    train_text_encoder=False,
    max_grad_norm=1.0,
)


def training_request(**changes: Any) -> TrainingRequest:
    """A small valid request with some fields changed."""
    return replace(REQUEST, **changes)


def settings_in(folder: Path, **changes: Any) -> Settings:
    """Settings of a service that keeps everything below ``folder``."""
    return Settings(
        data_folder=folder / "data",
        models_folder=folder / "models",
        default_base_model="enlight/pocket",
        **changes,
    )


def catalogue_in(folder: Path) -> BaseCatalogue:
    """The catalogue over ``folder/models``."""
    return BaseCatalogue(folder / "models")
