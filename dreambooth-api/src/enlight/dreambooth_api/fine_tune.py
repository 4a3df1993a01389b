"""A trained model in memory: the tensors that it replaces in its base, or the low-rank factors that it adds.

Weights are named ``unet.<name>`` and ``text_encoder.<name>`` as in the modules' state dicts, but without the
``text_model.`` that published text encoders have in their names and transformers 5 has not.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from enlight.dreambooth_api.host_memory import TensorLayout, allocate
from enlight.dreambooth_api.manifest import Manifest
from enlight.dreambooth_api.published_files import (
    FULL_FILES,
    LORA_FILE,
    LORA_METADATA_KEY,
    LORA_NAME,
    UNSUPPORTED_LORA_SETTINGS,
)
from enlight.servicekit.errors import CorruptModel


@dataclass(frozen=True)
class LowRank:
    """An addition ``scale * up @ down`` to one weight."""

    up: torch.Tensor
    """B: (out, r), or (out, r, 1, 1) for a convolution."""
    down: torch.Tensor
    """A: (r, in), or (r, in, kh, kw) for a convolution."""
    scale: float
    """alpha / r."""


@dataclass(frozen=True)
class FineTune:
    """What one version of a trained model changes in its base."""

    version: str
    """``model_id@version``."""
    base_name: str
    base_revision: str | None
    replaced: Mapping[str, torch.Tensor]
    """Whole weights, by name."""
    low_rank: Mapping[str, LowRank]
    """Additions, by the name of the weight that they are added to."""

    @property
    def names(self) -> set[str]:
        """The weights that it changes."""
        return set(self.replaced) | set(self.low_rank)

    @property
    def changes_text_encoder(self) -> bool:
        """Whether prompts have other embeddings than under the plain base."""
        return any(name.startswith("text_encoder.") for name in self.names)

    @property
    def size_bytes(self) -> int:
        """Memory that its tensors take."""
        return sum(tensor.nbytes for _, tensor in self.tensors())

    def tensors(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every tensor with a name of its own."""
        yield from self.replaced.items()
        for name, factors in self.low_rank.items():
            yield f"{name}.down", factors.down
            yield f"{name}.up", factors.up

    def with_tensors(self, tensors: Mapping[str, torch.Tensor]) -> FineTune:
        """The same with other storage, by the names of ``tensors()``."""
        return replace(
            self,
            replaced={name: tensors[name] for name in self.replaced},
            low_rank={
                name: replace(factors, up=tensors[f"{name}.up"], down=tensors[f"{name}.down"])
                for name, factors in self.low_rank.items()
            },
        )

    def on_device(self, device: torch.device) -> FineTune:
        """A copy on ``device``; copying may still run when this returns, in order with later work there."""
        return self.with_tensors({name: tensor.to(device, non_blocking=True) for name, tensor in self.tensors()})


def read_fine_tune(folder: Path, manifest: Manifest, *, device: torch.device) -> FineTune:
    """Reads a version's files into host memory, laid out for quick copies to ``device``.

    For a GPU that is pinned memory in half precision and channels_last order; a CPU keeps what is stored.

    Raises:
        CorruptModel: a file is missing, is no safetensors file, or holds what no trained model has.
    """
    paths = [LORA_FILE] if manifest.kind == "lora" else _full_files(folder)
    version = f"{manifest.model_id}@{manifest.version}"
    try:
        stored: dict[str, torch.Tensor] = {}
        metadata: dict[str, str] = {}
        for path in paths:
            with safe_open(str(folder / path), framework="pt") as file:
                metadata |= file.metadata() or {}
                part = "" if manifest.kind == "lora" else f"{Path(path).parts[0]}."
                for name in file.keys():  # noqa: SIM118 - not a dict
                    if not name.endswith("embeddings.position_ids"):  # in files of old transformers, computed now
                        stored[_canonical(part + name)] = file.get_tensor(name)
        fine_tune = FineTune(
            version=version,
            base_name=manifest.base_name,
            base_revision=manifest.base_revision,
            replaced={} if manifest.kind == "lora" else stored,
            low_rank=_low_rank(stored, metadata) if manifest.kind == "lora" else {},
        )
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise CorruptModel(f"The model {version} cannot be used: {error}") from error
    return _in_host_memory(fine_tune, device)


def _full_files(folder: Path) -> list[str]:
    present = [path for path in FULL_FILES.values() if (folder / path).is_file()]
    return present or [FULL_FILES["unet"]]


def _canonical(name: str) -> str:
    return re.sub(r"^text_encoder\.text_model\.", "text_encoder.", name)


def _low_rank(stored: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> dict[str, LowRank]:
    """Pairs the factors of a file in diffusers' layout.

    Source: diffusers 0.42, ``_create_lora_config``: without metadata alpha is the rank.
    """
    settings: Any = json.loads(metadata.get(LORA_METADATA_KEY, "{}"))
    if not isinstance(settings, dict):
        raise ValueError(f"{LORA_METADATA_KEY} is no JSON object")
    factors: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in stored.items():
        match = LORA_NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"unexpected tensor {name}")
        factors.setdefault(match["module"], {})["down" if match["down"] else "up"] = tensor
    paired: dict[str, LowRank] = {}
    for module, pair in factors.items():
        if set(pair) != {"up", "down"}:
            raise ValueError(f"one of the two factors of {module} is missing")
        scale = _lora_scale(settings, module.split(".", maxsplit=1)[0], rank=len(pair["down"]))
        paired[f"{module}.weight"] = LowRank(up=pair["up"], down=pair["down"], scale=scale)
    return paired


def _lora_scale(settings: Mapping[str, Any], part: str, *, rank: int) -> float:
    for name in UNSUPPORTED_LORA_SETTINGS:
        if settings.get(f"{part}.{name}"):
            raise ValueError(f"LoRA files with {name} are not supported")
    if f"{part}.r" not in settings:
        return 1.0
    if settings[f"{part}.r"] != rank:
        raise ValueError(f"its factors have rank {rank}, its metadata says {settings[f'{part}.r']}")
    alpha = float(settings.get(f"{part}.lora_alpha", 8))  # peft's default
    return alpha / (math.sqrt(rank) if settings.get(f"{part}.use_rslora") else rank)


def _in_host_memory(fine_tune: FineTune, device: torch.device) -> FineTune:
    """Copies out of the mapped files, so that neither a deleted nor a slow file matters from here on."""
    on_gpu = device.type == "cuda"
    layouts = {
        name: TensorLayout.dense(
            tensor.shape,
            torch.float16 if on_gpu and tensor.is_floating_point() else tensor.dtype,
            channels_last=on_gpu,
        )
        for name, tensor in fine_tune.tensors()
    }
    copies = allocate(layouts, pinned=on_gpu)
    for name, tensor in fine_tune.tensors():
        copies[name].copy_(tensor)
    return fine_tune.with_tensors(copies)
