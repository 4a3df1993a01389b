"""Training workers, put together from what the queue and the jobs' records say."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import rq
from embedded_servers import EmbeddedServer, valkey_server
from job_samples import new_job, opened
from redis import Redis
from rq.worker import WorkerStatus
from waiting import wait_until

from enlight.jobkit.database import Documents
from enlight.jobkit.dispatcher import SERIALIZER, TRAIN_QUEUE, connect_queue
from enlight.jobkit.job_statistics import JobStatistics
from enlight.jobkit.job_store import JobStore
from enlight.jobkit.worker_registry import WorkerRegistry
from enlight.main_api.workers.training_workers import SILENT, TrainingWorkers

ITSELF = f"{socket.gethostname()}:{os.getpid()}"


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with valkey_server(tmp_path / "queue") as server:
        yield server


@pytest.fixture
def connection(queue: EmbeddedServer) -> Iterator[Redis]:
    connection = connect_queue(queue.url, timeout_s=0.5)
    yield connection
    connection.close()


@pytest.fixture
def database(mongo: EmbeddedServer) -> Iterator[Documents]:
    with opened(mongo) as database:
        yield database


@pytest.fixture
def workers(connection: Redis, database: Documents) -> TrainingWorkers:
    return TrainingWorkers(WorkerRegistry(connection), JobStatistics(database))


def born(connection: Redis) -> rq.SimpleWorker:
    worker = rq.SimpleWorker([TRAIN_QUEUE], connection=connection, serializer=SERIALIZER)
    worker.register_birth()  # type: ignore[no-untyped-call]  # RQ's
    worker.set_state(WorkerStatus.IDLE)
    return worker


def seen(workers: TrainingWorkers) -> list[tuple[str, str, str | None]]:
    return [(worker.name, worker.state, worker.training_id) for worker in workers.seen()]


def test_a_worker_is_one_whether_it_waits_or_works(
    connection: Redis, database: Documents, workers: TrainingWorkers
) -> None:
    # Given a worker that waits
    worker = born(connection)
    assert seen(workers) == [(ITSELF, "ready", None)]
    assert workers.seen()[0].host == socket.gethostname()
    # When it takes a job, then the job is its
    worker.set_state(WorkerStatus.BUSY)
    store = JobStore(database, lease_s=30)
    job, _ = store.create(new_job())
    store.claim(job.id, ITSELF)
    assert seen(workers) == [(ITSELF, "busy", job.id)]
    # And so it is when the queue has forgotten the worker, which tells it nothing meanwhile
    connection.flushall()
    assert seen(workers) == [(ITSELF, "busy", job.id)]


def test_a_queue_that_is_away_takes_away_only_those_who_wait(
    queue: EmbeddedServer, connection: Redis, database: Documents, workers: TrainingWorkers
) -> None:
    born(connection)
    store = JobStore(database, lease_s=30)
    job, _ = store.create(new_job())
    store.claim(job.id, "another:7")
    assert seen(workers) == sorted([("another:7", "busy", job.id), (ITSELF, "ready", None)])
    queue.kill()
    assert seen(workers) == [("another:7", "busy", job.id)]


def test_a_worker_whose_lease_ran_out_cannot_be_reached(database: Documents, workers: TrainingWorkers) -> None:
    store = JobStore(database, lease_s=0.05)
    job, _ = store.create(new_job())
    claimed = store.claim(job.id, "another:7")
    assert claimed is not None
    assert wait_until(lambda: seen(workers) == [("another:7", "unreachable", job.id)])
    assert workers.seen()[0].seen_at == claimed.renewed_at


def test_one_that_is_silent_cannot_be_reached(connection: Redis, workers: TrainingWorkers) -> None:
    worker = born(connection)
    last = datetime.now(UTC) - SILENT - timedelta(seconds=5)
    connection.hset(worker.key, "last_heartbeat", last.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    assert seen(workers) == [(ITSELF, "unreachable", None)]
    worker.heartbeat()
    assert seen(workers) == [(ITSELF, "ready", None)]
