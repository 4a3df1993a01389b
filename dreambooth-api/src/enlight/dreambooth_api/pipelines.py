"""A base model as what training and sampling need: load, tokens, embeddings, latents, prediction.

``BasePipeline`` states the interface; ``StableDiffusion`` (1.x and 2.x) is its first implementation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

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


class BasePipeline(Protocol):
    """What a family of base models offers to training and sampling. All tensors live on ``device``."""

    device: torch.device
    weights_dtype: torch.dtype
    scheduler_config: Mapping[str, Any]
    """Configuration of the noise schedule, as diffusers' schedulers read it."""
    prediction_type: str
    """What the network predicts: ``epsilon`` (the noise) or ``v_prediction``."""
    latent_scale: int
    """Pixels of a picture's side per cell of the latent grid."""
    latent_channels: int
    latent_factor: float
    """The network works on latents times this factor."""
    token_count: int
    """L: length of a tokenized prompt, padding included."""

    def tokenize(self, prompts: Sequence[str]) -> torch.Tensor:
        """Token ids (B, L) int64; long prompts are cut, short ones padded."""
        ...

    def encode_tokens(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Embeddings (B, L, D) of token ids (B, L). Keeps the graph when gradients are on."""
        ...

    def encode_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
        """Embeddings (B, L, D) of texts, without a graph."""
        ...

    def encode_photos(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of the *unscaled* latents, each (B, C, h, w).

        ``pixels``: (B, 3, H, W) in [-1, 1].
        """
        ...

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """The network's output (B, C, h, w).

        ``latents``: scaled and noisy, (B, C, h, w); ``timesteps``: (B,) or (); ``embeddings``: (B, L, D).
        """
        ...

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures (B, H, W, 3) uint8 of scaled latents (B, C, h, w)."""
        ...


class StableDiffusion:
    """Stable Diffusion 1.x or 2.x from a folder in diffusers' layout; without safety checker.

    Attributes beyond ``BasePipeline``: ``tokenizer``, ``text_encoder``, ``vae``, ``unet``, all frozen and in
    evaluation mode. Who trains one of them turns its gradients on.
    """

    def __init__(
        self,
        *,
        tokenizer: CLIPTokenizer,
        text_encoder: CLIPTextModel,
        vae: AutoencoderKL,
        unet: UNet2DConditionModel,
        scheduler_config: Mapping[str, Any],
    ) -> None:
        self.tokenizer = tokenizer
        self.text_encoder = text_encoder
        self.vae = vae
        self.unet = unet
        self.scheduler_config: Mapping[str, Any] = dict(scheduler_config)
        self.prediction_type = str(self.scheduler_config.get("prediction_type", "epsilon"))
        self.device = unet.device
        self.weights_dtype = unet.dtype
        self.latent_scale = 2 ** (len(vae.config["block_out_channels"]) - 1)
        self.latent_channels = int(vae.config["latent_channels"])
        self.latent_factor = float(vae.config["scaling_factor"])
        self.token_count = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)

    @classmethod
    def load(cls, folder: Path, *, device: torch.device, weights_dtype: torch.dtype) -> StableDiffusion:
        """Load a base from ``folder``: local files and safetensors only, code of the folder is never run.

        Weights stored as fp16 are turned into ``weights_dtype``.

        Raises:
            WeightsUnavailable: the folder or one of its files is not there, or is no Stable Diffusion 1/2.
            CorruptModel: a file is there but cannot be read, or does not fit its configuration.
        """
        silence_libraries()
        index = read_json(folder, "model_index.json")
        if index.get("_class_name") != "StableDiffusionPipeline":
            raise WeightsUnavailable(
                f"{folder} holds a {index.get('_class_name')}, not a StableDiffusionPipeline; "
                "only Stable Diffusion 1.x and 2.x bases can be used"
            )
        scheduler_config = read_json(folder, "scheduler/scheduler_config.json")
        tokenizer_files = tokenizer_folder(folder)
        try:
            tokenizer = CLIPTokenizer.from_pretrained(str(tokenizer_files), local_files_only=True)
        except Exception as error:  # the libraries raise many kinds for a broken file
            raise corrupt(tokenizer_files, error) from error
        text_encoder = load_network(
            CLIPTextModel, folder / "text_encoder", weights_dtype=weights_dtype, stem=TRANSFORMERS_STEM
        )
        vae = load_network(AutoencoderKL, folder / "vae", weights_dtype=weights_dtype, stem=DIFFUSERS_STEM)
        unet = load_network(UNet2DConditionModel, folder / "unet", weights_dtype=weights_dtype, stem=DIFFUSERS_STEM)
        if unet.config["in_channels"] != vae.config["latent_channels"]:
            raise WeightsUnavailable(
                f"the U-Net of {folder} takes {unet.config['in_channels']} channels and its VAE gives "
                f"{vae.config['latent_channels']}: inpainting and other special models are not bases"
            )
        networks: tuple[torch.nn.Module, ...] = (text_encoder, vae, unet)
        for network in networks:
            network.to(device)
        return cls(
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            vae=vae,
            unet=unet,
            scheduler_config=scheduler_config,
        )

    def tokenize(self, prompts: Sequence[str]) -> torch.Tensor:
        """Token ids (B, L) int64 on ``device``; long prompts are cut, short ones padded."""
        tokens = self.tokenizer(
            list(prompts),
            padding="max_length",
            max_length=self.token_count,
            truncation=True,
            return_tensors="pt",
        )
        ids: torch.Tensor = tokens["input_ids"]
        return ids.to(self.device)

    def encode_tokens(self, token_ids: torch.Tensor) -> torch.Tensor:
        """Last hidden state (B, L, D) of token ids (B, L), in ``weights_dtype`` or autocast's."""
        return cast(torch.Tensor, self.text_encoder(token_ids)[0])

    @torch.no_grad()
    def encode_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
        """Embeddings (B, L, D) of texts, without a graph."""
        return self.encode_tokens(self.tokenize(prompts))

    @torch.no_grad()
    def encode_photos(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation (B, C, h, w) of the unscaled latents of pixels in [-1, 1]."""
        if pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ValueError(f"pixels have to be (B, 3, H, W), not {tuple(pixels.shape)}")
        posterior = self.vae.encode(pixels.to(self.device, self.vae.dtype)).latent_dist
        return posterior.mean, posterior.std

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """U-Net output (B, C, h, w) for scaled noisy latents, timesteps and embeddings (B, L, D)."""
        return cast(torch.Tensor, self.unet(latents, timesteps, embeddings, return_dict=False)[0])

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures (B, H, W, 3) uint8 of scaled latents (B, C, h, w), rounded as diffusers does for PIL."""
        unscaled = latents.to(self.vae.dtype) / self.latent_factor
        pictures = self.vae.decode(unscaled, return_dict=False)[0]
        pictures = (pictures * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).float()
        rgb: torch.Tensor = (pictures * 255).round().to(torch.uint8).contiguous()
        return rgb
