"""The way to the queue: what a worker finds there, and how little it matters when it is away."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import rq
from embedded_servers import EmbeddedServer, valkey_server
from redis_servers import PROGRAMS

from enlight.jobkit.dispatcher import SERIALIZER, TRAIN_QUEUE, Dispatcher

WORKER = Path(__file__).parent / "support/echo_worker.py"


@pytest.fixture(params=PROGRAMS)
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedServer]:
    """Valkey, and then Redis."""
    with valkey_server(tmp_path / "queue", appendonly=True, program=request.param) as server:
        yield server


@pytest.fixture
def dispatcher(queue: EmbeddedServer) -> Iterator[Dispatcher]:
    dispatcher = Dispatcher(queue.url, timeout_s=0.2)
    yield dispatcher
    dispatcher.close()


def test_a_worker_gets_the_ids_in_order(queue: EmbeddedServer, dispatcher: Dispatcher) -> None:
    # Given three dispatched jobs, the last one at the front, one of them twice
    assert dispatcher.waiting() == set()
    assert dispatcher.dispatch("tr-1")
    assert dispatcher.dispatch("tr-2")
    assert dispatcher.dispatch("tr-1")
    assert dispatcher.dispatch("tr-3", at_front=True)
    assert dispatcher.waiting() == {"tr-1", "tr-2", "tr-3"}
    # When RQ's own worker, with its own serializer setting, empties the queue
    done = subprocess.run(
        [sys.executable, str(WORKER), queue.url], capture_output=True, text=True, check=True, timeout=60
    )
    # Then it was asked to call the worker's function for each
    assert [json.loads(line) for line in done.stdout.splitlines()] == ["tr-3", "tr-1", "tr-2", "tr-1"]
    # And nothing of them is left
    assert dispatcher.waiting() == set()
    client = redis.Redis.from_url(queue.url)
    assert list(client.scan_iter("rq:job:*")) == []
    client.close()


def test_the_queue_holds_json(queue: EmbeddedServer, dispatcher: Dispatcher) -> None:
    dispatcher.dispatch("tr-1")
    client = redis.Redis.from_url(queue.url)
    [job] = rq.Queue(TRAIN_QUEUE, connection=client, serializer=SERIALIZER).get_jobs()
    assert json.loads(job.data) == ["enlight.dreambooth_api.worker_job.run", None, ["tr-1"], {}]
    assert (job.timeout, job.result_ttl, job.retries_left) == (-1, 0, None)
    client.close()


def test_an_absent_queue_is_no_error_and_is_logged_once(
    queue: EmbeddedServer, dispatcher: Dispatcher, caplog: pytest.LogCaptureFixture
) -> None:
    queue.kill()
    with caplog.at_level(logging.WARNING, logger="enlight.jobkit"):
        assert not dispatcher.dispatch("tr-1")
        assert not dispatcher.dispatch("tr-2")
        assert dispatcher.waiting() is None
        assert len(caplog.records) == 1
        # And it is used again when it is back
        queue.start()
        assert dispatcher.dispatch("tr-1")
        queue.kill()
        assert dispatcher.waiting() is None
        assert len(caplog.records) == 2


def test_a_silent_queue_costs_its_timeout_only(queue: EmbeddedServer, dispatcher: Dispatcher) -> None:
    assert dispatcher.dispatch("tr-1")
    queue.pause()
    try:
        started = time.monotonic()
        assert not dispatcher.dispatch("tr-2")
        assert dispatcher.waiting() is None
        assert time.monotonic() - started < 2
    finally:
        queue.resume()
    assert dispatcher.dispatch("tr-3")


def test_the_queue_survives_its_server(queue: EmbeddedServer, dispatcher: Dispatcher) -> None:
    dispatcher.dispatch("tr-1")
    queue.kill()
    queue.start()
    assert dispatcher.waiting() == {"tr-1"}
