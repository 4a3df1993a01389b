"""The small model, made once for all tests of the service."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from upsampler_tiny_model import build_tiny_upscaler

from enlight.upsampler.upscaler_model import UpscalerModel


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_upscaler(tmp_path_factory.mktemp("tiny") / "stable-diffusion-x4-upscaler")


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path) -> UpscalerModel:
    return UpscalerModel.load(tiny_folder, device=torch.device("cpu"), weights_dtype=torch.float32)
