"""kill -9 of each part of the suite during a training: the job ends once, and its model is there once."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil
import pytest
import requests
from clients import eventually
from local_suite import LocalSuite
from suite_trainings import start_training, training

STEPS = 60
LEASE_S = 2.0
SETTINGS = {
    "MAIN_API_": {"LEASE_S": str(LEASE_S), "REAP_EVERY_S": "0.3", "MONGO_TIMEOUT_S": "2"},
    "DREAMBOOTH_WORKER_": {
        "LEASE_S": str(LEASE_S),
        "CHECKPOINT_EVERY_STEPS": "5",
        "CHECKPOINT_POLL_S": "0.1",
        "PROGRESS_EVERY_S": "0.1",
        "CPU_THREADS": "1",
    },
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSuite]:
    folder = tmp_path_factory.mktemp("suite")
    with LocalSuite(folder / "data", folder, services=(), settings=SETTINGS) as suite:
        yield suite


def step(suite: LocalSuite, job_id: str) -> int:
    record = training(suite, job_id)
    return (record["progress"] or {"step": 0})["step"] if record else 0


def kill_trainer(suite: LocalSuite) -> None:
    for child in psutil.Process(suite.parts["worker"].pid).children(recursive=True):
        if "enlight.dreambooth_api.trainer" in " ".join(child.cmdline()):
            child.kill()


@pytest.mark.parametrize("victim", ["trainer", "worker", "main-api", "queue", "database", "cache"])
def test_a_training_ends_once_whatever_is_killed(suite: LocalSuite, victim: str) -> None:
    # Given a training that has made a few steps
    job_id = start_training(suite, f"toy-{victim}", steps=STEPS)
    eventually(lambda: step(suite, job_id) >= 8, "the training's first steps", timeout_s=120)
    # When the part is killed, and started again a moment later
    if victim == "trainer":
        kill_trainer(suite)
    else:
        suite.parts[victim].kill()
        time.sleep(0.5)
        suite.parts[victim].start()
    # Then the training succeeds, and its model is there once
    eventually(
        lambda: (training(suite, job_id) or {}).get("state") in ("succeeded", "failed"), "the end", timeout_s=180
    )
    record = training(suite, job_id)
    assert record is not None
    assert record["state"] == "succeeded", record
    # A database that takes longer to come back than a lease lasts costs the job its worker as well
    assert record["attempt"] in {"trainer": [2], "worker": [2], "database": [1, 2]}.get(victim, [1])
    shown = requests.get(f"{suite.url}/v1/models/toy-{victim}", timeout=30).json()
    assert [version["version"] for version in shown["versions"]] == [record["model_version"]], shown
    # And it goes on from a checkpoint, not from the beginning
    if victim in ("trainer", "worker"):
        assert record["progress"]["resumed_from_step"] >= 5
