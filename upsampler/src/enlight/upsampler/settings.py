"""Settings of the service, from environment variables with the prefix ``UPSAMPLER_``."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from enlight.servicekit.service_settings import ImageServiceSettings
from enlight.upsampler.requests import DEFAULT_STEPS, MAX_STEPS


class Settings(ImageServiceSettings):
    """Everything that can be set; each has a default that works on one machine."""

    model_config = SettingsConfigDict(env_prefix="UPSAMPLER_", frozen=True, extra="forbid")

    port: int = Field(4455, ge=1, le=65535, description="Port to listen on.")
    worker_hang_timeout_s: float = Field(
        300, gt=0, description="A worker that is busy and silent this long is killed and started again."
    )
    weights_folder: Path = Field(
        Path("models/stable-diffusion-x4-upscaler"),
        description="Folder of the model in diffusers' layout, safetensors; `fetch_model` puts it there.",
    )
    weights_sha256: dict[str, str] = Field(
        default_factory=dict,
        description="SHA-256 to check before loading, JSON object of path in the folder to sum.",
    )
    device: str = Field(
        "auto",
        pattern=r"auto|cpu|cuda(:\d+)?",
        description="`auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1`.",
    )
    cpu_threads: int = Field(0, ge=0, le=256, description="torch threads of the worker on a CPU; 0: torch's choice.")
    unet_window_px: int = Field(
        512,
        ge=64,
        le=512,
        description="Largest part of the network's picture (256 or 512 on its long side) that the U-Net sees at once.",
    )
    vae_window_px: int = Field(
        192, ge=32, le=512, description="Likewise for the VAE, whose attention grows with the fourth power of it."
    )
    default_steps: int = Field(
        DEFAULT_STEPS, ge=1, le=MAX_STEPS, description="Denoising steps of a request that names none."
    )
    max_prompt_chars: int = Field(2000, ge=1, le=100_000, description="Longest prompt, in characters.")
