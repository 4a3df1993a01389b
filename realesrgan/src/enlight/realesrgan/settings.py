"""Settings of realesrgan, read once from ``REALESRGAN_*`` and passed down as an argument."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from enlight.servicekit.service_settings import ImageServiceSettings

DEVICE_PATTERN = r"auto|cpu|cuda(:\d+)?"


class Settings(ImageServiceSettings):
    """Every field is the environment variable ``REALESRGAN_<FIELD>``; units are in the names."""

    model_config = SettingsConfigDict(env_prefix="REALESRGAN_", frozen=True, extra="forbid")

    port: int = Field(11111, ge=1, le=65535, description="Port to listen on.")
    device: str = Field(
        "auto", pattern=DEVICE_PATTERN, description="`auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1`."
    )
    cpu_threads: int = Field(0, ge=0, le=256, description="torch threads on a CPU; 0: torch's choice.")
    weights_folder: Path = Field(Path("models/realesrgan"), description="Folder that holds the weights.")
    weights_sha256: dict[str, str] = Field(
        default_factory=dict,
        description="SHA-256 of weights of your own, JSON object of file name to sum; goes before the published ones.",
    )
    memory_bytes: int = Field(
        0,
        ge=0,
        description="Memory that one pass may take for a tile; 0: half of what is free on the GPU, or on a CPU a "
        "quarter of the machine's memory, 4 GiB at most.",
    )
    resident_networks: int = Field(4, ge=1, le=64, description="Networks kept in memory at once.")
    fused_kernels: bool = Field(
        default=True,
        description="On NVIDIA GPUs of the Hopper generation or later: the service's own kernels, which are tried out "
        "against torch's before they are used; `false`: torch's alone.",
    )
