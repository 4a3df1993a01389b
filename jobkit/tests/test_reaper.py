"""The reaper, with a real database and a real queue that fail."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from embedded_servers import EmbeddedServer, valkey_server
from job_samples import new_job, opened
from waiting import wait_until

from enlight.jobkit.database import Documents
from enlight.jobkit.dispatcher import Dispatcher
from enlight.jobkit.job_store import JobStore
from enlight.jobkit.reaper import Reaper


@pytest.fixture
def database(mongo: EmbeddedServer) -> Iterator[Documents]:
    with opened(mongo, timeout_s=1) as database:
        yield database


@pytest.fixture
def store(database: Documents) -> JobStore:
    store = JobStore(database, lease_s=0.3)
    store.make_indexes()
    return store


@pytest.fixture(scope="module")
def queue_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with valkey_server(tmp_path_factory.mktemp("queue") / "data") as server:
        yield server


@pytest.fixture
def dispatcher(queue_valkey: EmbeddedServer) -> Iterator[Dispatcher]:
    flush(queue_valkey)
    dispatcher = Dispatcher(queue_valkey.url, timeout_s=0.2)
    yield dispatcher
    dispatcher.close()


def flush(server: EmbeddedServer) -> None:
    with redis.Redis.from_url(server.url) as client:
        client.flushall()


@contextmanager
def reaping(store: JobStore, dispatcher: Dispatcher, *, redispatch_after_s: float = 0.0) -> Iterator[Reaper]:
    reaper = Reaper(store, dispatcher, interval_s=0.05, redispatch_after_s=redispatch_after_s)
    reaper.start()
    try:
        yield reaper
    finally:
        reaper.stop()


def test_a_lost_job_goes_to_the_front_of_the_queue(
    store: JobStore, dispatcher: Dispatcher, queue_valkey: EmbeddedServer
) -> None:
    # Given two jobs in the queue, and one whose worker is gone
    lost = store.create(new_job())[0].id
    store.claim(lost, "gone")
    waiting = [store.create(new_job())[0].id for _ in range(2)]
    for job_id in waiting:
        dispatcher.dispatch(job_id)
    # When the reaper is at it
    with reaping(store, dispatcher):
        # Then the lost job is in the queue
        assert wait_until(lambda: dispatcher.waiting() == {lost, *waiting})
    # And a worker gets it first
    with redis.Redis.from_url(queue_valkey.url) as client:
        first = client.lrange("rq:queue:train", 0, 0)[0].decode()
    assert first.startswith(lost)
    assert store.find_many([lost])[lost].state == "queued"


def test_a_flushed_queue_is_filled_again(store: JobStore, dispatcher: Dispatcher, queue_valkey: EmbeddedServer) -> None:
    # Given jobs in the queue
    ids = {store.create(new_job())[0].id for _ in range(3)}
    with reaping(store, dispatcher):
        assert wait_until(lambda: dispatcher.waiting() == ids)
        # When the queue loses them
        flush(queue_valkey)
        # Then they come back
        assert wait_until(lambda: dispatcher.waiting() == ids)


def test_a_job_in_the_queue_is_not_put_there_again(
    store: JobStore, dispatcher: Dispatcher, queue_valkey: EmbeddedServer
) -> None:
    # Given a job that waits in the queue for long
    job, _ = store.create(new_job())
    reaper = Reaper(store, dispatcher, interval_s=1, redispatch_after_s=0)
    for _ in range(5):
        reaper.run_once()
    # Then it is there once
    with redis.Redis.from_url(queue_valkey.url) as client:
        assert client.llen("rq:queue:train") == 1
    assert dispatcher.waiting() == {job.id}


def test_a_job_that_a_worker_just_took_off_the_queue_gets_time(
    store: JobStore, dispatcher: Dispatcher, queue_valkey: EmbeddedServer
) -> None:
    # Given a job that was given back, and dispatched again
    job, _ = store.create(new_job())
    store.claim(job.id, "w")
    store.release(job.id, 1)
    reaper = Reaper(store, dispatcher, interval_s=1)
    reaper.run_once()
    assert dispatcher.waiting() == {job.id}
    # When it is out of the queue, and not claimed yet
    flush(queue_valkey)
    reaper.run_once()
    # Then it is not dispatched once more at once
    assert dispatcher.waiting() == set()


def test_a_fresh_job_is_left_to_whoever_created_it(store: JobStore, dispatcher: Dispatcher) -> None:
    store.create(new_job())
    Reaper(store, dispatcher, interval_s=1).run_once()
    assert dispatcher.waiting() == set()


def test_jobs_wait_for_a_dead_queue(tmp_path: Path, store: JobStore) -> None:
    with valkey_server(tmp_path / "queue") as server:
        dispatcher = Dispatcher(server.url, timeout_s=0.2)
        # Given a queue that is dead when a job comes
        server.kill()
        job, _ = store.create(new_job())
        assert not dispatcher.dispatch(job.id)
        with reaping(store, dispatcher):
            # When it is back
            server.start()
            # Then the job is there
            assert wait_until(lambda: dispatcher.waiting() == {job.id})
        dispatcher.close()


def test_an_outage_of_the_database_costs_no_worker_its_job(
    mongo: EmbeddedServer,
    store: JobStore,
    database: Documents,
    dispatcher: Dispatcher,
    caplog: pytest.LogCaptureFixture,
) -> None:
    patient = JobStore(database, lease_s=4)
    job, _ = patient.create(new_job())
    claimed = patient.claim(job.id, "w")
    assert claimed is not None
    lease_until = claimed.lease_until
    assert lease_until is not None
    with caplog.at_level(logging.ERROR, logger="enlight.jobkit.reaper"), reaping(patient, dispatcher):
        # Given a database that is away for longer than the lease of a running job
        mongo.pause()
        try:
            assert wait_until(lambda: bool(caplog.records) and datetime.now(UTC) > lease_until)
        finally:
            mongo.resume()
        # When the reaper is at it again (it dispatches what waits), before the worker can renew
        other, _ = patient.create(new_job())
        assert wait_until(lambda: dispatcher.waiting() == {other.id})
        # Then the job is still its own
        assert not patient.renew(job.id, 1)
        # And once its worker is gone, the job is found all the same
        assert wait_until(lambda: patient.get("ann", job.id).lost_attempts == 1, 15)
    # And the log says once what happened
    assert len(caplog.records) == 1


def test_stopping_ends_the_thread(store: JobStore, dispatcher: Dispatcher) -> None:
    reaper = Reaper(store, dispatcher, interval_s=3600)
    reaper.stop()
    reaper.start()
    reaper.stop()
