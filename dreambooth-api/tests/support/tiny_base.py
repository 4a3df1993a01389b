"""A Stable Diffusion base that fits in 1 MB: real architecture, random weights, 64x64 px pictures.

The VAE reduces by 4 (not 8) and a prompt has 32 tokens (not 77), so that code which assumes the published
models' numbers fails.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel

from enlight.dreambooth_api.requests import Base

SIZE_PX = 64
TOKENS = 32
TEXT_WIDTH = 32
MERGES = (
    ("p", "h"), ("ph", "o"), ("pho", "t"), ("phot", "o</w>"), ("o", "f</w>"), ("s", "k"), ("sk", "s</w>"),
    ("d", "o"), ("do", "g</w>"), ("c", "a"), ("ca", "t</w>"), ("t", "o"), ("to", "y</w>"),
)  # fmt: skip


def build_tiny_base(folder: Path, *, prediction_type: str = "epsilon", seed: int = 0) -> Base:
    """Write a whole pipeline folder in diffusers' layout (fp32 safetensors) and describe it.

    The same seed gives the same weights. The global random state of torch stays as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vocabulary_size = _write_tokenizer(folder / "tokenizer")
        _write_text_encoder(folder / "text_encoder", vocabulary_size)
        _write_vae(folder / "vae")
        _write_unet(folder / "unet")
    _write_scheduler(folder / "scheduler", prediction_type)
    _write_json(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionPipeline",
            "_diffusers_version": "0.42.1",
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )
    return Base(
        name="tests/tiny",
        revision=None,
        folder=folder,
        native_size_px=SIZE_PX,
        default_steps=4,
        min_size_px=32,
        max_size_px=128,
    )


def _write_tokenizer(folder: Path) -> int:
    """Byte-level BPE: 256 bytes, 256 bytes at a word's end, a few merges, two special tokens."""
    alphabet = sorted(ByteLevel.alphabet())
    tokens = alphabet + [f"{symbol}</w>" for symbol in alphabet]
    tokens += ["".join(pair) for pair in MERGES] + ["<|startoftext|>", "<|endoftext|>"]
    _write_json(folder / "vocab.json", {token: index for index, token in enumerate(tokens)})
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in MERGES)])
    (folder / "merges.txt").write_text(f"{merges}\n", encoding="utf-8")
    special = {
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
    }
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS, "do_lower_case": True, **special},
    )
    _write_json(folder / "special_tokens_map.json", special)
    return len(tokens)


def _write_text_encoder(folder: Path, vocabulary_size: int) -> None:
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary_size,
            hidden_size=TEXT_WIDTH,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKENS,
            bos_token_id=vocabulary_size - 2,
            eos_token_id=vocabulary_size - 1,
            pad_token_id=vocabulary_size - 1,
            initializer_range=0.2,  # the default 0.02 makes all prompts nearly equal at this width
        )
    )
    # The published models' names have this prefix; transformers 5 dropped it in memory.
    weights = {f"text_model.{name}": tensor for name, tensor in encoder.state_dict().items()}
    encoder.config.architectures = ["CLIPTextModel"]
    encoder.config.save_pretrained(folder)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _write_vae(folder: Path) -> None:
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        sample_size=SIZE_PX,
        scaling_factor=0.5,
    )
    with torch.no_grad():
        # Latents of visible spread and posterior noise, pictures of full contrast.
        vae.quant_conv.weight.mul_(4.0)
        vae.quant_conv.weight[4:].mul_(0.1)
        vae.quant_conv.bias[4:].fill_(-2.0)
        vae.decoder.conv_out.weight.mul_(2.0)
    _save_model(vae, folder)


def _write_unet(folder: Path) -> None:
    unet = UNet2DConditionModel(
        sample_size=SIZE_PX // 4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
        use_linear_projection=True,
    )
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "attn2.to_v" in name or "attn2.to_out.0.weight" in name:
                parameter.mul_(3.0)  # the prompt has to matter
            if "time_emb_proj.weight" in name:
                parameter.mul_(4.0)  # and so has the time step
        unet.conv_out.weight.mul_(2.0)
    _save_model(unet, folder)


def _write_scheduler(folder: Path, prediction_type: str) -> None:
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction_type,
    )
    scheduler.save_pretrained(folder)


def _save_model(model: AutoencoderKL | UNet2DConditionModel, folder: Path) -> None:
    """Config by diffusers, weights by safetensors itself, which is faster than ``save_pretrained``."""
    model.save_config(folder)
    save_file(
        {name: tensor.contiguous() for name, tensor in model.state_dict().items()},
        folder / "diffusion_pytorch_model.safetensors",
        metadata={"format": "pt"},
    )


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
