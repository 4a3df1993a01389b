"""Every number the bundled models are made with, in one place, and the folders the scripts share."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class RecipeSettings:
    """The recipe of the pocket base and of the judge. Sizes are pixels or channels, batches are images."""

    seed: int = 20261122

    # Pictures
    image_size_px: int = 64
    glyph_size_px: int = 96
    background_variants: int = 256
    subject_scale_min: float = 0.5  # longest side of the subject, as a share of the picture's side
    subject_scale_max: float = 0.9
    subject_turn_max_degrees: float = 15.0

    # Text
    vocabulary_size: int = 2000
    prompt_length_tokens: int = 32
    text_width: int = 192
    text_layers: int = 3
    caption_dropout: float = 0.1

    # Autoencoder
    vae_channels: tuple[int, ...] = (64, 96, 128)
    vae_layers_per_block: int = 1
    latent_channels: int = 8
    vae_batch: int = 256
    vae_recolour_share: float = 0.3
    vae_learning_rate: float = 6e-4
    vae_kl_weight: float = 4e-4
    vae_gradient_weight: float = 1.0

    # U-Net
    unet_channels: tuple[int, ...] = (96, 160)
    unet_layers_per_block: int = 1
    unet_head_width: int = 32
    unet_time_width: int = 256
    base_batch: int = 1024
    base_learning_rate: float = 8e-4
    base_warmup_steps: int = 200
    base_weight_decay: float = 0.01
    base_ema_decay: float = 0.999
    latent_pool_size: int = 262_144
    latent_pool_refresh_every: int = 8

    # Noise schedule: v-prediction with zero terminal signal, so that flat and very dark or bright
    # backgrounds can be sampled (Lin et al. 2024, arXiv 2305.08891)
    train_timesteps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012

    # Judge
    judge_channels: tuple[int, ...] = (32, 64, 128, 160, 192)
    judge_embedding_width: int = 128
    judge_batch: int = 1024
    judge_learning_rate: float = 3e-3
    judge_margin: float = 0.2
    judge_scale: float = 20.0

    # Sampling in the grids and in the recommended use
    sample_steps: int = 25
    sample_guidance: float = 5.0


def tiny(settings: RecipeSettings) -> RecipeSettings:
    """The same recipe shrunk until every script runs end to end on one CPU core in seconds."""
    return replace(
        settings,
        background_variants=2,
        vae_channels=(16, 16, 32),
        vae_batch=4,
        unet_channels=(32, 32),
        unet_time_width=64,
        text_width=32,
        text_layers=1,
        base_batch=8,
        base_warmup_steps=2,
        latent_pool_size=32,
        judge_channels=(8, 8, 16, 16, 16),
        judge_batch=8,
        sample_steps=3,
    )


def as_table(settings: RecipeSettings) -> dict[str, object]:
    """The settings as plain JSON values, for the record kept beside the weights."""
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
