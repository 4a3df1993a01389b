"""The two scripts as a user calls them, with the pocket base model and the demo's photos."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from enlight.dreambooth_api.file_locks import FileLock
from enlight.dreambooth_api.schemas import GenerationBody, TrainingBody

ROOT = Path(__file__).resolve().parents[2]
STEPS = 30
TRAIN = ("train.py", "--model-id", "robot", "--instance-prompt", "a sks robot", "--seed", "1", "--kind", "lora")
INFER = (
    "infer.py",
    "--model-id",
    "robot",
    "--prompt",
    "a sks robot",
    "--num-images",
    "2",
    "--seed",
    "7",
    "--num-inference-steps",
    "4",
)
LIMIT_S = 240


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("INPUT", "OUTPUT", "Generation"):
        (tmp_path / name).mkdir()
    for photo in (ROOT / "demo" / "photos").glob("*.png"):
        shutil.copy(photo, tmp_path / "INPUT")
    return tmp_path


def _start(
    place: Path, script: str, *options: str, stdout: int = subprocess.PIPE, checkpoint_every_steps: int = 5
) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DREAMBOOTH_API_")}
    settings = {
        "DREAMBOOTH_API_DEFAULT_BASE_MODEL": "enlight/pocket",
        "DREAMBOOTH_API_DEVICE": "cpu",
        "DREAMBOOTH_API_CHECKPOINT_EVERY_STEPS": str(checkpoint_every_steps),
        "TERM": "xterm",
        "COLUMNS": "140",
    }
    return subprocess.Popen(
        [sys.executable, ROOT / "dreambooth-script" / script, *options],
        cwd=place,
        env=environment | settings,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def _run(place: Path, script: str, *options: str) -> tuple[int, str, str]:
    process = _start(place, script, *options)
    output, errors = process.communicate(timeout=LIMIT_S)
    return process.returncode, output, errors


def _read_to_the_end(terminal: int) -> bytes:
    shown = b""
    with suppress(OSError):  # how a terminal says that nobody writes any more
        while piece := os.read(terminal, 65536):
            shown += piece
    os.close(terminal)
    return shown


def _await_checkpoint(place: Path, process: subprocess.Popen[str], *, beyond: int) -> int:
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        newest = _newest_checkpoint(place)
        if newest > beyond:
            return newest
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    raise AssertionError("no checkpoint in time")


def _newest_checkpoint(place: Path) -> int:
    names = [path.name for path in place.glob("OUTPUT/jobs/*/checkpoints/step-*")]
    return max((int(name.removeprefix("step-")) for name in names), default=0)


def test_a_training_that_is_killed_and_stopped_goes_on_and_its_model_makes_pictures(place: Path) -> None:
    train = (*TRAIN, "--max-training-steps", str(STEPS))
    # Given a training that is killed after a checkpoint
    killed = _start(place, *train)
    first = _await_checkpoint(place, killed, beyond=0)
    killed.kill()
    killed.communicate()

    # When it is started again and asked to stop
    stopped = _start(place, *train)
    _await_checkpoint(place, stopped, beyond=max(first, _newest_checkpoint(place)))
    stopped.send_signal(signal.SIGTERM)
    output, errors = stopped.communicate(timeout=LIMIT_S)
    assert (stopped.returncode, "The same command goes on" in output) == (130, True), errors
    saved = _newest_checkpoint(place)

    # Then the third call goes on exactly there and ends it, and only the model stays
    status, output, errors = _run(place, *train)
    assert status == 0, errors
    assert f"It went on after step {saved}." in output
    assert f"robot is trained: {STEPS} steps" in output
    assert {"training", "publishing"} <= set(output.splitlines())  # its progress, where there is no terminal for a bar
    assert (place / "OUTPUT" / "modelids" / "robot" / "current").is_file()
    assert not list((place / "OUTPUT" / "jobs").glob("*/checkpoints"))

    # When pictures are made twice with one seed
    for _ in range(2):
        status, output, errors = _run(place, *INFER)
        assert status == 0, errors
        assert "seeds 7 to 8" in output
    # Then the second ones are the first ones, under numbers of their own
    names = [f"robot-{number:04d}.png" for number in range(1, 5)]
    assert sorted(path.name for path in (place / "Generation").iterdir()) == names
    one, two, one_again, two_again = ((place / "Generation" / name).read_bytes() for name in names)
    assert (one, two) == (one_again, two_again)
    assert one != two
    with Image.open(place / "Generation" / names[0]) as picture:
        assert picture.size == (64, 64)


def test_what_is_asked_to_stop_writes_a_checkpoint_first(place: Path) -> None:
    # Given a training that is far from its next checkpoint
    ours, theirs = pty.openpty()
    train = (*TRAIN, "--max-training-steps", "5000")
    process = _start(place, *train, stdout=theirs, checkpoint_every_steps=5000)
    os.close(theirs)
    shown = b""
    while not (steps := re.findall(rb"(\d+)/5000", shown)) or int(steps[-1]) < 3:
        shown += os.read(ours, 65536)
    assert _newest_checkpoint(place) == 0
    # When it is asked to stop
    process.send_signal(signal.SIGTERM)
    _read_to_the_end(ours)
    _, errors = process.communicate(timeout=LIMIT_S)
    # Then no step is lost
    assert process.returncode == 130, errors
    assert _newest_checkpoint(place) >= int(steps[-1])


def test_a_terminal_has_a_bar_of_the_pictures(place: Path) -> None:
    ours, theirs = pty.openpty()
    infer = ("infer.py", "--model-id", "enlight/pocket", "--prompt", "a red robot", "--num-images", "2")
    process = _start(place, *infer, "--num-inference-steps", "20", stdout=theirs)
    os.close(theirs)
    shown = _read_to_the_end(ours)
    _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, errors
    assert re.search(rb"step \d+ of 20, \d of 2 done", shown), shown


def test_one_training_at_a_time_uses_a_folder(place: Path) -> None:
    lock = FileLock.try_hold(place / "OUTPUT" / ".training.lock")
    assert lock is not None
    with lock:
        status, _, errors = _run(place, *TRAIN)
    assert status == 1
    assert errors.startswith(f"Another training uses {place / 'OUTPUT'}")


@pytest.mark.parametrize(
    ("script", "missing"), [(TRAIN, "INPUT"), (TRAIN, "OUTPUT"), (INFER, "OUTPUT"), (INFER, "Generation")]
)
def test_a_missing_folder_is_named(place: Path, script: tuple[str, ...], missing: str) -> None:
    shutil.rmtree(place / missing)
    status, _, errors = _run(place, *script)
    assert status == 1
    assert errors.startswith(f"There is no folder {missing} in {place}. Make all three with `mkdir -p ")


def test_what_is_wrong_with_the_photos_is_said_by_their_names(place: Path) -> None:
    (place / "INPUT" / "aaa.png").write_bytes(b"no picture")
    status, _, errors = _run(place, *TRAIN)
    assert status == 1
    assert "INPUT/aaa.png" in errors
    assert "photos[" not in errors

    for photo in (place / "INPUT").iterdir():
        photo.unlink()
    (place / "INPUT" / "notes.txt").touch()
    status, _, errors = _run(place, *TRAIN)
    assert status == 1
    assert errors.startswith(f"There is no photo in {place / 'INPUT'}")


def test_an_unknown_model_and_a_wrong_value_are_named(place: Path) -> None:
    status, _, errors = _run(place, *INFER)
    assert (status, errors) == (1, "There is no model robot.\n")
    status, _, errors = _run(place, *TRAIN, "--max-training-steps", "many")
    assert status == 2
    assert "--max-training-steps: Input should be a valid integer" in errors
    status, _, errors = _run(place, *TRAIN, "--base-model", "somebody/else")
    assert status == 1
    assert "'somebody/else' is not an allowed base model" in errors


@pytest.mark.parametrize(("script", "body"), [("train.py", TrainingBody), ("infer.py", GenerationBody)])
def test_help_has_every_field_of_the_route(
    place: Path, script: str, body: type[TrainingBody] | type[GenerationBody]
) -> None:
    status, output, _ = _run(place, script, "--help")
    options = set(re.findall(r"^  --([a-z-]+)", output, flags=re.MULTILINE))
    assert status == 0
    assert options == {name.replace("_", "-") for name in body.model_fields} - {"photos"}
