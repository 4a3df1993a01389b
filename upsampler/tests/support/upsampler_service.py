"""The service in this process on a tiny model, and pictures for it."""

from __future__ import annotations

import base64
from pathlib import Path

import cv2
import numpy as np
from flask.testing import FlaskClient
from numpy.typing import NDArray
from skimage import data
from waiting import wait_until

from enlight.servicekit.images import encode_png
from enlight.servicekit.worker_service import WorkerService
from enlight.upsampler.app import create_app
from enlight.upsampler.settings import Settings

Pixels = NDArray[np.uint8]


class TinyService:
    """The application with its worker; ``stop`` ends it."""

    def __init__(self, settings: Settings) -> None:
        app = create_app(settings)
        self.service: WorkerService = app.extensions["enlight"]
        self.client: FlaskClient = app.test_client()
        assert wait_until(lambda: self.client.get("/ready").status_code == 200, 60.0)

    def stop(self) -> None:
        self.service.stop()


def tiny_settings(weights_folder: Path) -> Settings:
    """On the CPU, in two steps, and in windows so small that every result is made in several."""
    return Settings(
        weights_folder=weights_folder,
        device="cpu",
        cpu_threads=1,
        default_steps=2,
        unet_window_px=160,
        vae_window_px=96,
    )


def photo(width_px: int, height_px: int) -> Pixels:
    """A part of a photo (H, W, 3), at this size."""
    astronaut: Pixels = data.astronaut()  # type: ignore[no-untyped-call]
    part = astronaut[: min(512, round(512 * height_px / width_px)), : min(512, round(512 * width_px / height_px))]
    return np.asarray(cv2.resize(part, (width_px, height_px), interpolation=cv2.INTER_AREA))


def as_base64(pixels: Pixels) -> str:
    """A PNG of the pixels, in base64."""
    return base64.b64encode(encode_png(pixels)).decode()


def decoded(data_or_base64: bytes | str) -> Pixels:
    """The pixels (H, W, 3 or 4) of a file, RGB(A)."""
    data = base64.b64decode(data_or_base64) if isinstance(data_or_base64, str) else data_or_base64
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    order = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
    return cv2.cvtColor(pixels, order).astype(np.uint8)
