"""The real weights, where they were fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from enlight.realesrgan.models import FACE_DETECTOR, MODELS
from enlight.servicekit.weight_files import WeightFolder

FOLDER = Path(__file__).resolve().parents[3] / "models" / "realesrgan"
CONVERTED = ("RealESRGAN_x4plus", "RealESRGAN_x4plus_anime_6B", "realesr-animevideov3")


def real_weights() -> WeightFolder:
    """The folder that dev-scripts/fetch-weights fills; a test without it is skipped."""
    folder = WeightFolder(FOLDER, setting="REALESRGAN_WEIGHTS_FOLDER")
    files = [MODELS[name].files[:1] for name in CONVERTED] + [(FACE_DETECTOR,)]
    if not all(folder.has(*file) for file in files):
        pytest.skip("no real weights here: dev-scripts/fetch-weights brings them")
    return folder
