"""Trained models of a base with a handful of weights: real safetensors files, quick and without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from enlight.dreambooth_api.bases import BaseCatalogue, CatalogueEntry
from enlight.dreambooth_api.model_store import Manifest, ModelDescription, ModelStore

BASE_NAME = "tests/small"
BASE_ALIAS = "tests/small-by-another-name"
LORA_FILE = "pytorch_lora_weights.safetensors"
UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
TEXT_ENCODER_FILE = "text_encoder/model.safetensors"
FULL_FILES = {"unet": UNET_FILE, "text_encoder": TEXT_ENCODER_FILE}
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "unet": {
        "conv_in.weight": (8, 4, 3, 3),
        "conv_in.bias": (8,),
        "mid.attn.to_q.weight": (8, 8),
        "mid.attn.to_v.weight": (8, 6),
    },
    "text_encoder": {"embeddings.weight": (20, 6), "layers.0.q_proj.weight": (6, 6)},
}
PARAMETERS = {"steps": 400, "learning_rate": 2e-6}

Weights = dict[str, NDArray[np.float16]]


def write_base(models_folder: Path) -> BaseCatalogue:
    """Puts the base's weights into ``models_folder`` and gives the catalogue that has only this base."""
    folder = models_folder / "small"
    for part, path in FULL_FILES.items():
        (folder / part).mkdir(parents=True, exist_ok=True)
        save_file(part_weights(part, seed=0), folder / path, {"format": "pt"})
    (folder / "model_index.json").write_text("{}")
    return BaseCatalogue(
        models_folder,
        entries=[CatalogueEntry(BASE_NAME, (BASE_ALIAS,), "small", 64, 4, 32, 128, on_hub=False)],
    )


def part_weights(part: str, *, seed: int) -> Weights:
    """Weights of one network."""
    random = np.random.default_rng(seed)
    return {name: random.standard_normal(shape).astype(np.float16) for name, shape in SHAPES[part].items()}


def lora_weights(*, seed: int, rank: int = 2) -> Weights:
    """Factors for the U-Net's attention."""
    random = np.random.default_rng(seed)
    weights: Weights = {}
    for module in ("mid.attn.to_q", "mid.attn.to_v"):
        rows, columns = SHAPES["unet"][f"{module}.weight"]
        weights[f"unet.{module}.lora.down.weight"] = random.standard_normal((rank, columns)).astype(np.float16)
        weights[f"unet.{module}.lora.up.weight"] = random.standard_normal((rows, rank)).astype(np.float16)
    return weights


def lora_metadata(**changes: object) -> dict[str, str]:
    """What diffusers finds beside the factors."""
    settings: dict[str, object] = {"unet.r": 2, "unet.lora_alpha": 4, "unet.target_modules": ["to_q", "to_v"]}
    return {"lora_adapter_metadata": json.dumps({**settings, **changes})}


def write_full(folder: Path, *, seed: int, parts: tuple[str, ...] = ("unet",)) -> Path:
    """A full fine-tune as a training publishes it."""
    for part in parts:
        (folder / part).mkdir(parents=True)
        save_file(part_weights(part, seed=seed), folder / FULL_FILES[part], {"format": "pt"})
        (folder / part / "config.json").write_text('{"in_channels": 4}')
    return folder


def write_lora(
    folder: Path, *, seed: int, weights: Weights | None = None, metadata: Mapping[str, str] | None = None
) -> Path:
    """A LoRA as a training publishes it."""
    folder.mkdir(parents=True, exist_ok=True)
    stated = lora_metadata() if metadata is None else dict(metadata)
    save_file(weights or lora_weights(seed=seed), folder / LORA_FILE, stated)
    return folder


def publish(store: ModelStore, bucket_id: str, folder: Path, kind: Literal["full", "lora"]) -> Manifest:
    """Puts a model into the bucket as a training does."""
    description = ModelDescription(
        base_name=BASE_NAME,
        base_revision=None,
        kind=kind,
        instance_prompt="a photo of sks dog",
        parameters=PARAMETERS,
    )
    return store.publish(bucket_id, folder, description)
