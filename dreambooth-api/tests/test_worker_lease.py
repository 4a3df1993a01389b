"""The thread that keeps a job's lease, against a real database."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from itertools import pairwise

import pytest
from embedded_servers import EmbeddedServer
from waiting import wait_until
from worker_site import WorkerSite

from enlight.dreambooth_api.lease_keeper import LeaseKeeper
from enlight.dreambooth_api.requests import TrainingProgress
from enlight.jobkit.database import open_database, server_time
from enlight.jobkit.job_leases import JobLeases, LeaseLost
from enlight.jobkit.jobs import Job

LEASE_S = 0.6

Keep = Callable[[float], LeaseKeeper]


@pytest.fixture
def leases(site: WorkerSite) -> JobLeases:
    return JobLeases(site.database, lease_s=LEASE_S)


@pytest.fixture
def job(site: WorkerSite, leases: JobLeases) -> Job:
    claimed = leases.claim(site.add_job().id, "worker")
    assert claimed is not None
    return claimed


@pytest.fixture
def keep(leases: JobLeases, job: Job) -> Iterator[Keep]:
    with ExitStack() as stack:
        yield lambda silence_limit_s: stack.enter_context(
            LeaseKeeper(leases, job, lease_s=LEASE_S, silence_limit_s=silence_limit_s)
        )


def _passed(site: WorkerSite, leases: int) -> bool:
    """Waits, by the database's clock, for so many leases to have run out."""
    begun = server_time(site.database)
    return wait_until(lambda: (server_time(site.database) - begun).total_seconds() > leases * LEASE_S)


def test_a_kept_lease_does_not_run_out(site: WorkerSite, leases: JobLeases, keep: Keep) -> None:
    keeper = keep(100.0)
    assert _passed(site, 3)
    assert leases.reap() == []
    keeper.check()


def test_a_lease_without_news_is_renewed_while_more_than_half_of_it_is_left(
    site: WorkerSite, job: Job, keep: Keep
) -> None:
    # Given renewals of a job of which there is no progress to tell
    keep(100.0)
    ends: list[datetime] = []
    while len(ends) < 6:
        site.wait_for(job, lambda job: job.lease_until not in ends)
        lease_until = site.job(job).lease_until
        assert lease_until is not None
        ends.append(lease_until)
    # Then at least the fastest, on a machine that does other things, came in time for another try
    _claimed, *renewed = ends
    renewed_after_s = [(later - earlier).total_seconds() for earlier, later in pairwise(renewed)]
    assert min(renewed_after_s) < LEASE_S / 2


def test_a_worker_without_signs_of_life_lets_its_lease_go(
    site: WorkerSite, leases: JobLeases, job: Job, keep: Keep
) -> None:
    keeper = keep(0.1)
    assert keeper.cancel.wait(10)
    with pytest.raises(LeaseLost):
        keeper.check()
    assert wait_until(lambda: leases.reap() == [job.id])


def test_signs_of_life_keep_a_lease(site: WorkerSite, leases: JobLeases, keep: Keep) -> None:
    # Given a worker that may be silent for less than a lease
    keeper = keep(LEASE_S / 2)

    # When it says now and then that it lives
    until_s = time.monotonic() + 3 * LEASE_S
    while time.monotonic() < until_s:
        keeper.alive()

    # Then it keeps the job
    assert leases.reap() == []
    keeper.check()


def test_progress_and_the_wish_to_cancel_are_told(site: WorkerSite, job: Job, keep: Keep) -> None:
    keeper = keep(100.0)
    keeper.report(TrainingProgress("training", 3, 9, 0, 0.5, 1e-4, 2.0, 3.0, None))
    told = site.wait_for(job, lambda job: job.progress)
    assert told.progress is not None
    assert (told.progress["phase"], told.progress["step"], told.progress["steps"]) == ("training", 3, 9)
    assert not keeper.cancel.is_set()

    site.store.request_cancel("ann", job.id)
    assert keeper.cancel.wait(10)
    keeper.check()  # the lease is still there: the end is this attempt's to tell


def test_a_lease_that_another_took_is_noticed(leases: JobLeases, job: Job, keep: Keep) -> None:
    leases.release(job.id, job.attempt)
    leases.claim(job.id, "another worker")
    keeper = keep(100.0)
    assert keeper.cancel.wait(10)
    with pytest.raises(LeaseLost):
        keeper.check()


def test_a_database_that_is_away_for_a_while_costs_no_lease(
    site: WorkerSite, mongo: EmbeddedServer, job: Job, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a database that hangs
    impatient = open_database(mongo.url, site.database.name, timeout_s=0.3)
    leases = JobLeases(impatient, lease_s=LEASE_S)
    with impatient.client, LeaseKeeper(leases, job, lease_s=LEASE_S, silence_limit_s=100.0) as keeper:
        mongo.pause()
        assert wait_until(lambda: "the lease is not renewed" in caplog.text)

        # When it is there again
        mongo.resume()
        keeper.report(TrainingProgress("training", 3, 9, 0, 0.5, 1e-4, 2.0, 3.0, None))

        # Then the job is still this worker's
        assert site.wait_for(job, lambda job: job.progress).attempt == job.attempt
        keeper.check()
