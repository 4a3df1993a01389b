"""The seed's ``/train``: the same road, and the client waits at its end."""

from __future__ import annotations

import http.client
import json
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from answers import assert_error
from gunicorn_servers import gunicorn_server
from training_gateway import TENANT_HEADER, Connections, Gateway, OpenGateway, train_body, training_body
from waiting import wait_until
from werkzeug.test import TestResponse

from enlight.dreambooth_api.requests import TrainingRequest
from enlight.dreambooth_api.schemas import TrainBody, TrainingBody
from enlight.main_api.trainings.start_training import StartHeaders, start_options
from enlight.servicekit.errors import ClientGone, InvalidField

pytest_plugins = ["training_fixtures"]

SUPPORT = Path(__file__).parent / "support"


def waiting_job(gate: Gateway, state: str = "queued", count: int = 1) -> str:
    """Id of a job in this state, as soon as there are ``count``."""
    jobs = gate.database["jobs"]
    assert wait_until(lambda: jobs.count_documents({"state": state}) == count)
    found = jobs.find_one({"state": state}, sort=[("_id", -1)])
    assert found is not None
    return str(found["_id"])


@contextmanager
def clients(gate: Gateway) -> Iterator[ThreadPoolExecutor]:
    """Threads for clients that wait; a test that fails sends them home."""
    with ThreadPoolExecutor(8) as pool:
        try:
            yield pool
        except BaseException:
            gate.service.stop()
            raise


def while_waiting(gate: Gateway, act: Callable[[str], object]) -> TestResponse:
    """The answer of ``/train`` when ``act`` happens to its job meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(gate.post, "/train", train_body("Alex"))
        act(waiting_job(gate))
        return answer.result(20)


def test_the_client_gets_the_seed_s_answer_at_the_end(gate: Gateway) -> None:
    answer = while_waiting(gate, gate.succeed)
    body = answer.json
    assert isinstance(body, dict)
    assert answer.status_code == 200
    assert (body["message"], body["model_id"]) == ("Training is done.", "Alex")
    assert all(isinstance(warning, str) for warning in body.get("warnings", []))
    # It is a training like any other
    listed = gate.get("/v1/trainings").json
    assert isinstance(listed, dict)
    assert [training["state"] for training in listed["trainings"]] == ["succeeded"]


def test_the_seed_s_fields_reach_the_worker(gate: Gateway) -> None:
    body = train_body("Alex", MAX_TRAINING_STEPS=7, LR=1e-4, MAIN_PROCESS_POR=28900)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(gate.post, "/train", body)
        job = gate.store.find(waiting_job(gate))
        assert job is not None
        gate.succeed(job.id)
        answer.result(20)
    request = TrainingRequest(**job.request, photos=())
    assert (request.max_training_steps, request.learning_rate, request.resolution_px) == (7, 1e-4, 64)


@pytest.mark.parametrize(
    ("code", "status", "shown"),
    [
        ("out_of_gpu_memory", 503, "out_of_gpu_memory"),
        ("weights_unavailable", 503, "weights_unavailable"),
        ("invalid_field", 422, "invalid_field"),
        ("job_failed", 500, "job_failed"),
        ("worker_lost", 500, "job_failed"),  # not a code of an answer
    ],
)
def test_a_failed_training_answers_with_its_reason(gate: Gateway, code: str, status: int, shown: str) -> None:
    answer = while_waiting(gate, lambda job_id: gate.fail(job_id, code, "It went wrong."))
    body = assert_error(answer, status, shown)
    assert body["message"] == "It went wrong."
    assert body["error"]["details"]["training_id"].startswith("tr-")


def test_a_cancelled_training_says_so(gate: Gateway) -> None:
    answer = while_waiting(gate, lambda job_id: gate.post(f"/v1/trainings/{job_id}/cancel", {}))
    assert_error(answer, 409, "job_cancelled")


def test_a_deleted_training_says_so(gate: Gateway) -> None:
    answer = while_waiting(gate, lambda job_id: gate.database["jobs"].delete_one({"_id": job_id}))
    assert_error(answer, 404, "not_found")


def test_clients_that_wait_are_bounded_and_a_refused_one_starts_nothing(open_gateway: OpenGateway) -> None:
    with open_gateway(max_training_waiters=1) as gate:

        def ask_too(job_id: str) -> None:
            limit = threading.Timer(10, gate.service.stop)  # one that is not refused would wait for ever
            limit.start()
            body = assert_error(gate.post("/train", train_body("other")), 503, "queue_full")
            limit.cancel()
            assert "/v1/trainings" in body["message"]
            assert gate.store.count("queued") == 1
            gate.succeed(job_id)

        assert while_waiting(gate, ask_too).status_code == 200
        # The place is free again
        assert while_waiting(gate, gate.succeed).status_code == 200


def test_the_stop_of_the_gateway_sends_clients_to_the_training(gate: Gateway) -> None:
    answer = while_waiting(gate, lambda _: gate.service.stop())
    body = assert_error(answer, 503, "worker_unavailable")
    assert f"/v1/trainings/{body['error']['details']['training_id']}" in body["message"]
    assert gate.store.count("queued") == 1


def test_the_same_body_joins_a_training_that_has_not_ended(gate: Gateway) -> None:
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(gate.post, "/train", train_body("Alex"))
        job_id = waiting_job(gate)
        again = pool.submit(gate.post, "/train", train_body("Alex"))
        other = pool.submit(gate.post, "/train", train_body("Alex", LR=1e-3))
        other_id = waiting_job(gate, count=2)
        assert wait_until(lambda: gate.service.watcher.watched_count == 3)
        gate.succeed(job_id)
        gate.fail(other_id, "job_failed", "x")
        assert (first.result(20).status_code, again.result(20).status_code) == (200, 200)
        assert other.result(20).status_code == 500
    assert gate.database["jobs"].count_documents({}) == 2
    # After its end the same body trains again; one that is being cancelled is not joined
    with ThreadPoolExecutor(2) as pool:
        third = pool.submit(gate.post, "/train", train_body("Alex"))
        third_id = waiting_job(gate)
        job = gate.claim(third_id)
        gate.post(f"/v1/trainings/{third_id}/cancel", {})
        fourth = pool.submit(gate.post, "/train", train_body("Alex"))
        gate.succeed(waiting_job(gate))
        gate.store.cancelled(third_id, job.attempt)
        assert (third.result(20).status_code, fourth.result(20).status_code) == (409, 200)


def test_a_request_with_a_key_is_joined_by_its_key_alone(gate: Gateway) -> None:
    body = train_body("Alex")
    with clients(gate) as pool:
        # Given a training without a key, and a request with one and the same body
        plain = pool.submit(gate.post, "/train", body)
        plain_id = waiting_job(gate)
        keyed = pool.submit(gate.post, "/train", body, Idempotency_Key="k")
        keyed_id = waiting_job(gate, count=2)
        gate.succeed(plain_id)
        gate.succeed(keyed_id)
        assert (plain.result(20).status_code, keyed.result(20).status_code) == (200, 200)
    # When the latter comes again after the end, its answer got lost, then it finds its training and starts none
    assert gate.post("/train", body, Idempotency_Key="k").status_code == 200
    assert gate.database["jobs"].count_documents({}) == 2
    # And a body for which the key was not used is a mistake, though a training of that body runs
    with clients(gate) as pool:
        other = pool.submit(gate.post, "/train", train_body("Alex", LR=1e-3))
        other_id = waiting_job(gate)
        again = gate.post("/train", train_body("Alex", LR=1e-3), Idempotency_Key="k")
        assert_error(again, 422, "invalid_field", "Idempotency-Key")
        gate.succeed(other_id)
        assert other.result(20).status_code == 200


def test_equal_requests_that_come_at_once_are_one_training(gate: Gateway) -> None:
    with clients(gate) as pool:
        answers = [pool.submit(gate.post, "/train", train_body("Alex")) for _ in range(8)]
        assert wait_until(lambda: gate.service.watcher.watched_count == 8)
        # Nothing is left of the seven that were not first
        job_id = waiting_job(gate)
        assert {info.key.split("/")[0] for info in gate.objects.list()} == {job_id}
        gate.succeed(job_id)
        assert [answer.result(20).status_code for answer in answers] == [200] * 8
    assert gate.database["jobs"].count_documents({}) == 1


def test_the_client_s_leaving_is_seen_by_the_waiter_alone(gate: Gateway) -> None:
    left = threading.Event()
    body = TrainBody(**train_body())
    options = start_options(StartHeaders(), body, private_webhooks=False)
    left.set()
    with pytest.raises(ClientGone, match="goes on"):
        gate.service.train("acme", gate.service.checker.from_train_body(body), options, left.is_set)
    assert gate.store.count("queued") == 1


def test_the_digest_tells_every_difference() -> None:
    photos = training_body()["photos"]

    def digest(url: str | None = None, **changes: Any) -> str:
        headers = StartHeaders(**{"X-Webhook-URL": url})
        body = TrainingBody(**{**training_body(), **changes})
        return start_options(headers, body, private_webhooks=False).body_digest

    different = [
        digest(),
        digest(instance_prompt="a sks cat"),
        digest(photos=photos[::-1]),
        digest(photos=photos[:2]),
        digest(seed=1),
        digest(url="http://example.com/"),
        digest(url="http://example.com/2"),
    ]
    assert len(set(different)) == len(different)
    assert digest() == digest()
    with pytest.raises(InvalidField):
        digest(url="http://localhost:1/\n")


@pytest.fixture
def port(connections: Connections) -> Iterator[int]:
    """A gateway under a real gunicorn."""
    named = {
        "MONGO_URL": connections.mongo_url,
        "QUEUE_URL": connections.queue_url,
        "DATABASE": connections.database,
        "FOLDER": str(connections.folder),
    }
    with gunicorn_server(
        "training_service_app:gunicorn_app()",
        *("--worker-class", "gthread", "--threads", "4"),
        python_path=",".join(sys.path),
        environment={f"TRAINING_TEST_{name}": value for name, value in named.items()},
    ) as server:
        yield server.port


def test_a_client_that_hangs_up_does_not_end_its_training(gate: Gateway, port: int) -> None:
    # Given a client of a real server that waits for its training
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as client:
        headers = {"Content-Type": "application/json", TENANT_HEADER: "acme"}
        client.request("POST", "/train", json.dumps(train_body("Alex")), headers)
        job_id = waiting_job(gate)
        # When it hangs up
    # Then the training waits on, is run, and keeps its photos for that
    assert len(gate.keys(job_id)) == 3
    gate.succeed(job_id)
    # And the server's thread is free: all four answer at once
    clients = [http.client.HTTPConnection("127.0.0.1", port, timeout=20) for _ in range(4)]
    for each in clients:
        each.request("GET", f"/v1/trainings/{job_id}", headers={TENANT_HEADER: "acme"})
    for each in clients:
        assert json.loads(each.getresponse().read())["state"] == "succeeded"
        each.close()
