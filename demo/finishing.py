"""A generated picture made ready for use: enlarged with Real-ESRGAN, then cut out, through the gateway."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

UPSCALER = "RealESRGAN_x4plus_anime_6B"
"""For drawings, which the pocket base's pictures are; photos look better with RealESRGAN_x4plus."""
OUT_RESOLUTION_PX = 1024
CUTTER = "u2net"

Post = Callable[[str, dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Finished:
    """One picture and what became of it, as PNG files' bytes."""

    generated: bytes
    upscaled: bytes
    """Long side ``OUT_RESOLUTION_PX``."""
    cut_out: bytes
    """The upscaled picture without its background, transparent."""


def finish(generated: bytes, url: str, post: Post) -> Finished:
    """Upscales and cuts out a PNG at the gateway at ``url``."""
    body = {"input_string": _base64(generated), "model_name": UPSCALER, "out_resolution": OUT_RESOLUTION_PX}
    upscaled = base64.b64decode(post(f"{url}/realesrgan", body)["image"])
    body = {"input_image": _base64(upscaled), "model": CUTTER}
    cut_out = base64.b64decode(post(f"{url}/remove-opacity", body)["output_image"])
    return Finished(generated, upscaled, cut_out)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
