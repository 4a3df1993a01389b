"""What crosses the pipe between the HTTP process and the worker. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

ImageFormat = Literal["png", "jpeg", "webp"]
OPERATION = "upscale"
"""What the worker does, in metrics."""


@dataclass(frozen=True)
class WorkerConfig:
    """What the worker is started with."""

    device: str
    cpu_threads: int
    weights_folder: Path
    weights_sha256: dict[str, str] = field(default_factory=dict)
    memory_bytes: int = 0
    task_threads: int = 2
    resident_networks: int = 4
    fused_kernels: bool = True


@dataclass(frozen=True)
class UpscaleRequest:
    """One picture to be enlarged.

    Attributes:
        data: The picture's file.
        field: What messages about the picture call it.
        model_name: A key of `models.MODELS`.
        out_resolution_px: Long side of the result.
        face_enhance: Whether faces are restored.
        denoise_strength: In [0, 1]; None: the model's own.
        image_format: Of the answer.
        quality: Of JPEG and WebP, in [1, 100]; None: the format's own.
    """

    data: bytes
    field: str
    model_name: str
    out_resolution_px: int
    face_enhance: bool
    denoise_strength: float | None
    image_format: ImageFormat = "png"
    quality: int | None = None


@dataclass(frozen=True)
class UpscaleResult:
    """The enlarged picture's file, and how it was made."""

    data: bytes
    image_format: ImageFormat
    width_px: int
    height_px: int
    passes: int
    faces: int
    decode_s: float
    network_s: float
    encode_s: float
