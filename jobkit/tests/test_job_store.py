"""Jobs in the database: created once, seen by their tenant only, listed, cancelled, deleted."""

from __future__ import annotations

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from job_samples import new_job, wait_for_server_time

from enlight.jobkit.database import Documents, server_time
from enlight.jobkit.job_store import JobStore
from enlight.servicekit.errors import Conflict, InvalidField, NotFound


def test_reads_back_what_was_created(store: JobStore) -> None:
    # Given a job with values that look like commands of the database
    new = new_job(webhook_url="https://example.org/$hook", idempotency_key="$k")
    # When it is created and read
    job, made = store.create(new)
    # Then all is as it was given, in its first state
    assert made
    assert store.get("ann", new.id) == store.find(new.id) == job
    given = dataclasses.asdict(new)
    assert {name: value for name, value in dataclasses.asdict(job).items() if name in given} == given
    assert (job.state, job.attempt, job.lost_attempts, job.revision, job.ended) == ("queued", 0, 0, 1, False)
    assert job.created_at == job.updated_at
    assert job.created_at.utcoffset() == timedelta(0)
    assert (job.started_at, job.finished_at, job.worker, job.reason, job.committed_version) == (None,) * 5


def test_indexes_can_be_made_again(store: JobStore) -> None:
    store.make_indexes()


def test_fifty_creates_with_one_key_make_one_job(store: JobStore, database: Documents) -> None:
    # Given one request that arrives fifty times at once
    together = threading.Barrier(50)

    def create(_: int) -> tuple[str, bool]:
        new = new_job(idempotency_key="once", body_digest="a")
        together.wait()
        job, made = store.create(new)
        return job.id, made

    # When all are created
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(create, range(50)))
    # Then there is one job, everybody got it, and one made it
    assert len({job_id for job_id, _ in answers}) == 1
    assert sum(made for _, made in answers) == 1
    assert database["jobs"].count_documents({}) == 1


def test_a_key_with_another_body_is_refused(store: JobStore) -> None:
    store.create(new_job(idempotency_key="k", body_digest="a"))
    with pytest.raises(InvalidField, match="Idempotency-Key") as refused:
        store.create(new_job(idempotency_key="k", body_digest="b"))
    assert refused.value.details["fields"] == [
        {"field": "Idempotency-Key", "message": "was used before with another body"}
    ]
    with pytest.raises(InvalidField):
        store.find_earlier("ann", "k", "b")


def test_a_key_belongs_to_its_tenant(store: JobStore) -> None:
    first, _ = store.create(new_job(idempotency_key="k", body_digest="a"))
    second, made = store.create(new_job(idempotency_key="k", body_digest="b", tenant="ben"))
    assert made
    assert store.find_earlier("ann", "k", "a") == first
    assert store.find_earlier("ben", "k", "b") == second
    assert store.find_earlier("cat", "k", "a") is None


def test_jobs_without_a_key_are_never_the_same(store: JobStore) -> None:
    made = [store.create(new_job()) for _ in range(3)]
    assert [fresh for _, fresh in made] == [True] * 3
    assert len({job.id for job, _ in made}) == 3


def test_the_same_create_again_finds_its_job(store: JobStore) -> None:
    # Given a create whose answer got lost
    new = new_job(idempotency_key="k")
    first, _ = store.create(new)
    # When it is made again
    again, made = store.create(new)
    # Then it is as if the first had answered
    assert made
    assert again == first


def test_an_id_taken_by_somebody_else_is_refused(store: JobStore) -> None:
    new = new_job()
    store.create(new)
    with pytest.raises(Conflict):
        store.create(dataclasses.replace(new, tenant="ben"))


def test_other_tenants_jobs_do_not_exist(store: JobStore) -> None:
    job, _ = store.create(new_job())
    for attempt in (store.get, store.request_cancel, store.delete):
        with pytest.raises(NotFound):
            attempt("ben", job.id)
    assert store.list("ben") == []
    assert store.counts("ben")["queued"] == 0
    assert store.get("ann", job.id) == job
    # Nor when they ended
    cancelled = store.request_cancel("ann", job.id)
    with pytest.raises(NotFound):
        store.delete("ben", job.id)
    assert store.get("ann", job.id) == cancelled


def test_unknown_jobs(store: JobStore) -> None:
    assert store.find("tr-0") is None
    assert store.find_many(["tr-0"]) == {}
    with pytest.raises(NotFound):
        store.get("ann", "tr-0")


def test_lists_pages_newest_first(store: JobStore) -> None:
    # Given five jobs, two of another model, one running
    jobs = [store.create(new_job(model_name="dog" if number < 3 else "cat"))[0] for number in range(5)]
    ids = [job.id for job in reversed(jobs)]
    running = store.claim(ids[0], "w")
    # Then pages follow each other without a gap
    first = [job.id for job in store.list("ann", limit=2)]
    second = [job.id for job in store.list("ann", limit=2, before=first[-1])]
    rest = [job.id for job in store.list("ann", limit=2, before=second[-1])]
    assert first + second + rest == ids
    # And filters hold
    assert [job.id for job in store.list("ann", model_name="cat")] == ids[:2]
    assert store.list("ann", state="running") == [running]
    assert [job.id for job in store.list("ann", state="queued", model_name="cat")] == [ids[1]]
    assert store.find_many([ids[1], ids[2], "tr-0"]).keys() == {ids[1], ids[2]}


def test_counts_and_positions(store: JobStore) -> None:
    # Given four queued jobs of two tenants, the first of which begins
    jobs = [store.create(new_job(tenant=tenant))[0] for tenant in ("ann", "ben", "ann", "ann")]
    ids = [job.id for job in jobs]
    assert store.positions(ids) == dict(zip(ids, range(4), strict=True))
    assert store.positions([ids[2]]) == {ids[2]: 2}
    assert store.positions([]) == {}
    running = store.claim(jobs[0].id, "w")
    # Then it is out of the line
    assert running is not None
    assert store.positions(ids) == {ids[1]: 0, ids[2]: 1, ids[3]: 2}
    assert store.counts("ann") == {"queued": 2, "running": 1, "succeeded": 0, "failed": 0, "cancelled": 0}
    assert store.count("queued") == 3
    assert store.count("queued", tenant="ben") == 1


def test_cancelling_a_queued_job_ends_it(store: JobStore) -> None:
    job, _ = store.create(new_job())
    cancelled = store.request_cancel("ann", job.id)
    assert (cancelled.state, cancelled.cancel_requested, cancelled.revision) == ("cancelled", True, 2)
    assert cancelled.finished_at is not None
    assert store.claim(job.id, "w") is None
    assert store.request_cancel("ann", job.id) == cancelled


def test_cancelling_a_running_job_asks_its_worker(store: JobStore) -> None:
    # Given a running job
    job, _ = store.create(new_job())
    store.claim(job.id, "w")
    assert not store.renew(job.id, 1)
    # When it is to be cancelled, twice
    asked = store.request_cancel("ann", job.id)
    again = store.request_cancel("ann", job.id)
    # Then it runs on until its worker ends it
    assert (asked.state, asked.cancel_requested) == ("running", True)
    assert again == asked
    assert store.renew(job.id, 1)
    store.cancelled(job.id, 1)
    assert store.get("ann", job.id).state == "cancelled"


def test_cancelling_an_ended_job_changes_nothing(store: JobStore) -> None:
    job, _ = store.create(new_job())
    store.claim(job.id, "w")
    store.succeed(job.id, 1, {"model": "$x"})
    ended = store.get("ann", job.id)
    assert store.request_cancel("ann", job.id) == ended
    assert ended.result == {"model": "$x"}


def test_cancelling_comes_too_late_for_a_committed_job(store: JobStore) -> None:
    # Given a job that published its model, and waits again because its worker went away
    job, _ = store.create(new_job())
    store.claim(job.id, "w")
    store.commit(job.id, 1, "v1")
    store.release(job.id, 1)
    # When it is to be cancelled
    asked = store.request_cancel("ann", job.id)
    # Then it is finished all the same
    assert (asked.state, asked.cancel_requested) == ("queued", True)
    store.claim(job.id, "w")
    assert not store.renew(job.id, 2)
    store.release(job.id, 2)
    assert store.get("ann", job.id).state == "queued"


def test_cancelling_races_with_a_claim(store: JobStore) -> None:
    for _ in range(30):
        job, _made = store.create(new_job())
        with ThreadPoolExecutor(2) as pool:
            claim = pool.submit(store.claim, job.id, "w")
            cancel = pool.submit(store.request_cancel, "ann", job.id)
            claimed, asked = claim.result(), cancel.result()
        # Either it never began, or its worker is told
        assert (claimed is None) == (asked.state == "cancelled")
        assert claimed is None or store.renew(job.id, 1)


def test_deletes_what_ended_only(store: JobStore) -> None:
    job, _ = store.create(new_job(idempotency_key="k", body_digest="a"))
    with pytest.raises(Conflict, match="queued"):
        store.delete("ann", job.id)
    store.claim(job.id, "w")
    with pytest.raises(Conflict, match="running"):
        store.delete("ann", job.id)
    store.succeed(job.id, 1, {})
    store.delete("ann", job.id)
    with pytest.raises(NotFound):
        store.delete("ann", job.id)
    assert store.create(new_job(idempotency_key="k", body_digest="b"))[1]


def test_undispatched_are_those_that_nobody_handed_over_for_long(store: JobStore, database: Documents) -> None:
    # Given two queued jobs and a running one
    first, second, running = (store.create(new_job())[0] for _ in range(3))
    store.claim(running.id, "w")
    wait_for_server_time(database, second.created_at)
    # Then they are due after the time, and not before
    assert store.undispatched(60) == []
    assert store.undispatched(0) == [first.id, second.id]
    # And not again once they were handed over
    store.dispatched(first.id)
    age_s = (server_time(database) - second.created_at).total_seconds()
    assert age_s < 60
    dispatched_at = database["jobs"].find_one({"_id": first.id}, ["dispatched_at"])
    assert dispatched_at is not None
    assert dispatched_at["dispatched_at"] > first.created_at
    # And what was given back is due at once
    store.release(running.id, 1)
    assert store.undispatched(60) == [running.id]
    store.dispatched(running.id)
    assert store.undispatched(60) == []
    assert store.get("ann", first.id).revision == 1
