"""Trained models for tests: a small base's weights changed at random, laid out as trainings publish them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from enlight.dreambooth_api.model_store import Manifest, ModelDescription, ModelStore
from enlight.dreambooth_api.requests import Base
from enlight.servicekit.object_store import open_store

UNET_FILE = "unet/diffusion_pytorch_model.safetensors"
TEXT_ENCODER_FILE = "text_encoder/model.safetensors"
LORA_FILE = "pytorch_lora_weights.safetensors"
LORA_TARGETS = (".to_q", ".to_k", ".to_v", ".to_out.0")


def write_full(base: Base, folder: Path, *, seed: int, with_text_encoder: bool = False) -> Path:
    """Every weight of the U-Net (and the text encoder) changed a little, in fp16."""
    for path in (UNET_FILE, TEXT_ENCODER_FILE) if with_text_encoder else (UNET_FILE,):
        generator = torch.Generator().manual_seed(seed)
        tensors = {
            name: (tensor + 0.1 * tensor.std(correction=0) * torch.randn(tensor.shape, generator=generator)).half()
            for name, tensor in load_file(base.folder / path).items()
        }
        (folder / path).parent.mkdir(parents=True)
        save_file(tensors, folder / path, {"format": "pt"})
    return folder


def write_lora(
    base: Base,
    folder: Path,
    *,
    seed: int,
    rank: int = 4,
    alpha: int | None = 8,
    with_text_encoder: bool = False,
    metadata: Mapping[str, object] | None = None,
) -> Path:
    """Random factors for the attention projections in diffusers' layout; no metadata if ``alpha`` is None."""
    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}

    def add(module: str, weight: torch.Tensor, down_name: str, up_name: str) -> None:
        down = torch.randn((rank, weight.shape[1]), generator=generator) / rank
        up = torch.randn((weight.shape[0], rank), generator=generator) * 0.05
        tensors[f"{module}.{down_name}.weight"] = down.half()
        tensors[f"{module}.{up_name}.weight"] = up.half()

    for name, weight in load_file(base.folder / UNET_FILE).items():
        module = name.removesuffix(".weight")
        if module != name and module.endswith(LORA_TARGETS):
            add(f"unet.{module}", weight, "lora.down", "lora.up")
    if with_text_encoder:
        for name, weight in load_file(base.folder / TEXT_ENCODER_FILE).items():
            module = name.removesuffix(".weight")
            if module != name and module.endswith(("q_proj", "v_proj")):
                add(f"text_encoder.{module}", weight, "lora_linear_layer.down", "lora_linear_layer.up")
    settings: dict[str, object] = {}
    if alpha is not None:
        for part, targets in (("unet", list(LORA_TARGETS)), ("text_encoder", ["q_proj", "v_proj"])):
            if any(name.startswith(part) for name in tensors):
                settings |= {
                    f"{part}.r": rank,
                    f"{part}.lora_alpha": alpha,
                    f"{part}.target_modules": [target.lstrip(".") for target in targets],
                }
    settings |= metadata or {}
    header = {"format": "pt"}
    if settings:
        header["lora_adapter_metadata"] = json.dumps(settings)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / LORA_FILE, header)
    return folder


def manifest_of(base: Base, model_id: str, kind: str, *, base_revision: str | None = None) -> Manifest:
    """A manifest as it is found beside a model's files; the files themselves are not listed."""
    return Manifest(
        format=1,
        model_id=model_id,
        version="1",
        base_name=base.name,
        base_revision=base_revision,
        kind="lora" if kind == "lora" else "full",
        instance_prompt="a photo of sks dog",
        parameters={},
        files={},
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def publish(bucket_url: str, base: Base, model_id: str, folder: Path, kind: str) -> Manifest:
    """Puts a model into the bucket as a training does."""
    description = ModelDescription(
        base_name=base.name,
        base_revision=base.revision,
        kind="lora" if kind == "lora" else "full",
        instance_prompt="a photo of sks dog",
        parameters={},
    )
    store = ModelStore(open_store(bucket_url, timeout_s=5.0, retry_total_s=5.0))
    return store.publish(model_id, folder, description)
