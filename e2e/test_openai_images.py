"""OpenAI's SDK on the suite with its real networks: a picture is made, edited in part and as a whole, cut out."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_suite import BASE_MODEL, ROOT, LocalSuite
from numpy.typing import NDArray
from openai import OpenAI
from openai.types import ImagesResponse
from PIL import Image

PHOTO = min((ROOT / "demo/photos").glob("*.png"))
PROMPT = "a robot on the beach"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openai-images")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[OpenAI]:
    with (
        LocalSuite(folder / "data", folder, services=("dreambooth-api", "bgrem"), workers=0) as suite,
        OpenAI(base_url=f"{suite.url}/v1", api_key="none") as client,
    ):
        yield client


@pytest.fixture(scope="module")
def robot(client: OpenAI, folder: Path) -> bytes:
    """A picture that was made."""
    answer = client.images.generate(model=BASE_MODEL, prompt=PROMPT, extra_body={"seed": 3, "num_inference_steps": 10})
    return only_file(answer, folder / "made.png")


def only_file(answer: ImagesResponse, path: Path) -> bytes:
    """The answer's one picture, which is left in the test's folder to be looked at."""
    assert answer.data is not None
    (image,) = answer.data
    assert image.b64_json is not None
    path.write_bytes(base64.b64decode(image.b64_json))
    return path.read_bytes()


def pixels(file: bytes, mode: str = "RGB") -> NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(file)).convert(mode)).astype(np.int16)


def test_a_picture_is_of_its_seed(client: OpenAI, robot: bytes, folder: Path) -> None:
    assert pixels(robot).shape == (64, 64, 3)
    again = client.images.generate(
        model=BASE_MODEL, prompt=PROMPT, n=2, extra_body={"seed": 2, "num_inference_steps": 10}
    )
    assert again.data is not None
    second = base64.b64decode(str(again.data[1].b64_json))
    assert np.abs(pixels(second) - pixels(robot)).max() <= 1  # in a batch the last bit may differ


def test_what_the_mask_shows_stays_and_the_rest_is_new(client: OpenAI, robot: bytes, folder: Path) -> None:
    # Given a mask, as OpenAI wants it, with a hole in its upper half
    mask: NDArray[np.uint8] = np.full((64, 64, 4), 255, np.uint8)
    mask[:32, :, 3] = 0
    file = io.BytesIO()
    Image.fromarray(mask).save(file, "PNG")
    # When the picture is edited
    answer = client.images.edit(
        model=BASE_MODEL, image=robot, mask=file.getvalue(), prompt="a robot in the snow", extra_body={"seed": 5}
    )
    edited = pixels(only_file(answer, folder / "masked.png"))
    # Then below it is the very same picture, and above another one
    assert (edited[32:] == pixels(robot)[32:]).all()
    assert np.abs(edited[:32] - pixels(robot)[:32]).mean() > 10


def test_without_a_mask_strength_says_how_much_stays(client: OpenAI, robot: bytes, folder: Path) -> None:
    def change(strength: float) -> float:
        own: dict[str, Any] = {"seed": 5, "strength": strength}
        answer = client.images.edit(model=BASE_MODEL, image=robot, prompt="a robot in the snow", extra_body=own)
        edited = pixels(only_file(answer, folder / f"strength-{strength}.png"))
        return float(np.abs(edited - pixels(robot)).mean())

    assert 0 < change(0.2) < change(1.0)


def test_a_cut_out_is_the_picture_without_its_background(client: OpenAI, folder: Path) -> None:
    photo = PHOTO.read_bytes()
    answer = client.images.edit(model="cutout", image=photo, prompt="")
    cut = pixels(only_file(answer, folder / "cut-out.png"), "RGBA")
    subject = cut[..., 3] > 250
    # Of the robot something is left, of what is behind it something is gone, and what is left has its colours
    assert 0.05 < subject.mean() < 0.9
    assert cut[..., 3].min() == 0
    assert np.abs(cut[..., :3] - pixels(photo))[subject].max() <= 1


def test_a_picture_can_be_made_without_a_background(client: OpenAI, folder: Path) -> None:
    answer = client.images.generate(model=BASE_MODEL, prompt=PROMPT, background="transparent")
    cut = pixels(only_file(answer, folder / "transparent.png"), "RGBA")
    assert cut[..., 3].min() == 0
