"""A worker's time on a job: kept in the record whatever becomes of the worker, and taken over from there once."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise

import pytest
from embedded_servers import EmbeddedServer
from job_samples import new_job, opened, wait_for_server_time

from enlight.jobkit.database import Documents
from enlight.jobkit.job_accounts import JobAccounts
from enlight.jobkit.job_store import JobStore
from enlight.jobkit.jobs import Job

WORK_S = 0.2
CLOCK_S = 0.002
"""The database's clock gives whole milliseconds, one for each time that it is asked."""


@pytest.fixture
def accounts(database: Documents, store: JobStore) -> JobAccounts:
    return JobAccounts(database)


def claimed(store: JobStore, job_id: str | None = None) -> Job:
    job = store.claim(job_id or store.create(new_job())[0].id, "w")
    assert job is not None
    return job


def now(store: JobStore, job: Job) -> Job:
    return store.get(job.tenant, job.id)


def test_a_job_that_nobody_worked_on_used_nothing(store: JobStore, accounts: JobAccounts) -> None:
    job, _ = store.create(new_job())
    assert (job.gpu_seconds, job.renewed_at, job.unrecorded_attempts) == (0, None, ())
    store.request_cancel("ann", job.id)
    assert accounts.open() == []


def test_time_grows_with_each_sign_of_life(store: JobStore) -> None:
    job = claimed(store)
    assert job.gpu_seconds == 0
    used_s = [0.0]
    for progress in (None, {"step": 1}, None):
        time.sleep(WORK_S)
        store.renew(job.id, 1, progress)
        used_s.append(now(store, job).gpu_seconds)
    # It grows by what passed, and neither stands still nor counts a span twice
    seen = now(store, job)
    assert seen.renewed_at is not None
    assert job.renewed_at is not None
    assert used_s[-1] == pytest.approx((seen.renewed_at - job.renewed_at).total_seconds(), abs=4 * CLOCK_S)
    assert all(after - before >= WORK_S - CLOCK_S for before, after in pairwise(used_s))


@pytest.mark.parametrize(
    ("outcome", "end"),
    [
        ("succeeded", lambda store, job: store.succeed(job.id, job.attempt, {})),
        ("failed", lambda store, job: store.fail(job.id, job.attempt, {"code": "x"})),
        ("cancelled", lambda store, job: store.cancelled(job.id, job.attempt)),
        ("released", lambda store, job: store.release(job.id, job.attempt)),
    ],
    ids=["succeeded", "failed", "cancelled", "released"],
)
def test_an_end_counts_up_to_the_end(
    store: JobStore, accounts: JobAccounts, outcome: str, end: Callable[[JobStore, Job], None]
) -> None:
    # Given a worker that was at it for a while since its last renewal
    job = claimed(store)
    time.sleep(WORK_S)
    store.renew(job.id, 1)
    time.sleep(WORK_S)
    # When the attempt ends
    end(store, job)
    # Then all of it is the job's, and the attempt waits to be recorded
    over = now(store, job)
    assert over.gpu_seconds >= 2 * (WORK_S - CLOCK_S)
    (attempt,) = over.unrecorded_attempts
    assert (attempt.attempt, attempt.outcome, attempt.ended_at) == (1, outcome, over.renewed_at)
    assert attempt.gpu_seconds == pytest.approx(over.gpu_seconds, abs=4 * CLOCK_S)
    assert [job.id for job in accounts.open()] == [job.id]


def test_a_clock_that_was_set_back_takes_no_time_away(store: JobStore, database: Documents) -> None:
    job = claimed(store)
    time.sleep(WORK_S)
    store.renew(job.id, 1)
    seen = now(store, job)
    assert seen.renewed_at is not None
    # Given a last sign of life that is in the future by now
    ahead = seen.renewed_at + timedelta(hours=1)
    database["jobs"].update_one({"_id": job.id}, {"$set": {"renewed_at": ahead}})
    store.succeed(job.id, 1, {})
    over = now(store, job)
    assert over.gpu_seconds == seen.gpu_seconds
    assert over.unrecorded_attempts[0].gpu_seconds == pytest.approx(seen.gpu_seconds, abs=4 * CLOCK_S)


def test_the_same_end_again_adds_nothing(store: JobStore) -> None:
    job = claimed(store)
    store.succeed(job.id, 1, {})
    over = now(store, job)
    store.succeed(job.id, 1, {})  # the first answer got lost
    assert now(store, job) == over
    assert len(over.unrecorded_attempts) == 1


def test_a_released_job_that_is_to_be_cancelled_counts_too(store: JobStore) -> None:
    job = claimed(store)
    store.request_cancel("ann", job.id)
    time.sleep(WORK_S)
    store.release(job.id, 1)
    (attempt,) = now(store, job).unrecorded_attempts
    assert (attempt.outcome, attempt.gpu_seconds >= WORK_S - CLOCK_S) == ("cancelled", True)


@pytest.mark.parametrize("fate", ["queued again", "failed", "cancelled"])
def test_of_a_lost_worker_the_time_up_to_its_last_sign_counts(database: Documents, store: JobStore, fate: str) -> None:
    # Given a worker that renewed once and then died
    hasty = JobStore(database, lease_s=0.3, max_attempts=1 if fate == "failed" else 3)
    job = claimed(hasty)
    time.sleep(WORK_S)
    hasty.renew(job.id, 1)
    renewed = now(hasty, job)
    if fate == "cancelled":
        hasty.request_cancel("ann", job.id)
    # When its lease runs out
    wait_for_server_time(database, renewed.lease_until)
    hasty.reap()
    # Then what is known of it counts, and the silence does not
    lost = now(hasty, job)
    assert lost.state == {"queued again": "queued"}.get(fate, fate)
    assert lost.gpu_seconds == renewed.gpu_seconds >= WORK_S - CLOCK_S
    (attempt,) = lost.unrecorded_attempts
    assert (attempt.outcome, attempt.ended_at) == ("lost", renewed.renewed_at)
    assert attempt.gpu_seconds == pytest.approx(renewed.gpu_seconds, abs=4 * CLOCK_S)


def test_attempts_add_up_and_each_has_its_own_time(store: JobStore) -> None:
    job = claimed(store)
    time.sleep(WORK_S)
    store.release(job.id, 1)
    time.sleep(3 * WORK_S)  # in the queue: nobody's time
    claimed(store, job.id)
    time.sleep(WORK_S)
    store.fail(job.id, 2, {"code": "x"})
    over = now(store, job)
    first, second = over.unrecorded_attempts
    assert (first.attempt, first.outcome, second.attempt, second.outcome) == (1, "released", 2, "failed")
    assert over.gpu_seconds == pytest.approx(first.gpu_seconds + second.gpu_seconds, abs=8 * CLOCK_S)
    assert over.renewed_at is not None
    assert job.renewed_at is not None
    whole_s = (over.renewed_at - job.renewed_at).total_seconds()
    assert 2 * (WORK_S - CLOCK_S) <= over.gpu_seconds <= whole_s - 3 * WORK_S + 8 * CLOCK_S


def test_of_many_that_count_at_once_one_gets_the_seconds(store: JobStore, accounts: JobAccounts) -> None:
    job = claimed(store)
    time.sleep(WORK_S)
    store.renew(job.id, 1)
    seen = now(store, job)
    with ThreadPoolExecutor(8) as pool:
        counted = list(pool.map(lambda _: accounts.count(seen), range(8)))
    assert sorted(counted) == [0] * 7 + [seen.gpu_seconds]
    # Afterwards there is nothing, then only what came on top
    assert accounts.count(now(store, job)) == 0
    time.sleep(WORK_S)
    store.succeed(job.id, 1, {})
    assert accounts.count(now(store, job)) == pytest.approx(now(store, job).gpu_seconds - seen.gpu_seconds)


def test_what_is_recorded_is_closed_and_what_came_since_is_not(store: JobStore, accounts: JobAccounts) -> None:
    # Given an attempt that a gateway records while another one ends
    job = claimed(store)
    store.release(job.id, 1)
    seen = now(store, job)
    claimed(store, job.id)
    store.succeed(job.id, 2, {})
    # When it notes that it is done
    accounts.recorded(seen)
    accounts.recorded(seen)
    # Then the other one is still to be recorded
    assert [ended.attempt for ended in now(store, job).unrecorded_attempts] == [2]
    accounts.recorded(now(store, job))
    assert accounts.open() == []


def test_a_running_job_is_open_while_it_has_uncounted_time_and_other_tenants_are_no_matter(
    store: JobStore, accounts: JobAccounts
) -> None:
    ids = {store.create(new_job(tenant=tenant))[0].id for tenant in ("ann", "bob")}
    for job_id in ids:
        claimed(store, job_id)
    assert accounts.open() == []  # many run at once, and few have anything new
    time.sleep(2 * CLOCK_S)
    for job_id in ids:
        store.renew(job_id, 1)
    jobs = accounts.open()
    assert {job.id for job in jobs} == ids
    for job in jobs:
        assert accounts.count(job) > 0
    assert accounts.open() == []


def test_a_record_without_these_fields_counts_from_its_next_sign_on(mongo: EmbeddedServer) -> None:
    with opened(mongo) as database:
        store, accounts = JobStore(database, lease_s=30), JobAccounts(database)
        job = claimed(store)
        # Given the record of a running job from before there were the fields
        since = ["renewed_at", "gpu_seconds", "attempt_gpu_seconds", "counted_gpu_seconds", "unrecorded_attempts"]
        database["jobs"].update_one({"_id": job.id}, {"$unset": dict.fromkeys(since, "")})
        assert now(store, job).gpu_seconds == 0
        # When its worker goes on and ends
        store.renew(job.id, 1)
        time.sleep(WORK_S)
        store.succeed(job.id, 1, {})
        # Then that time counts, once
        over = now(store, job)
        assert over.gpu_seconds >= WORK_S - CLOCK_S
        assert len(over.unrecorded_attempts) == 1
        assert (accounts.count(over), accounts.count(over)) == (over.gpu_seconds, 0)
        accounts.recorded(over)
        assert accounts.open() == []
