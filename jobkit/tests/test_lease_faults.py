"""Leases and creates with real processes that are stopped and killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from embedded_servers import EmbeddedServer, mongo_server
from job_samples import new_job, opened, wait_for_server_time

from enlight.jobkit.job_store import JobStore
from enlight.jobkit.jobs import NewJob
from enlight.servicekit.errors import DatabaseUnavailable

LEASE_S = 0.3
HOLDER = Path(__file__).parent / "support/lease_holder.py"


@pytest.fixture
def mongo(tmp_path: Path) -> Iterator[EmbeddedServer]:
    with mongo_server(tmp_path / "mongo") as server:
        yield server


@contextmanager
def ended_at_the_end(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()  # a stopped one as well


def test_a_worker_that_slept_over_its_lease_changes_nothing(mongo: EmbeddedServer) -> None:
    with opened(mongo) as database:
        store = JobStore(database, lease_s=LEASE_S)
        store.make_indexes()
        holder = subprocess.Popen(
            [sys.executable, str(HOLDER), mongo.url, database.name, str(LEASE_S)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert holder.stdin is not None
        assert holder.stdout is not None
        with holder, ended_at_the_end(holder):
            for _ in range(10):
                # Given a process that holds a job, and is stopped
                job, _made = store.create(new_job())
                holder.stdin.write(f"{job.id}\n")
                holder.stdin.flush()
                assert holder.stdout.readline() == "holding\n"
                holder.send_signal(signal.SIGSTOP)
                # When its lease runs out, and another takes the job and commits it
                while not (lost := store.reap()):  # a renewal may still have been on its way
                    wait_for_server_time(database, store.get("ann", job.id).lease_until)
                heir = store.claim(job.id, "heir")
                assert heir is not None
                store.commit(job.id, heir.attempt, "heir's")
                # And the first wakes up
                holder.send_signal(signal.SIGCONT)
                # Then it knows that it lost the job
                tries = json.loads(holder.stdout.readline())
                assert tries == {"commit": "lost", "succeed": "lost", "release": "lost"}
                assert lost == [job.id]
                # And the job is the other's
                store.succeed(job.id, heir.attempt, {})
                assert store.get("ann", job.id).committed_version == "heir's"


def test_creates_that_a_dying_database_cuts_off_can_be_made_again(mongo: EmbeddedServer) -> None:
    new_jobs = [new_job(idempotency_key=f"k{number}") for number in range(60)]
    with opened(mongo, timeout_s=0.5) as database:
        store = JobStore(database, lease_s=30)
        store.make_indexes()

        def create(number: int) -> NewJob | None:
            if number == 30:
                mongo.kill()
            try:
                store.create(new_jobs[number])
            except DatabaseUnavailable:
                return None
            return new_jobs[number]

        # Given many creates, during which the database is killed
        with ThreadPoolExecutor(8) as pool:
            created = [new for new in pool.map(create, range(60)) if new is not None]
        # Then some went through, and the others say that the database is away
        assert 10 < len(created) < 60
    # When the database is back
    mongo.start()
    with opened(mongo, name=database.name) as database:
        store = JobStore(database, lease_s=30)
        # Then what was answered is there
        assert {new.id for new in created} <= {job.id for job in store.list("ann", limit=100)}
        # And each create can be made again, and finds its job, which is whole
        for new in new_jobs:
            job, made = store.create(new)
            assert (job.id, job.state, job.request, made) == (new.id, "queued", new.request, True)
        assert store.count("queued") == 60
