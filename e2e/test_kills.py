"""kill -9 of the engine, of the trainer, of the whole service; clients that leave; a service that is asked to stop."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from clients import (
    assert_error,
    child_pid,
    eventually,
    generation_body,
    get,
    post,
    running_service,
    service_in,
    service_processes,
    train_body,
    training_body,
    trainings,
)

from enlight.servicekit.local_service import LocalService

ENGINE = "enlight.dreambooth_api.engine"
TRAINER = "enlight.dreambooth_api.trainer"
LONG = {"num_images": 20, "num_inference_steps": 1000}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalService]:
    folder = tmp_path_factory.mktemp("kills")
    with running_service(folder, max_inference_requests=2, checkpoint_every_steps=2) as service:
        yield service


def engine_status(service: LocalService) -> dict[str, Any]:
    """What /ready says of the engine."""
    status: dict[str, Any] = get(service, "/ready").json()["details"]["engine"]
    return status


def in_background(pool: ThreadPoolExecutor, service: LocalService, path: str, body: object) -> Any:
    return pool.submit(post, service, path, body)


def test_kill_9_of_the_engine_fails_what_is_in_flight_retryably_and_the_next_request_works(
    service: LocalService,
) -> None:
    with ThreadPoolExecutor(1) as pool:
        # Given a generation in flight
        waiting = in_background(pool, service, "/v1/generations", generation_body(**LONG))
        eventually(lambda: engine_status(service)["pending"] == 1, "the generation")
        restarts = engine_status(service)["restarts"]
        # When the engine is killed
        os.kill(child_pid(service, ENGINE), signal.SIGKILL)
        # Then the request gets a retryable answer
        assert_error(waiting.result(), 503, "worker_unavailable")
    # And the service lives, and the retry works
    assert get(service, "/live").status_code == 200
    answer = post(service, "/v1/generations", generation_body())
    assert answer.status_code == 200, answer.text
    assert engine_status(service)["restarts"] == restarts + 1


def test_a_full_service_refuses_at_once_and_still_answers_health_checks(service: LocalService) -> None:
    with ThreadPoolExecutor(2) as pool:
        # Given every slot taken
        waiting = [in_background(pool, service, "/v1/generations", generation_body(**LONG)) for _ in range(2)]
        eventually(lambda: engine_status(service)["pending"] == 2, "both slots taken")
        # When one more comes, then it is refused, and /live answers within 100 ms
        began = time.monotonic()
        assert_error(post(service, "/v1/generations", generation_body()), 503, "queue_full")
        assert time.monotonic() - began < 2
        seconds = []
        for _ in range(11):
            began = time.monotonic()
            assert get(service, "/live").status_code == 200
            seconds.append(time.monotonic() - began)
        assert sorted(seconds)[5] < 0.1
        os.kill(child_pid(service, ENGINE), signal.SIGKILL)
        for one in waiting:
            assert_error(one.result(), 503, "worker_unavailable")
    eventually(lambda: engine_status(service)["state"] == "ready", "the engine")


def test_a_client_that_leaves_takes_its_generation_with_it(service: LocalService) -> None:
    # Given a long generation
    body = json.dumps(generation_body(**LONG)).encode()
    host, port = service.url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)))
    head = f"POST /v1/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    client.sendall(head.encode() + b"\r\n\r\n" + body)
    eventually(lambda: engine_status(service)["pending"] == 1, "the generation")
    # When its client goes
    client.close()
    # Then the engine is free again within a denoising step, not after a thousand
    eventually(lambda: engine_status(service)["pending"] == 0, "the engine to drop it", timeout_s=5)
    answer = post(service, "/v1/generations", generation_body())
    assert answer.status_code == 200


def test_kill_9_of_the_trainer_is_survived_by_the_request_itself(service: LocalService) -> None:
    with ThreadPoolExecutor(1) as pool:
        # Given a training that has written a checkpoint
        waiting = in_background(pool, service, "/train", train_body(OUTPUT_DIR="killed", MAX_TRAINING_STEPS=30))
        eventually(lambda: _step(service) >= 3, "some steps")
        # When its process is killed
        os.kill(child_pid(service, TRAINER), signal.SIGKILL)
        # Then the same request ends well, from the checkpoint on
        answer = waiting.result()
    assert (answer.status_code, answer.json()["model_id"]) == (200, "killed")
    job = trainings(service)[0]
    assert job["attempt"] == 2
    assert job["progress"]["resumed_from_step"] >= 2


def _step(service: LocalService) -> int:
    listed = trainings(service)
    progress = listed[0]["progress"] if listed and listed[0]["state"] == "running" else None
    return progress["step"] if progress and progress["phase"] == "training" else 0


def test_a_client_that_leaves_cancels_its_training(service: LocalService) -> None:
    body = json.dumps(train_body(OUTPUT_DIR="left", MAX_TRAINING_STEPS=100_000)).encode()
    host, port = service.url.removeprefix("http://").split(":")
    client = socket.create_connection((host, int(port)))
    head = f"POST /train HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    client.sendall(head.encode() + b"\r\n\r\n" + body)
    eventually(lambda: _step(service) >= 1, "a first step")
    client.close()
    eventually(lambda: trainings(service)[0]["state"] == "cancelled", "the training's end", timeout_s=10)


def test_kill_9_of_the_whole_service_leaves_no_process_and_an_identical_request_resumes(
    tmp_path: Path,
) -> None:
    # Given a service with a synchronous training in flight, past a checkpoint
    service = service_in(tmp_path, checkpoint_every_steps=2)
    service.start()
    body = train_body(OUTPUT_DIR="resumed", MAX_TRAINING_STEPS=40)
    client = threading.Thread(target=_post_and_lose, args=(service, body))
    client.start()
    eventually(lambda: _step(service) >= 3, "some steps")
    # When all of gunicorn is killed
    service.kill()
    client.join(30)
    # Then engine and trainer notice and go
    eventually(lambda: not service_processes(tmp_path), "no process left behind", timeout_s=10)
    assert not (tmp_path / "data/modelids/resumed").exists()
    # And after a new start the identical request goes on from the checkpoint
    service.start()
    try:
        answer = post(service, "/train", body)
        assert answer.status_code == 200, answer.text
        assert trainings(service)[0]["progress"]["resumed_from_step"] >= 2
    finally:
        assert service.stop() == 0


def _post_and_lose(service: LocalService, body: object) -> None:
    try:
        post(service, "/train", body)
    except OSError:
        return  # the service was killed under it
    raise AssertionError("the request should have been lost")


def test_an_accepted_training_outlives_kill_9_and_sigterm_of_the_service(tmp_path: Path) -> None:
    # Given an accepted training
    service = service_in(tmp_path, checkpoint_every_steps=2)
    service.start()
    started = post(service, "/v1/trainings", training_body(model_id="outlived", max_training_steps=40)).json()
    eventually(lambda: _step(service) >= 3, "some steps")
    # When the service is killed, starts again, and is then stopped in an orderly way
    service.kill()
    service.start()
    eventually(lambda: _step(service) >= 5, "it to go on by itself")
    assert service.stop() == 0
    assert not service_processes(tmp_path)
    # Then after the next start it ends well
    service.start()
    try:
        path = f"/v1/trainings/{started['id']}"
        eventually(lambda: get(service, path).json()["state"] == "succeeded", "its end", timeout_s=120)
        job = get(service, path).json()
        assert job["progress"]["resumed_from_step"] >= 2
        assert job["attempt"] == 2, "the orderly stop is no failed attempt"
        assert post(service, "/v1/generations", generation_body(model_id="outlived")).status_code == 200
    finally:
        service.stop()
