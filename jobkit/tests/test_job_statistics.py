"""Who has which job, and how many jobs there are."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from job_samples import new_job, wait_for_server_time

from enlight.jobkit.database import Documents
from enlight.jobkit.job_statistics import JobStatistics
from enlight.jobkit.job_store import JobStore


@pytest.fixture
def statistics(database: Documents, store: JobStore) -> JobStatistics:
    return JobStatistics(database)


def test_holders_are_those_of_running_jobs(store: JobStore, statistics: JobStatistics) -> None:
    jobs = [store.create(new_job(tenant=tenant))[0] for tenant in ("ann", "bob", "ann")]
    assert statistics.holders() == []
    for job, worker in zip(jobs, ["one:1", "two:2"], strict=False):
        store.claim(job.id, worker)
    held = {holder.worker: holder for holder in statistics.holders()}
    assert {worker: holder.job_id for worker, holder in held.items()} == {"one:1": jobs[0].id, "two:2": jobs[1].id}
    assert all(holder.is_alive and holder.renewed_at for holder in held.values())
    store.succeed(jobs[0].id, 1, {})
    assert [holder.worker for holder in statistics.holders()] == ["two:2"]


def test_a_holder_whose_lease_ran_out_is_not_alive(database: Documents, statistics: JobStatistics) -> None:
    store = JobStore(database, lease_s=0.2)
    job, _ = store.create(new_job())
    claimed = store.claim(job.id, "one:1")
    assert claimed is not None
    wait_for_server_time(database, claimed.lease_until)
    assert [holder.is_alive for holder in statistics.holders()] == [False]


def test_counts_are_of_a_tenant_or_of_all_and_of_the_time_that_was_asked_for(
    database: Documents, store: JobStore, statistics: JobStatistics
) -> None:
    # Given a job in each state, one that ended long ago, and one of another tenant
    jobs = [store.create(new_job())[0] for _ in range(6)]
    for job, end in zip(jobs, ("succeed", "fail", "succeed"), strict=False):
        store.claim(job.id, "one:1")
        getattr(store, end)(job.id, 1, {})
    store.request_cancel("ann", jobs[3].id)
    store.claim(jobs[4].id, "one:1")
    store.create(new_job(tenant="bob"))
    long_ago = datetime.now(UTC) - timedelta(days=3)
    database["jobs"].update_one({"_id": jobs[0].id}, {"$set": {"finished_at": long_ago}})
    # Then each is counted where it belongs
    everything = {"queued": 1, "running": 1, "succeeded": 2, "failed": 1, "cancelled": 1}
    assert statistics.counts("ann") == everything
    assert statistics.counts() == {**everything, "queued": 2}
    a_day_ago = datetime.now(UTC) - timedelta(days=1)
    assert statistics.counts("ann", ended_since=a_day_ago) == {**everything, "succeeded": 1}
