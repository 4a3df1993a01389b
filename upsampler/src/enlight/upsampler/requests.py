"""What crosses the pipe between the HTTP process and the worker: small frozen records, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ImageFormat = Literal["png", "jpeg", "webp"]
OPERATION = "upscale"
"""What the worker does, in metrics."""
DEFAULT_STEPS = 75
DEFAULT_GUIDANCE_SCALE = 9.0
DEFAULT_NOISE_LEVEL = 20
"""These three are the published pipeline's."""
MAX_STEPS = 250


@dataclass(frozen=True)
class WorkerConfig:
    """Everything the worker needs to know."""

    device: str
    """``auto`` (CUDA when there is one, else CPU), ``cpu``, ``cuda``, ``cuda:1``."""
    cpu_threads: int
    """torch threads on a CPU; 0 leaves torch's default."""
    weights_folder: Path
    weights_sha256: dict[str, str]
    """Sums to check before the model is loaded, by the file's path in the folder."""
    unet_window: int
    vae_window: int
    """Largest windows, in pixels of the network's picture."""


@dataclass(frozen=True)
class UpscaleRequest:
    """One picture to enlarge."""

    image: bytes
    """The file as it came."""
    image_field: str
    """What a message calls it."""
    prompt: str
    negative_prompt: str
    resolution_px: int
    """Long side of the result."""
    seed: int
    steps: int
    guidance_scale: float
    noise_level: int
    image_format: ImageFormat
    max_bytes: int | None = None
    """A PNG that is larger than this becomes the best JPEG that is not."""


@dataclass(frozen=True)
class UpscaleResult:
    """The enlarged picture, and what really ran."""

    image: bytes
    image_format: ImageFormat
    width_px: int
    height_px: int
    windows: tuple[int, int]
    """How many the U-Net and the VAE worked in."""
    run_s: float
