"""Low-rank adapters (LoRA) in a base's attention projections: added by peft, stored in diffusers' layout.

Source: Hu et al. 2021: W x + (alpha / r) B A x, with A drawn from N(0, 1 / r^2) and B zero at the start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers.utils.state_dict_utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from safetensors.torch import save_file

from enlight.dreambooth_api.pipelines import StableDiffusion
from enlight.dreambooth_api.published_files import LORA_METADATA_KEY

_TARGETS = {
    "unet": ["to_k", "to_q", "to_v", "to_out.0"],
    "text_encoder": ["k_proj", "q_proj", "v_proj", "out_proj"],
}
_ADAPTER = "default"  # peft's name of the only adapter


def add_lora(
    pipeline: StableDiffusion, *, rank: int, alpha: int, with_text_encoder: bool, seed: int
) -> dict[str, torch.nn.Parameter]:
    """Put adapters into the networks and give their weights, fp32, by names such as ``unet.<module>.lora_A``.

    The first weights are drawn on the CPU, so that they depend on ``seed`` alone and not on the device.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    parameters: dict[str, torch.nn.Parameter] = {}
    for part in ("unet", "text_encoder") if with_text_encoder else ("unet",):
        network: torch.nn.Module = getattr(pipeline, part)
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=_TARGETS[part])
        network.add_adapter(config, adapter_name=_ADAPTER)  # type: ignore[operator]
        for name, parameter in network.named_parameters():
            if parameter.requires_grad:
                first = torch.zeros(parameter.shape)
                if ".lora_A." in name:
                    first.normal_(std=1 / rank, generator=generator)
                parameter.data = first.to(parameter.device)
                parameters[f"{part}.{name}"] = parameter
    return parameters


def save_lora(parameters: Mapping[str, torch.Tensor], path: Path, *, rank: int, alpha: int) -> None:
    """Write the adapters as one file that ``StableDiffusionPipeline.load_lora_weights`` reads.

    Equal weights make equal bytes, which diffusers' own writer does not promise: it stores sets.
    """
    tensors: dict[str, torch.Tensor] = {}
    metadata: dict[str, object] = {}
    for part, targets in _TARGETS.items():
        plain = {
            name.removeprefix(f"{part}.").replace(f".{_ADAPTER}.", "."): tensor
            for name, tensor in parameters.items()
            if name.startswith(f"{part}.")
        }
        if not plain:
            continue
        # Published LoRAs name the text encoder's layers so; transformers 5 dropped the prefix in memory.
        inner = "text_model." if part == "text_encoder" else ""
        tensors |= {f"{part}.{inner}{name}": tensor for name, tensor in _to_diffusers(plain).items()}
        metadata |= {f"{part}.r": rank, f"{part}.lora_alpha": alpha, f"{part}.target_modules": targets}
    # One entry only, without the usual "format": safetensors writes several in a random order.
    save_file(tensors, path, {LORA_METADATA_KEY: json.dumps(metadata, sort_keys=True)})


def _to_diffusers(state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return dict(convert_state_dict_to_diffusers(state_dict))  # type: ignore[no-untyped-call]
