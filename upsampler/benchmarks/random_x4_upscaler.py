"""A full-size Stable Diffusion x4 upscaler with random weights, in diffusers' layout: as fast and as large as the real
one. Speed and memory do not depend on the values.

The sizes are those of the published ``x4-upscaling.yaml`` (Stability-AI/stablediffusion), as diffusers names them.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel


@dataclass(frozen=True)
class Sizes:
    """What tells the real model from one that fits a test."""

    unet_channels: tuple[int, int, int, int] = (256, 512, 512, 1024)
    vae_channels: tuple[int, int, int] = (128, 256, 512)
    heads: int = 8
    norm_groups: int = 32
    layers_per_block: int = 2
    text_width: int = 1024
    text_layers: int = 23
    text_heads: int = 16
    vocabulary: int = 49408


FULL = Sizes()
TINY = Sizes((8, 16, 16, 32), (8, 16, 16), 2, 4, 1, 16, 2, 2, 600)


def write_random_upscaler(folder: Path, sizes: Sizes = FULL, *, seed: int = 0) -> int:
    """Writes the networks in fp16 (fp32 for `TINY`), tokenizer and schedulers; returns the number of parameters."""
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with device:
        networks = _networks(sizes)
    for name, network in networks.items():
        (network.half() if sizes == FULL else network).save_pretrained(folder / name)
    _write_tokenizer(folder / "tokenizer", sizes.vocabulary)
    schedule = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
    denoising = {"clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, "prediction_type": "v_prediction"}
    _write_json(
        folder / "scheduler" / "scheduler_config.json", {"_class_name": "DDIMScheduler", **schedule, **denoising}
    )
    _write_json(
        folder / "low_res_scheduler" / "scheduler_config.json",
        {"_class_name": "DDPMScheduler", **schedule, "clip_sample": True, "variance_type": "fixed_small"},
    )
    _write_json(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionUpscalePipeline",
            "max_noise_level": 350,
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "low_res_scheduler": ["diffusers", "DDPMScheduler"],
        },
    )
    return sum(parameter.numel() for network in networks.values() for parameter in network.parameters())


def _networks(sizes: Sizes) -> dict[str, Any]:
    # Any: diffusers' classes have no types.
    unet: Any = UNet2DConditionModel(  # type: ignore[no-untyped-call]
        sample_size=128,
        in_channels=7,
        out_channels=4,
        block_out_channels=sizes.unet_channels,
        layers_per_block=sizes.layers_per_block,
        down_block_types=("DownBlock2D", *("CrossAttnDownBlock2D",) * 3),
        up_block_types=(*("CrossAttnUpBlock2D",) * 3, "UpBlock2D"),
        only_cross_attention=(True, True, True, False),
        attention_head_dim=sizes.heads,
        cross_attention_dim=sizes.text_width,
        norm_num_groups=sizes.norm_groups,
        use_linear_projection=True,
        num_class_embeds=1000,
    )
    vae: Any = AutoencoderKL(  # type: ignore[no-untyped-call]
        block_out_channels=sizes.vae_channels,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=sizes.layers_per_block,
        norm_num_groups=sizes.norm_groups,
        latent_channels=4,
        sample_size=256,
        scaling_factor=0.08333,
    )
    text_encoder: Any = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=sizes.vocabulary,
            hidden_size=sizes.text_width,
            intermediate_size=4 * sizes.text_width,
            num_hidden_layers=sizes.text_layers,
            num_attention_heads=sizes.text_heads,
            max_position_embeddings=77,
            hidden_act="gelu",
            projection_dim=512,
            bos_token_id=sizes.vocabulary - 2,
            eos_token_id=sizes.vocabulary - 1,
        )
    )
    return {"unet": unet, "vae": vae, "text_encoder": text_encoder}


def _write_tokenizer(folder: Path, vocabulary: int) -> None:
    """A byte-level CLIP vocabulary without merges: speed does not depend on which tokens a prompt has."""
    letters = sorted(ByteLevel.alphabet())
    tokens = letters + [f"{letter}</w>" for letter in letters]
    tokens += [f"<unused{index}>" for index in range(vocabulary - 2 - len(tokens))]
    tokens += ["<|startoftext|>", "<|endoftext|>"]
    _write_json(folder / "vocab.json", {token: index for index, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = dict.fromkeys(("eos_token", "pad_token", "unk_token"), "<|endoftext|>")
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": "<|startoftext|>", **special},
    )


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
