"""Leases: one holder at a time, whoever sleeps, dies or races; and an end for jobs that kill their workers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from embedded_servers import EmbeddedServer, mongo_server
from job_samples import new_job, wait_for_server_time
from memory_folder import memory_folder

from enlight.jobkit.database import Documents
from enlight.jobkit.job_leases import LeaseLost
from enlight.jobkit.job_store import JobStore
from enlight.jobkit.jobs import Job

LEASE_S = 0.3


@pytest.fixture(scope="module")
def mongo() -> Iterator[EmbeddedServer]:
    with memory_folder() as folder, mongo_server(folder / "data") as server:
        yield server


@pytest.fixture
def hasty(database: Documents) -> JobStore:
    """A store whose leases run out soon."""
    store = JobStore(database, lease_s=LEASE_S)
    store.make_indexes()
    return store


def claimed(store: JobStore, worker: str = "w", job_id: str | None = None) -> Job:
    job = store.claim(job_id or store.create(new_job())[0].id, worker)
    assert job is not None
    return job


def lost(store: JobStore, database: Documents, job: Job) -> list[str]:
    """Lets the job's lease run out and gives what the reaper gives."""
    wait_for_server_time(database, job.lease_until)
    return store.reap()


def holders_calls(store: JobStore, job: Job, version: str = "v") -> dict[str, Callable[[], object]]:
    return {
        "renew": lambda: store.renew(job.id, job.attempt),
        "renew with progress": lambda: store.renew(job.id, job.attempt, {"step": 1}),
        "commit": lambda: store.commit(job.id, job.attempt, version),
        "succeed": lambda: store.succeed(job.id, job.attempt, {}),
        "fail": lambda: store.fail(job.id, job.attempt, {"code": "x"}),
        "cancelled": lambda: store.cancelled(job.id, job.attempt),
        "release": lambda: store.release(job.id, job.attempt),
    }


def allowed(calls: dict[str, Callable[[], object]]) -> list[str]:
    """Makes the calls and gives the names of those that did not raise LeaseLost."""

    def passes(call: Callable[[], object]) -> bool:
        try:
            call()
        except LeaseLost:
            return False
        return True

    return [name for name, call in calls.items() if passes(call)]


def test_one_of_sixteen_claims_wins(store: JobStore) -> None:
    for _ in range(20):
        # Given a queued job, and sixteen workers that want it at once
        job, _made = store.create(new_job())
        together = threading.Barrier(16)

        def claim(number: int, job: Job = job, together: threading.Barrier = together) -> Job | None:
            together.wait()
            return store.claim(job.id, f"w{number}")

        with ThreadPoolExecutor(16) as pool:
            claims = list(pool.map(claim, range(16)))
        # Then one has it
        winners = [claim for claim in claims if claim is not None]
        assert len(winners) == 1
        assert winners[0] == store.find(job.id)
        assert (winners[0].state, winners[0].attempt) == ("running", 1)


def test_a_claim_holds_for_the_lease_by_the_databases_clock(store: JobStore) -> None:
    job = claimed(store, worker="$state")
    assert job.worker == "$state"
    assert job.started_at is not None
    assert job.lease_until is not None
    assert (job.lease_until - job.updated_at).total_seconds() == 30
    assert store.reap() == []


def test_nothing_to_claim(store: JobStore) -> None:
    job = claimed(store)
    assert store.claim(job.id, "other") is None
    assert store.claim("tr-0", "other") is None
    store.succeed(job.id, 1, {})
    assert store.claim(job.id, "other") is None


def test_renewing_holds_the_job(hasty: JobStore, database: Documents) -> None:
    # Given a job whose worker renews before the lease runs out
    job = claimed(hasty)
    hasty.renew(job.id, 1)
    renewed = hasty.find(job.id)
    assert renewed is not None
    # When the first lease is over
    wait_for_server_time(database, job.lease_until)
    # Then it runs on, and renewals are nothing that a client sees
    assert renewed.lease_until is not None
    assert job.lease_until is not None
    assert renewed.lease_until >= job.lease_until
    assert renewed.revision == job.revision


def test_progress_is_kept_and_seen(store: JobStore) -> None:
    job = claimed(store)
    progress = {"step": 3, "note": "$$NOW", "a.b": {"$x": None}}
    store.renew(job.id, 1, progress)
    store.renew(job.id, 1)
    seen = store.get("ann", job.id)
    assert seen.progress == progress
    assert seen.revision == job.revision + 1


def test_a_lost_lease_is_lost_while_another_works(hasty: JobStore, database: Documents) -> None:
    # Given a hundred jobs whose workers sleep over their lease
    sleepers = [claimed(hasty, worker="sleeper") for _ in range(100)]
    back = lost(hasty, database, sleepers[-1])
    assert sorted(back) == sorted(job.id for job in sleepers)
    for sleeper in sleepers:
        # When each is taken over
        other = claimed(hasty, worker="other", job_id=sleeper.id)
        assert (other.attempt, other.lost_attempts, other.worker) == (2, 1, "other")
        # Then the sleeper can do nothing any more
        calls = holders_calls(hasty, sleeper)
        assert allowed({name: calls[name] for name in ("renew", "commit", "succeed")}) == []
        assert hasty.find(sleeper.id) == other


def test_a_lost_lease_is_lost_for_good(hasty: JobStore, database: Documents) -> None:
    # Given a job whose worker slept over its lease
    sleeper = claimed(hasty)
    lost(hasty, database, sleeper)
    # When it wakes before anybody took the job
    assert allowed(holders_calls(hasty, sleeper)) == []
    # And while another works
    other = claimed(hasty, job_id=sleeper.id)
    assert allowed(holders_calls(hasty, sleeper)) == []
    # And after the other finished it
    hasty.commit(other.id, 2, "v2")
    hasty.succeed(other.id, 2, {"version": "v2"})
    assert allowed(holders_calls(hasty, sleeper)) == []
    # Then the job is what the other made of it
    done = hasty.get("ann", sleeper.id)
    assert (done.state, done.committed_version, done.result) == ("succeeded", "v2", {"version": "v2"})
    assert (done.started_at, done.lease_until) == (sleeper.started_at, None)


def test_commits_of_an_orphan_and_its_heir_race(database: Documents) -> None:
    store = JobStore(database, lease_s=0.01, max_attempts=1000)
    for _ in range(100):
        # Given a job whose lease runs out just now
        orphan = claimed(store, worker="orphan")

        def inherit(orphan: Job = orphan) -> bool:
            lost(store, database, orphan)
            heir = claimed(store, worker="heir", job_id=orphan.id)
            return committed(heir, "heir's")

        def committed(job: Job, version: str) -> bool:
            try:
                store.commit(job.id, job.attempt, version)
            except LeaseLost:
                return False
            return True

        # When both commit
        with ThreadPoolExecutor(2) as pool:
            heirs = pool.submit(inherit)
            wait_for_server_time(database, orphan.lease_until)
            orphans = pool.submit(committed, orphan, "orphan's")
            outcome = {"orphan's": orphans.result(), "heir's": heirs.result()}
        # Then one version is the job's: the one whose commit went through
        assert sorted(outcome.values()) == [False, True]
        job = store.get("ann", orphan.id)
        assert job.committed_version is not None
        assert outcome[job.committed_version]


def test_a_committed_version_stays(store: JobStore) -> None:
    job = claimed(store)
    store.commit(job.id, 1, "$v")
    store.commit(job.id, 1, "$v")
    with pytest.raises(LeaseLost):
        store.commit(job.id, 1, "other")
    assert store.get("ann", job.id).committed_version == "$v"


@pytest.mark.parametrize("end", ["succeed", "fail", "cancelled"])
def test_an_end_is_the_end(store: JobStore, end: str) -> None:
    # Given a job that ended
    job = claimed(store)
    calls = holders_calls(store, job)
    calls[end]()
    ended = store.get("ann", job.id)
    assert ended.ended
    assert ended.finished_at is not None
    assert ended.lease_until is None
    # When its holder repeats the end, because the answer got lost, then nothing changes
    calls[end]()
    # And nothing else can be done
    assert allowed(calls) == [end]
    assert store.get("ann", job.id) == ended


def test_the_reason_of_a_failure_is_kept(store: JobStore) -> None:
    job = claimed(store)
    reason = {"code": "job_failed", "message": "$no", "details": {"a.b": 1}}
    store.fail(job.id, 1, reason)
    assert store.get("ann", job.id).reason == reason


def test_a_released_job_is_no_lost_attempt(store: JobStore) -> None:
    job = claimed(store)
    store.release(job.id, 1)
    waiting = store.get("ann", job.id)
    assert (waiting.state, waiting.lost_attempts, waiting.lease_until) == ("queued", 0, None)
    assert claimed(store, job_id=job.id).attempt == 2


def test_releasing_a_job_that_is_to_be_cancelled_cancels_it(store: JobStore) -> None:
    job = claimed(store)
    store.request_cancel("ann", job.id)
    store.release(job.id, 1)
    assert store.get("ann", job.id).state == "cancelled"


def test_a_poison_job_fails_at_its_last_attempt(hasty: JobStore, database: Documents) -> None:
    # Given a job that kills each of its workers
    job = claimed(hasty)
    for _ in range(2):
        assert lost(hasty, database, job) == [job.id]
        job = claimed(hasty, job_id=job.id)
    # When the third is lost
    assert lost(hasty, database, job) == []
    # Then the job failed, with the reason
    failed = hasty.get("ann", job.id)
    assert (failed.state, failed.attempt, failed.lost_attempts) == ("failed", 3, 3)
    assert failed.reason is not None
    assert failed.reason["code"] == "worker_lost"
    assert "3 times" in failed.reason["message"]
    assert failed.finished_at is not None


@pytest.mark.parametrize("cancel_too_late", [False, True])
def test_a_committed_job_is_finished_however_often_it_takes(
    hasty: JobStore, database: Documents, cancel_too_late: bool
) -> None:
    # Given a job that is committed, which somebody may want to cancel then
    job = claimed(hasty)
    hasty.commit(job.id, 1, "v1")
    if cancel_too_late:
        hasty.request_cancel("ann", job.id)
    # When worker after worker is lost
    for _ in range(4):
        assert lost(hasty, database, job) == [job.id]
        job = claimed(hasty, job_id=job.id)
    # Then it can still be finished, as what it was committed as
    assert job.committed_version == "v1"
    hasty.succeed(job.id, job.attempt, {})


def test_a_lost_job_that_is_to_be_cancelled_is_cancelled(hasty: JobStore, database: Documents) -> None:
    job = claimed(hasty)
    hasty.request_cancel("ann", job.id)
    assert lost(hasty, database, job) == []
    assert hasty.get("ann", job.id).state == "cancelled"


def test_each_lost_job_goes_to_one_reaper(hasty: JobStore, database: Documents) -> None:
    # Given thirty lost jobs and eight reapers at once
    jobs = [claimed(hasty) for _ in range(30)]
    wait_for_server_time(database, jobs[-1].lease_until)
    with ThreadPoolExecutor(8) as pool:
        found = [job_id for ids in pool.map(lambda _: hasty.reap(), range(8)) for job_id in ids]
    # Then each was found once
    assert sorted(found) == sorted(job.id for job in jobs)
    assert {job.lost_attempts for job in hasty.find_many(found).values()} == {1}
