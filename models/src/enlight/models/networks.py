"""Builds the pocket base's networks and schedulers from the recipe, with random weights."""

from __future__ import annotations

from typing import Any, TypeAlias

from diffusers import AutoencoderKL, DDIMScheduler, DDPMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from enlight.models.settings import RecipeSettings

# diffusers wraps its classes in ways that hide their methods from type checkers
Autoencoder: TypeAlias = Any
"""An AutoencoderKL."""
Denoiser: TypeAlias = Any
"""A UNet2DConditionModel."""
TextEncoder: TypeAlias = Any
"""A CLIPTextModel."""
Scheduler: TypeAlias = Any
"""A DDPMScheduler or DDIMScheduler."""

_NORM_GROUPS = 16


def build_vae(settings: RecipeSettings) -> Autoencoder:
    """The autoencoder: each level after the first halves the side."""
    levels = len(settings.vae_channels)
    return AutoencoderKL(  # type: ignore[no-untyped-call]
        block_out_channels=settings.vae_channels,
        layers_per_block=settings.vae_layers_per_block,
        latent_channels=settings.latent_channels,
        norm_num_groups=_NORM_GROUPS,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        sample_size=settings.image_size_px,
        force_upcast=False,
    )


def latent_size(settings: RecipeSettings) -> int:
    """Side of the latents."""
    return settings.image_size_px // int(2 ** (len(settings.vae_channels) - 1))


def build_unet(settings: RecipeSettings) -> Denoiser:
    """The denoiser, with cross-attention at every resolution."""
    levels = len(settings.unet_channels)
    return UNet2DConditionModel(  # type: ignore[no-untyped-call]
        sample_size=latent_size(settings),
        in_channels=settings.latent_channels,
        out_channels=settings.latent_channels,
        block_out_channels=settings.unet_channels,
        layers_per_block=settings.unet_layers_per_block,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        # diffusers reads this as the number of heads
        attention_head_dim=tuple(channels // settings.unet_head_width for channels in settings.unet_channels),
        cross_attention_dim=settings.text_width,
        time_embedding_dim=settings.unet_time_width,
        norm_num_groups=_NORM_GROUPS,
    )


def build_text_encoder(settings: RecipeSettings, tokenizer: CLIPTokenizer) -> TextEncoder:
    """A CLIP text encoder for the pocket vocabulary."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.text_width,
            intermediate_size=4 * settings.text_width,
            num_hidden_layers=settings.text_layers,
            num_attention_heads=settings.text_width // 32,
            max_position_embeddings=settings.prompt_length_tokens,
            projection_dim=settings.text_width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def _schedule(settings: RecipeSettings) -> dict[str, Any]:
    return {
        "num_train_timesteps": settings.train_timesteps,
        "beta_start": settings.beta_start,
        "beta_end": settings.beta_end,
        "beta_schedule": "scaled_linear",
        "prediction_type": "v_prediction",
        "rescale_betas_zero_snr": True,
        "timestep_spacing": "trailing",
        "clip_sample": False,
    }


def build_noise_scheduler(settings: RecipeSettings) -> Scheduler:
    """Adds the noise in training."""
    return DDPMScheduler(**_schedule(settings))  # type: ignore[no-untyped-call]


def build_sampling_scheduler(settings: RecipeSettings) -> Scheduler:
    """The scheduler shipped with the base."""
    return DDIMScheduler(**_schedule(settings), set_alpha_to_one=True, steps_offset=1)  # type: ignore[no-untyped-call]
