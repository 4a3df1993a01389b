"""The files of a trained model as published: only what was trained, fp16 safetensors, diffusers' layout."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file

from enlight.dreambooth_api.lora import save_lora
from enlight.dreambooth_api.published_files import FULL_FILES, LORA_FILE
from enlight.dreambooth_api.requests import TrainingRequest
from enlight.servicekit.errors import JobFailed

STORED_DTYPE = torch.float16


# Text encoders on the hub have this prefix in their files; transformers 5, which reads both, dropped it.
_FILE_PREFIXES = {"unet": "", "text_encoder": "text_model."}


def save_model_files(
    parameters: Mapping[str, torch.Tensor], request: TrainingRequest, base_folder: Path, folder: Path
) -> None:
    """Write the trained ``parameters`` (named ``unet.<name>`` and ``text_encoder.<name>``) into ``folder``.

    A full fine-tune is ``unet/`` (and ``text_encoder/``) with the base's configuration; a LoRA is one file.

    Raises:
        JobFailed: a weight is not finite in fp16; such a model would make black pictures.
    """
    stored = {name: _to_stored(name, tensor) for name, tensor in parameters.items()}
    if request.kind == "lora":
        save_lora(stored, folder / LORA_FILE, rank=request.lora_rank, alpha=request.lora_alpha)
        return
    for part in FULL_FILES:
        _save_part(part, stored, base_folder, folder)


def _save_part(part: str, stored: Mapping[str, torch.Tensor], base_folder: Path, folder: Path) -> None:
    tensors = {
        _FILE_PREFIXES[part] + name.removeprefix(f"{part}."): tensor
        for name, tensor in stored.items()
        if name.startswith(f"{part}.")
    }
    if tensors:
        (folder / part).mkdir()
        save_file(tensors, folder / FULL_FILES[part], {"format": "pt"})
        shutil.copyfile(base_folder / part / "config.json", folder / part / "config.json")


def _to_stored(name: str, tensor: torch.Tensor) -> torch.Tensor:
    stored = tensor.detach().to(STORED_DTYPE).contiguous().cpu()
    if not torch.isfinite(stored).all():
        raise JobFailed(
            f"The training diverged: {name} is not finite in half precision. "
            "Nothing was published; a lower learning rate helps."
        )
    return stored
