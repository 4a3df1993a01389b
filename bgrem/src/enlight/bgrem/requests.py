"""What crosses the pipe between the HTTP process and the worker."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ModelName = Literal["u2net", "u2net_cloth_seg", "u2net_human_seg", "silueta", "u2netp"]
ImageFormat = Literal["png", "webp", "jpeg"]
Garment = Literal["upper", "lower", "full", "attire"]
Colour = tuple[int, int, int, int]
"""Red, green, blue, opacity; each in [0, 255]."""

WHITE: Colour = (255, 255, 255, 255)

OPERATION = "cutout"
"""What the worker does, in metrics."""


@dataclass(frozen=True)
class WorkerConfig:
    """The worker's part of the settings; see there."""

    weights_folder: Path
    weights_sha256: dict[str, str]
    device: str
    cpu_engine: str
    cpu_threads: int
    parallel_requests: int
    max_matting_pixels: int


@dataclass(frozen=True)
class Matting:
    """Parameters of closed-form alpha matting, as rembg has them.

    Attributes:
        foreground_threshold: A mask above it is foreground for certain; in [0, 255].
        background_threshold: A mask below it is background for certain; in [0, 255].
        erode_size_px: Side of the square by which both regions shrink; what lies between is solved for.
    """

    foreground_threshold: int = 240
    background_threshold: int = 10
    erode_size_px: int = 10


@dataclass(frozen=True)
class CutoutRequest:
    """One picture, and what is wanted of it.

    Attributes:
        data: The picture's file.
        field: What messages call the picture.
        model: The network.
        image_format: Of the answer.
        quality: Of a lossy format, in [1, 100].
        only_mask: The mask instead of the cut-out.
        smooth_mask: Opens and smooths the mask, and makes it black and white (rembg's post-processing).
        matting: Alpha matting; None: the mask is the opacity.
        unmix_edges: Estimates the subject's own colour where it is mixed with the background (rembg: decontaminate).
        background: Colour that the cut-out is laid on; None: transparent.
        keep_alpha: Answer with an opacity channel even where all of it is opaque.
        garment: The one garment mask of u2net_cloth_seg; None: upper, lower and full, one above the other.
    """

    data: bytes
    field: str
    model: ModelName = "u2net"
    image_format: ImageFormat = "png"
    quality: int = 90
    only_mask: bool = False
    smooth_mask: bool = False
    matting: Matting | None = None
    unmix_edges: bool = False
    background: Colour | None = None
    keep_alpha: bool = False
    garment: Garment | None = None


@dataclass(frozen=True)
class CutoutResult:
    """The answer's file.

    Attributes:
        data: Its bytes.
        media_type: Such as ``image/png``.
        width_px: Width.
        height_px: Height.
    """

    data: bytes
    media_type: str
    width_px: int
    height_px: int
