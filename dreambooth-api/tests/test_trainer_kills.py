"""Trainers killed with SIGKILL, at updates and inside of writes, end with the bytes of an uninterrupted one."""

from __future__ import annotations

import functools
import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
from mortal_trainer import Death, train
from tiny_base import build_tiny_base
from tiny_training import make_config, make_request, write_photos

from enlight.dreambooth_api.model_store import ModelStore
from enlight.dreambooth_api.requests import Base, TrainerConfig, TrainingOutcome, TrainingProgress
from enlight.servicekit.errors import WorkerUnavailable
from enlight.servicekit.object_store import open_store
from enlight.servicekit.process import run_job

STEPS = 10
EVERY = 3
KINDS: dict[str, dict[str, Any]] = {
    "full": {"kind": "full"},
    "lora": {"kind": "lora", "train_text_encoder": True, "prior_preservation": True},
}
# Where in a write to die. Checkpoints are written after updates 3, 6 and 9.
IN_WRITES = {
    "weights of the first checkpoint are there": Death(event="open", path_holds=(".step-00000003", "state.json")),
    "second checkpoint is not sealed": Death(event="open", path_holds=(".step-00000006", "SEAL.json")),
    "second checkpoint is not renamed": Death(event="os.rename", path_holds=(".step-00000006",)),
    "first checkpoint is half removed": Death(event="os.remove", path_holds=("optimizer.safetensors",)),
    "data are not renamed": Death(event="os.rename", path_holds=(".data.",)),
    "finished model is not sealed": Death(event="open", path_holds=(".finished.", "record.json")),
    "finished model is not renamed": Death(event="os.rename", path_holds=(".finished.",)),
    "publication is not noted": Death(event="os.rename", path_holds=(".published.json.",)),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return build_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write_photos(tmp_path_factory.mktemp("photos"), 3)


@pytest.fixture(scope="module")
def forkserver() -> Iterator[ForkServerContext]:
    """Children forked from a process that has imported torch and nothing more: quick to start, and clean."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mortal_trainer"])
    with pytest.MonkeyPatch.context() as patch:
        # Python before 3.11.9 does not hand sys.path to the fork server, which then preloads nothing.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        yield context


Uninterrupted = Callable[[str], dict[str, str]]


@pytest.fixture(scope="module")
def uninterrupted(
    base: Base,
    photos: tuple[Path, ...],
    forkserver: ForkServerContext,
    tmp_path_factory: pytest.TempPathFactory,
) -> Uninterrupted:
    """SHA-256 of the files that a job of a kind publishes when nothing disturbs it."""

    @functools.cache
    def run(kind: str) -> dict[str, str]:
        config = _config(tmp_path_factory.mktemp("uninterrupted"), base, photos, kind)
        return _published(config, _end(forkserver, config))

    return run


def _config(folder: Path, base: Base, photos: tuple[Path, ...], kind: str) -> TrainerConfig:
    request = make_request(photos, max_training_steps=STEPS, **KINDS[kind])
    return make_config(folder, base, request, checkpoint_every_steps=EVERY, progress_every_s=0.0)


def _attempt(context: ForkServerContext, config: TrainerConfig, death: Death) -> TrainingOutcome | None:
    """One attempt; None when it died, which has to be by SIGKILL."""
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=train, args=(config, death, theirs))
    process.start()
    try:
        wait([ours, process.sentinel], timeout=60)
        outcome: TrainingOutcome | None = ours.recv() if ours.poll() else None
        process.join(30)
        assert process.exitcode == (0 if outcome else -signal.SIGKILL)
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()
        theirs.close()
    return outcome


def _published(config: TrainerConfig, outcome: TrainingOutcome) -> dict[str, str]:
    store = ModelStore(open_store(config.store.bucket_url, timeout_s=5, retry_total_s=10))
    manifest = store.manifest(outcome.model_id, outcome.version)
    assert store.versions(outcome.model_id) == [outcome.version]
    return {path: entry.sha256 for path, entry in manifest.files.items()}


def _end(context: ForkServerContext, config: TrainerConfig) -> TrainingOutcome:
    outcome = _attempt(context, config, Death())
    assert outcome is not None
    return outcome


@pytest.mark.parametrize("death", IN_WRITES.values(), ids=IN_WRITES.keys())
def test_killed_inside_of_a_write(
    tmp_path: Path,
    base: Base,
    photos: tuple[Path, ...],
    forkserver: ForkServerContext,
    uninterrupted: Uninterrupted,
    death: Death,
) -> None:
    # Given a job that dies while it writes
    config = _config(tmp_path, base, photos, "full")
    assert _attempt(forkserver, config, death) is None

    # When it is started again
    outcome = _end(forkserver, config)

    # Then it publishes the same bytes, once, and leaves nothing half behind
    assert _published(config, outcome) == uninterrupted("full")
    assert [path.name for path in config.job_folder.iterdir()] == ["published.json"]


@pytest.mark.parametrize("kind", KINDS)
def test_killed_at_five_random_updates(
    tmp_path: Path,
    base: Base,
    photos: tuple[Path, ...],
    forkserver: ForkServerContext,
    uninterrupted: Uninterrupted,
    kind: str,
) -> None:
    # Given a job that dies five times on its way, a little further each time or not
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    steps = sorted(random.Random(seed).choices(range(1, STEPS), k=5))
    config = _config(tmp_path, base, photos, kind)
    deaths = 0
    for step in steps:
        # An attempt that resumes behind the chosen update cannot die there any more: it dies at its first.
        deaths += _attempt(forkserver, config, Death(step=max(step, _first_update(config)))) is None
    assert deaths == len(steps)

    # When it is left alone
    outcome = _end(forkserver, config)

    # Then it resumed from the newest checkpoint and published the same bytes
    assert outcome.resumed_from_step >= (steps[-1] - 1) // EVERY * EVERY
    assert _published(config, outcome) == uninterrupted(kind)


def _first_update(config: TrainerConfig) -> int:
    """The first update that the next attempt can tell."""
    folder = config.job_folder / "checkpoints"
    newest = max((path.name for path in folder.glob("step-*")), default="step-0") if folder.exists() else "step-0"
    return min(int(newest.removeprefix("step-")) + 1, STEPS)


def test_killed_as_the_service_runs_it(tmp_path: Path, base: Base, photos: tuple[Path, ...]) -> None:
    # Given a trainer started as the service starts it
    config = _config(tmp_path, base, photos, "full")
    messages: list[TrainingProgress] = []

    def remember(payload: object) -> None:
        assert isinstance(payload, TrainingProgress)
        messages.append(payload)

    def kill_after_a_checkpoint(payload: object) -> None:
        remember(payload)
        if messages[-1].phase == "training" and messages[-1].step == EVERY + 1:
            os.kill(_only_child(), signal.SIGKILL)

    def run(on_progress: Callable[[object], None]) -> object:
        return run_job(
            "enlight.dreambooth_api.trainer:main",
            config,
            on_progress=on_progress,
            cancel=threading.Event(),
            cancel_grace_s=10,
        )

    # When it is killed after its first checkpoint
    with pytest.raises(WorkerUnavailable):
        run(kill_after_a_checkpoint)

    # Then the next one goes on from a checkpoint, and publishes
    messages.clear()
    outcome = run(remember)
    assert isinstance(outcome, TrainingOutcome)
    assert outcome.resumed_from_step >= EVERY
    assert {message.resumed_from_step for message in messages} == {0, outcome.resumed_from_step}
    assert _published(config, outcome)


def _only_child() -> int:
    """Process id of the trainer that this process started."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    trainers = [pid for pid in children if b"trainer:main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    assert len(trainers) == 1
    return int(trainers[0])
