"""What who runs the machines sees of a whole suite: of a real dreambooth-api on the pocket model, which hangs for a
while, of a real worker, and of what was asked of them."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from clients import POCKET, child_pid, eventually
from local_suite import LocalSuite
from suite_trainings import start_training, training

MODEL = "my-toy"
SETTINGS = {
    "DREAMBOOTH_API_": {"CPU_THREADS": "1"},
    "DREAMBOOTH_WORKER_": {"CPU_THREADS": "1", "PROGRESS_EVERY_S": "0.1"},
}


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSuite]:
    folder = tmp_path_factory.mktemp("suite")
    with LocalSuite(folder / "data", folder, services=("dreambooth-api", "bgrem"), settings=SETTINGS) as suite:
        yield suite


@pytest.fixture(scope="module")
def training_id(suite: LocalSuite) -> str:
    """A training that was looked at while it ran, and has made `MODEL`."""
    job_id = start_training(suite, MODEL, steps=20)
    busy = eventually(
        lambda: [each for each in workers(suite) if each["training_id"] == job_id], "a worker with it", timeout_s=60
    )
    assert [(each["service"], each["state"], each["host"]) for each in busy] == [
        ("training-worker", "busy", socket.gethostname())
    ]
    eventually(lambda: (training(suite, job_id) or {})["state"] == "succeeded", "the training's end", timeout_s=120)
    return job_id


def ask(suite: LocalSuite, path: str) -> dict[str, Any]:
    answer = requests.get(f"{suite.url}{path}", timeout=30)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def workers(suite: LocalSuite) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ask(suite, "/v1/workers")["workers"]
    return found


def worker(suite: LocalSuite, service: str) -> dict[str, Any]:
    (found,) = [each for each in workers(suite) if each["service"] == service]
    return found


def generate(suite: LocalSuite) -> requests.Response:
    body = {"model_id": MODEL, "prompt": "a sks toy", "num_inference_steps": 4, "seed": 3}
    return requests.post(f"{suite.url}/v1/generations", json=body, timeout=120)


@contextmanager
def hanging(suite: LocalSuite, name: str) -> Iterator[None]:
    """Within it, all processes of the part are stopped."""
    part = suite.parts[name]
    pids = [part.pid, child_pid(part, "gunicorn")]  # type: ignore[arg-type]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


def test_a_worker_that_waits_is_ready(suite: LocalSuite, training_id: str) -> None:
    waiting = eventually(
        lambda: [each for each in workers(suite) if each["service"] == "training-worker" and each["state"] == "ready"],
        "a worker that waits",
    )
    assert [(each["training_id"], each["running"]) for each in waiting] == [(None, 0)]
    assert ask(suite, "/v1/workers")["queue"] == {"queued": 0, "running": 0}


def test_a_model_that_made_pictures_is_at_hand(suite: LocalSuite, training_id: str) -> None:
    assert generate(suite).status_code == 200

    def resident() -> list[dict[str, Any]]:
        models: list[dict[str, Any]] = worker(suite, "dreambooth-api")["resident_models"]
        return [model for model in models if model["tenant"] is not None]

    (model,) = eventually(resident, "the model in memory")
    assert (model["model_id"], model["tenant"], model["tier"]) == (MODEL, "local", "resident")
    shown = ask(suite, f"/v1/models/{MODEL}")
    assert shown["cached_on"] == [{"host": socket.gethostname(), "tier": "resident", "version": shown["version"]}]
    process = worker(suite, "dreambooth-api")
    assert POCKET in [each["model_id"] for each in process["resident_models"]]
    assert (process["device"], process["memory_kind"], process["state"]) == ("cpu", "host", "ready")
    assert 0 < process["memory_used_bytes"] < process["memory_total_bytes"]


def test_a_service_that_hangs_is_unreachable_and_the_others_are_shown(suite: LocalSuite, training_id: str) -> None:
    eventually(lambda: worker(suite, "bgrem")["state"] == "ready", "bgrem")
    with hanging(suite, "dreambooth-api"):
        eventually(lambda: worker(suite, "dreambooth-api")["state"] == "unreachable", "a look that sees that it hangs")
        for _ in range(5):
            assert worker(suite, "bgrem")["state"] == "ready"
            assert worker(suite, "dreambooth-api")["device"] == "cpu"
        assert ask(suite, f"/v1/models/{MODEL}")["cached_on"] == []
    eventually(lambda: worker(suite, "dreambooth-api")["state"] == "ready", "that it is seen again")


def test_what_was_asked_is_in_the_statistics_and_what_went_wrong_among_the_errors(
    suite: LocalSuite, training_id: str
) -> None:
    # With a seed: nothing is computed again, once the gateway knows the service's version for sure
    eventually(lambda: generate(suite).headers["X-Cache"] == "hit", "an answer from the cache")
    missing = requests.get(f"{suite.url}/v1/models/nothing", timeout=30)

    def row() -> dict[str, Any]:
        return next((row for row in ask(suite, "/v1/stats")["routes"] if row["route"] == "/v1/generations"), {})

    eventually(lambda: row().get("cache_hits", 0) >= 1, "the requests in the sums")
    assert row()["cache_hits"] + row()["cache_misses"] == row()["requests"]
    assert ask(suite, "/v1/stats")["trainings"]["succeeded"] == 1
    errors = ask(suite, "/v1/errors")["errors"]
    assert [(error["status"], error["code"], error["message"]) for error in errors[:1]] == [
        (404, "not_found", missing.json()["message"])
    ]
    assert errors[0]["request_id"] == missing.headers["X-Request-ID"]
