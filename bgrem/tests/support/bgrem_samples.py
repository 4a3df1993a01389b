"""Pictures, settings and a running service for bgrem's tests."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import skimage.data
from bgrem_stand_ins import write_stand_ins
from flask_openapi import OpenAPI
from PIL import Image
from waiting import wait_until

from enlight.bgrem.app import create_app
from enlight.bgrem.cutouts import Cutouts
from enlight.bgrem.networks import Networks
from enlight.bgrem.settings import Settings
from enlight.servicekit.strips import Strips
from enlight.servicekit.worker_service import WorkerService

REAL_WEIGHTS = Path(__file__).resolve().parents[3] / "models" / "bgrem"
START_TIMEOUT_S = 60.0


def photo(name: str, width_px: int, height_px: int) -> Image.Image:
    """A photograph that scikit-image carries: astronaut, chelsea (a cat), coffee, rocket."""
    picture = Image.fromarray(getattr(skimage.data, name)())
    return picture.resize((width_px, height_px), Image.Resampling.LANCZOS)


def red_square(width_px: int = 96, height_px: int = 64) -> Image.Image:
    """A red square on blue, which the stand-ins cut out."""
    pixels = np.zeros((height_px, width_px, 3), np.uint8)
    pixels[:] = (20, 40, 220)
    pixels[height_px // 4 : height_px * 3 // 4, width_px // 4 : width_px * 3 // 4] = (230, 20, 30)
    return Image.fromarray(pixels)


def file_of(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The picture as a file."""
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def base64_of(picture: Image.Image) -> str:
    """The picture as a base64 PNG."""
    return base64.b64encode(file_of(picture)).decode()


def picture_of(data: bytes) -> Image.Image:
    """The picture in a file, decoded to its end."""
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def pixels_of(data: bytes) -> np.ndarray:
    """The values in a file."""
    return np.asarray(picture_of(data))


def stand_in_settings(folder: Path, **changes: Any) -> Settings:
    """Settings with stand-ins for all models in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    given: dict[str, Any] = {"weights_folder": folder, "weights_sha256": write_stand_ins(folder), "device": "cpu"}
    return Settings(**{**given, "cpu_threads": 1, **changes})


def cutouts_of(settings: Settings, *, threads: int = 2) -> Cutouts:
    """What the worker makes of the settings, in this process."""
    networks = Networks(settings.worker_config(), threads=threads)
    return Cutouts(networks, Strips(threads), max_matting_pixels=settings.max_matting_pixels)


@contextmanager
def running_app(settings: Settings) -> Iterator[OpenAPI]:
    """The application with its worker, ready."""
    app = create_app(settings)
    service: WorkerService = app.extensions["enlight"]
    try:
        assert wait_until(lambda: service.readiness().state == "ready", START_TIMEOUT_S), service.readiness()
        yield app
    finally:
        service.stop()


def worker_process() -> psutil.Process:
    """The worker of the one application that runs in this process."""
    (worker,) = [child for child in psutil.Process().children() if "bgrem.worker" in " ".join(child.cmdline())]
    return worker
