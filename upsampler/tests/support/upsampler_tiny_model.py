"""An x4 upscaler that fits in 2 MB: the published architecture with few channels, random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel

TOKENS = 24
TEXT_WIDTH = 16


def build_tiny_upscaler(folder: Path, *, seed: int = 0, prediction_type: str = "v_prediction") -> Path:
    """Write a whole pipeline folder in diffusers' layout (fp32 safetensors); returns it.

    The same seed gives the same weights. The global random state of torch stays as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vocabulary_size = write_byte_tokenizer(folder / "tokenizer")
        _write_text_encoder(folder / "text_encoder", vocabulary_size)
        _write_vae(folder / "vae")
        _write_unet(folder / "unet")
    write_schedulers(folder, prediction_type)
    return folder


def write_byte_tokenizer(folder: Path) -> int:
    """Byte-level tokens without merges: 256 bytes, 256 bytes at a word's end, two special ones."""
    alphabet = sorted(ByteLevel.alphabet())
    tokens = [*alphabet, *(f"{symbol}</w>" for symbol in alphabet), "<|startoftext|>", "<|endoftext|>"]
    write_json(folder / "vocab.json", {token: index for index, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    special = dict.fromkeys(("eos_token", "pad_token", "unk_token"), "<|endoftext|>")
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS, "bos_token": "<|startoftext|>", **special},
    )
    return len(tokens)


def write_schedulers(folder: Path, prediction_type: str) -> None:
    """The published schedules, and the index that names the parts."""
    schedule = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
    write_json(
        folder / "scheduler" / "scheduler_config.json",
        {
            "_class_name": "DDIMScheduler",
            **schedule,
            "clip_sample": False,
            "set_alpha_to_one": False,
            "steps_offset": 1,
            "prediction_type": prediction_type,
        },
    )
    write_json(
        folder / "low_res_scheduler" / "scheduler_config.json",
        {"_class_name": "DDPMScheduler", **schedule, "clip_sample": True, "variance_type": "fixed_small"},
    )
    write_json(
        folder / "model_index.json",
        {
            "_class_name": "StableDiffusionUpscalePipeline",
            "_diffusers_version": "0.42.1",
            "low_res_scheduler": ["diffusers", "DDPMScheduler"],
            "max_noise_level": 350,
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
    )


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def _write_text_encoder(folder: Path, vocabulary_size: int) -> None:
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary_size,
            hidden_size=TEXT_WIDTH,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=TOKENS,
            bos_token_id=vocabulary_size - 2,
            eos_token_id=vocabulary_size - 1,
            pad_token_id=vocabulary_size - 1,
            initializer_range=0.3,  # the default 0.02 makes all prompts nearly equal at this width
        )
    )
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
        sample_size=32,
        scaling_factor=0.08333,
    )
    with torch.no_grad():
        vae.decoder.conv_out.weight.mul_(2.0)  # pictures of full contrast
    _save_network(vae, folder)


def _write_unet(folder: Path) -> None:
    unet = UNet2DConditionModel(
        sample_size=16,
        in_channels=7,
        out_channels=4,
        block_out_channels=(8, 16, 16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        only_cross_attention=(True, True, True, False),
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
        use_linear_projection=True,
        num_class_embeds=1000,
    )
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if "attn2.to_v" in name or "attn2.to_out.0.weight" in name:
                parameter.mul_(3.0)  # the prompt has to matter
            if "time_emb_proj.weight" in name:
                parameter.mul_(4.0)  # and so have the time step and the noise level
        unet.conv_out.weight.mul_(2.0)
    _save_network(unet, folder)


def _save_network(network: AutoencoderKL | UNet2DConditionModel, folder: Path) -> None:
    network.save_config(folder)
    save_file(
        {name: tensor.contiguous() for name, tensor in network.state_dict().items()},
        folder / "diffusion_pytorch_model.safetensors",
        metadata={"format": "pt"},
    )
