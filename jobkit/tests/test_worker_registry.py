"""What the queue knows of its workers, as RQ itself writes it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
import rq
from embedded_servers import EmbeddedServer, valkey_server
from redis_servers import PROGRAMS
from rq.worker import WorkerStatus

from enlight.jobkit.dispatcher import SERIALIZER, TRAIN_QUEUE, connect_queue
from enlight.jobkit.worker_registry import WorkerRegistry


@pytest.fixture(params=PROGRAMS)
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedServer]:
    """Valkey, and then Redis."""
    with valkey_server(tmp_path / "queue", program=request.param) as server:
        yield server


@pytest.fixture
def connection(queue: EmbeddedServer) -> Iterator[redis.Redis]:
    connection = connect_queue(queue.url, timeout_s=2)
    yield connection
    connection.close()


def born(connection: redis.Redis, queue: str = TRAIN_QUEUE) -> rq.SimpleWorker:
    worker = rq.SimpleWorker([queue], connection=connection, serializer=SERIALIZER)
    worker.register_birth()  # type: ignore[no-untyped-call]  # RQ's
    worker.set_state(WorkerStatus.IDLE)
    return worker


def test_workers_are_known_from_their_birth_to_their_death(connection: redis.Redis) -> None:
    registry = WorkerRegistry(connection)
    assert registry.workers() == []
    # Given a worker of this queue, and one of another
    worker = born(connection)
    born(connection, "another")
    # Then it is known under the name that stands in its jobs
    (known,) = registry.workers()
    assert (known.name, known.is_busy) == (f"{socket.gethostname()}:{os.getpid()}", False)
    assert datetime.now(UTC) - known.seen_at < timedelta(seconds=60)
    worker.set_state(WorkerStatus.BUSY)
    assert registry.workers()[0].is_busy
    # And not when it has said goodbye
    worker.register_death()  # type: ignore[no-untyped-call]
    assert registry.workers() == []


def test_one_that_left_a_name_without_a_record_is_none(connection: redis.Redis) -> None:
    worker = born(connection)
    connection.delete(worker.key)
    assert WorkerRegistry(connection).workers() == []
    # A record of half a worker is none either
    connection.hset(worker.key, "hostname", "h")
    assert WorkerRegistry(connection).workers() == []


def test_a_queue_that_is_away_is_said(queue: EmbeddedServer, connection: redis.Redis) -> None:
    queue.kill()
    with pytest.raises(redis.RedisError):
        WorkerRegistry(connection).workers()
