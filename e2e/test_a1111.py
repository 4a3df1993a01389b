"""A1111's stock client on the whole suite: a training, and then pictures of its subject, by webuiapi alone."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import requests
from local_suite import ROOT, LocalSuite
from PIL import Image, ImageDraw
from similarity import SubjectSimilarity
from webuiapi import WebUIApi

PHOTOS = sorted((ROOT / "demo/photos").glob("*.png"))
PROMPT = "a sks robot"
SIZE: dict[str, Any] = {"width": 64, "height": 64, "steps": 25}
PICTURES = 4
MUCH_CLOSER = 0.4
"""Of the cosine similarity to the photos, which is about 0 for the base model and 0.7 after this training."""
TRAINING_TIMEOUT_S = 600

pytestmark = pytest.mark.timeout(TRAINING_TIMEOUT_S + 300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("a1111")


@pytest.fixture(scope="module")
def suite(folder: Path) -> Iterator[LocalSuite]:
    with LocalSuite(folder / "data", folder, services=("dreambooth-api", "realesrgan")) as running:
        yield running


@pytest.fixture(scope="module")
def api(suite: LocalSuite) -> WebUIApi:
    """A client of a suite that has a model of the photos' robot."""
    body = {
        "model_id": "my-robot",
        "instance_prompt": PROMPT,
        "photos": [base64.b64encode(photo.read_bytes()).decode() for photo in PHOTOS],
        "preset": "recommended",
        "max_training_steps": 60,
    }
    started = requests.post(f"{suite.url}/v1/trainings", json=body, timeout=60).json()

    training = f"{suite.url}/v1/trainings/{started['id']}"
    assert requests.get(f"{training}/events", timeout=TRAINING_TIMEOUT_S).ok  # they end with the training
    assert requests.get(training, timeout=60).json()["state"] == "succeeded"
    address = urlsplit(suite.url)
    return WebUIApi(host=address.hostname, port=address.port, username="any", password="none")


@pytest.fixture(scope="module")
def robots(api: WebUIApi, folder: Path) -> list[Image.Image]:
    """Pictures of the model that webuiapi chose by its name."""
    api.util_set_model("my-robot")
    made: list[Image.Image] = api.txt2img(prompt=f"{PROMPT} on the beach", seed=1, batch_size=PICTURES, **SIZE).images
    return kept(folder, "txt2img", made)


def kept(folder: Path, name: str, pictures: list[Image.Image]) -> list[Image.Image]:
    """The pictures, which are left in the test's folder to be looked at."""
    for number, picture in enumerate(pictures):
        picture.save(folder / f"{name}-{number}.png")
    return pictures


def files(pictures: list[Image.Image]) -> list[bytes]:
    found = []
    for picture in pictures:
        file = io.BytesIO()
        picture.save(file, "PNG")
        found.append(file.getvalue())
    return found


def pixels(picture: Image.Image) -> Any:
    return np.asarray(picture.convert("RGB")).astype(int)


def test_the_pictures_show_the_trained_subject(api: WebUIApi, robots: list[Image.Image], folder: Path) -> None:
    # Given what the base model makes of the same words and seeds
    base = api.txt2img(
        prompt=f"{PROMPT} on the beach",
        seed=1,
        batch_size=PICTURES,
        override_settings={"sd_model_checkpoint": "enlight/pocket"},
        **SIZE,
    )
    # When the model is picked by a mark in the prompt
    marked = api.txt2img(prompt=f"{PROMPT} on the beach <lora:my-robot:1>", seed=1, batch_size=PICTURES, **SIZE)
    # Then it is the model that was chosen by its name, and shows what the photos show
    assert all((pixels(one) == pixels(other)).all() for one, other in zip(marked.images, robots, strict=True))
    judge = SubjectSimilarity(ROOT / "models/judge", [photo.read_bytes() for photo in PHOTOS])
    before, after = judge.mean(files(kept(folder, "base", base.images))), judge.mean(files(robots))
    assert after > before + MUCH_CLOSER, f"{before:.2f} -> {after:.2f}"
    assert marked.info["sampler_name"] == "DDIM"


def test_a_picture_is_painted_over_more_or_less(api: WebUIApi, robots: list[Image.Image], folder: Path) -> None:
    painted = [
        api.img2img(
            images=[robots[0]], prompt=f"{PROMPT} in the snow", seed=2, denoising_strength=strength, **SIZE
        ).image
        for strength in (0.2, 0.9)
    ]
    little, much = (np.abs(pixels(picture) - pixels(robots[0])).mean() for picture in kept(folder, "img2img", painted))
    assert 0 < little < much


def test_a_masked_part_is_painted_and_the_rest_stays(api: WebUIApi, robots: list[Image.Image], folder: Path) -> None:
    mask = Image.new("L", (64, 64))
    ImageDraw.Draw(mask).rectangle((0, 0, 63, 20), fill=255)
    asked: dict[str, Any] = {"images": [robots[0]], "mask_image": mask, "prompt": "a red sky", "seed": 3, **SIZE}
    whole = api.img2img(inpaint_full_res=False, mask_blur=0, denoising_strength=1, **asked).image
    part = api.img2img(inpaint_full_res=True, mask_blur=2, denoising_strength=0.9, **asked).image
    for picture in kept(folder, "inpainted", [whole, part]):
        assert (pixels(picture)[30:] == pixels(robots[0])[30:]).all()
        assert np.abs(pixels(picture)[:18] - pixels(robots[0])[:18]).mean() > 2


def test_a_picture_is_enlarged_and_stays_what_it_is(api: WebUIApi, robots: list[Image.Image], folder: Path) -> None:
    large = api.extra_single_image(image=robots[0], upscaler_1="R-ESRGAN 4x+ Anime6B", upscaling_resize=4).image
    assert large.size == (256, 256)
    (picture,) = kept(folder, "extra", [large])
    small = pixels(picture.resize((64, 64), Image.Resampling.BOX))
    assert np.abs(small - pixels(robots[0])).mean() < 12
