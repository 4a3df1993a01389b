"""The networks of a Stable Diffusion x4 upscaler, from a folder in diffusers' layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from enlight.servicekit.errors import WeightsUnavailable
from enlight.torchkit.model_folders import (
    DIFFUSERS_STEM,
    TRANSFORMERS_STEM,
    corrupt,
    load_network,
    read_json,
    tokenizer_folder,
)
from enlight.torchkit.quiet_libraries import silence_libraries
from enlight.upsampler.pure.schedulers import UnknownSchedulerError, make_scheduler
from enlight.upsampler.pure.sizes import SCALE

PIPELINE = "StableDiffusionUpscalePipeline"
PUBLISHED_SCALING_FACTOR = 0.08333
"""diffusers' pipeline puts it in the place of any other factor, because old configurations of the model lack it."""
DEFAULT_MAX_NOISE_LEVEL = 350


class UpscalerModel:
    """Tokenizer, text encoder, U-Net and VAE, frozen, on one device; what ``pure.upscaling`` runs."""

    def __init__(
        self,
        *,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler_config: Mapping[str, Any],
        low_res_scheduler_config: Mapping[str, Any],
        max_noise_level: int,
    ) -> None:
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self.vae = vae
        self.unet = unet
        self.scheduler_config: Mapping[str, Any] = dict(scheduler_config)
        self.low_res_scheduler_config: Mapping[str, Any] = dict(low_res_scheduler_config)
        self.max_noise_level = max_noise_level
        self.device = unet.device
        self.latent_channels = int(vae.config["latent_channels"])
        self.size_multiple = 2 ** (len(unet.config["block_out_channels"]) - 1)

    @classmethod
    def load(cls, folder: Path, *, device: torch.device, weights_dtype: torch.dtype) -> UpscalerModel:
        """Load from ``folder``: local files and safetensors only, code of the folder is never run.

        The VAE stays in float32 where its configuration asks for that: in fp16 it overflows.

        Raises:
            WeightsUnavailable: the folder or one of its files is not there, or is no x4 upscaler.
            CorruptModel: a file is there but cannot be read, or does not fit its configuration.
        """
        silence_libraries()
        index = read_json(folder, "model_index.json")
        if index.get("_class_name") != PIPELINE:
            raise WeightsUnavailable(f"{folder} holds a {index.get('_class_name')}, not a {PIPELINE}.")
        scheduler_config = _scheduler_config(folder, "scheduler/scheduler_config.json")
        low_res_scheduler_config = _scheduler_config(folder, "low_res_scheduler/scheduler_config.json")
        try:
            tokenizer = CLIPTokenizer.from_pretrained(str(tokenizer_folder(folder)), local_files_only=True)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise corrupt(folder / "tokenizer", error) from error
        needs_float32 = bool(read_json(folder, "vae/config.json").get("force_upcast", True))
        vae_dtype = torch.float32 if needs_float32 and weights_dtype == torch.float16 else weights_dtype
        text_encoder = load_network(
            CLIPTextModel, folder / "text_encoder", weights_dtype=weights_dtype, stem=TRANSFORMERS_STEM
        )
        vae = load_network(AutoencoderKL, folder / "vae", weights_dtype=vae_dtype, stem=DIFFUSERS_STEM)
        unet = load_network(UNet2DConditionModel, folder / "unet", weights_dtype=weights_dtype, stem=DIFFUSERS_STEM)
        _check_shapes(folder, unet, vae)
        memory_format = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        network: Any  # the libraries' own `to` have types that torch's does not fit
        for network in (text_encoder, vae, unet):
            network.to(device=device, memory_format=memory_format)
        return cls(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            unet=unet,
            scheduler_config=scheduler_config,
            low_res_scheduler_config=low_res_scheduler_config,
            max_noise_level=int(index.get("max_noise_level", DEFAULT_MAX_NOISE_LEVEL)),
        )

    @property
    def decoder(self) -> torch.nn.Module:
        """The VAE's decoder."""
        return cast(torch.nn.Module, self.vae.decoder)

    @torch.inference_mode()
    def encode_prompt(self, prompt: str) -> torch.Tensor:
        """Embeddings (1, L, D) of a text; a long one is cut, a short one padded."""
        tokens = self.tokenizer(
            [prompt],
            padding="max_length",
            max_length=min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings),
            truncation=True,
            return_tensors="pt",
        )
        return cast(torch.Tensor, self.text_encoder(tokens["input_ids"].to(self.device))[0])

    def predict(
        self, latents: torch.Tensor, timestep: torch.Tensor, embeddings: torch.Tensor, noise_levels: torch.Tensor
    ) -> torch.Tensor:
        """The U-Net's output (B, C, h, w) for latents with the small picture behind them (B, C + 3, h, w)."""
        return cast(
            torch.Tensor,
            self.unet(latents, timestep, embeddings, class_labels=noise_levels, return_dict=False)[0],
        )

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures (B, 3, 4 h, 4 w) in about [-1, 1], float32, of scaled latents (B, C, h, w)."""
        unscaled = latents.to(self.vae.dtype) / PUBLISHED_SCALING_FACTOR
        return cast(torch.Tensor, self.vae.decode(unscaled, return_dict=False)[0]).float()


def _scheduler_config(folder: Path, name: str) -> dict[str, Any]:
    """A configuration of which a scheduler can be made: a mistake in it is the folder's, not a request's."""
    config = read_json(folder, name)
    try:
        make_scheduler(config)
    except UnknownSchedulerError as error:
        raise corrupt(folder / name, error) from error
    return config


def _check_shapes(folder: Path, unet: UNet2DConditionModel, vae: AutoencoderKL) -> None:
    scale = 2 ** (len(vae.config["block_out_channels"]) - 1)
    wanted = vae.config["latent_channels"] + vae.config["out_channels"]
    if scale != SCALE or unet.config["in_channels"] != wanted:
        raise WeightsUnavailable(
            f"{folder} is no x{SCALE} upscaler: its VAE enlarges {scale} times, and its U-Net takes "
            f"{unet.config['in_channels']} channels instead of {wanted}."
        )
