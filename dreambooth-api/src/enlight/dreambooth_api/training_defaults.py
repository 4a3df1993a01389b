"""Settings that decide what a training is where its body says nothing; dreambooth-api and main-api have the same."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from enlight.dreambooth_api.requests import TrainingKind
from enlight.servicekit.settings import ServiceSettings


class BaseModelSettings(ServiceSettings):
    """Which base models there are. A subclass sets the prefix."""

    models_folder: Path = Field(Path("models"), description="Folder that holds the base models' folders.")
    base_aliases: dict[str, str] = Field(
        default_factory=dict, description="More names for base models, JSON object of alias to canonical name."
    )
    base_revisions: dict[str, str] = Field(
        default_factory=dict, description="Pinned hub commit per base model, JSON object of name to commit."
    )


class TrainingDefaults(ServiceSettings):
    """What a training is unless its body or its preset says otherwise. A subclass sets the prefix."""

    default_base_model: str = Field(
        "stabilityai/stable-diffusion-2", description="Base model where a request names none."
    )
    max_prompt_chars: int = Field(2000, ge=1, le=100_000, description="Longest prompt, in characters.")
    training_seed: int = Field(0, ge=0, lt=2**63, description="Seed of a training that names none.")
    training_kind: TrainingKind = Field("full", description="What `/train` trains: the whole U-Net, or a LoRA.")
    lora_rank: int = Field(16, ge=1, le=512, description="Rank of a LoRA; its alpha is the same.")
    prior_preservation: bool = Field(
        default=False, description="Whether `/train` keeps the class by prior preservation."
    )
    prior_loss_weight: float = Field(1.0, ge=0, le=100, description="Weight of the prior preservation loss.")
    class_prompt: str = Field(
        "", description="Prompt of the class images; empty: the instance prompt without its rare word (sks, zwx, ohwx)."
    )
    num_class_images: int = Field(100, ge=1, le=2000, description="Class images made for prior preservation.")
    train_text_encoder: bool = Field(default=False, description="Whether `/train` trains the text encoder as well.")
    max_grad_norm: float = Field(1.0, gt=0, le=1000, description="Gradients are clipped to this norm.")
