"""What happened to a job on its way, and the samples in its record."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from job_samples import new_job

from enlight.jobkit.database import Documents
from enlight.jobkit.job_histories import LINES_KEPT, MESSAGE_CHARS, TRACE_CHARS, JobHistories, LogLine
from enlight.jobkit.job_leases import LeaseLost
from enlight.jobkit.job_store import JobStore
from enlight.jobkit.jobs import JobSample

AT = datetime(2026, 11, 27, 9, 0, tzinfo=UTC)


@pytest.fixture
def histories(database: Documents) -> JobHistories:
    return JobHistories(database)


def lines(*numbers: int, attempt: int = 1) -> list[LogLine]:
    return [LogLine(AT + timedelta(seconds=number), "info", attempt, f"line {number}") for number in numbers]


def messages(histories: JobHistories, job_id: str = "tr-1") -> list[str]:
    return [line.message for line in histories.lines(job_id)[0]]


def sample(step: int, attempt: int = 1) -> JobSample:
    return JobSample(step=step, attempt=attempt, seconds=1.5, size_bytes=10, sha256="0" * 64)


def test_lines_are_there_as_they_were_told(histories: JobHistories) -> None:
    histories.begin("tr-1", 1)
    error = LogLine(AT, "error", 1, "$set: it {failed}", "Traceback ...")
    histories.add_lines("tr-1", "1.1", [error])
    histories.add_lines("tr-1", "1.2", lines(2, 3))
    assert histories.lines("tr-1") == ([error, *lines(2, 3)], 3)
    # A job without a history has none
    assert (histories.lines("tr-2"), histories.losses("tr-2")) == (([], 0), [])


def test_a_batch_whose_answer_was_lost_is_not_added_twice(histories: JobHistories) -> None:
    histories.begin("tr-1", 1)
    for _ in range(2):
        histories.add_lines("tr-1", "1.1", lines(1))
    assert messages(histories) == ["line 1"]


def test_a_history_is_bounded(histories: JobHistories) -> None:
    histories.begin("tr-1", 1)
    for batch in range(3):
        histories.add_lines("tr-1", f"1.{batch}", lines(*range(batch * 300, (batch + 1) * 300)))
    kept, written = histories.lines("tr-1")
    assert (len(kept), written) == (LINES_KEPT, 900)
    assert messages(histories)[-1] == "line 899"
    # So is a line; of a trace the end stays, where the error is
    long = LogLine(AT, "error", 1, "m" * 9999, "t" * 9999 + "the error")
    histories.add_lines("tr-1", "1.9", [long])
    last = histories.lines("tr-1")[0][-1]
    assert last.trace is not None
    assert (len(last.message), len(last.trace)) == (MESSAGE_CHARS, TRACE_CHARS)
    assert last.trace.endswith("the error")


def test_losses_are_those_of_the_newest_attempt(histories: JobHistories) -> None:
    assert histories.begin("tr-1", 1) == []
    histories.set_losses("tr-1", 1, [(1, 0.5), (2, 0.25)])
    assert histories.begin("tr-1", 2) == [(1, 0.5), (2, 0.25)]
    histories.set_losses("tr-1", 2, [(1, 0.5), (3, 0.125)])
    # What an attempt that was lost still has to say is not heard
    histories.set_losses("tr-1", 1, [(1, 9.0)])
    histories.begin("tr-1", 1)
    histories.set_losses("tr-1", 1, [(1, 9.0)])
    assert histories.losses("tr-1") == [(1, 0.5), (3, 0.125)]


def test_what_comes_after_the_end_of_a_history_does_not_bring_it_back(
    histories: JobHistories, database: Documents
) -> None:
    histories.begin("tr-1", 1)
    histories.remove("tr-1")
    histories.add_lines("tr-1", "1.1", lines(1))
    histories.set_losses("tr-1", 1, [(1, 0.5)])
    assert database["job_histories"].count_documents({}) == 0
    histories.remove("tr-1")  # again is no error


def test_samples_are_added_by_the_holder_once_for_each_step(store: JobStore) -> None:
    job, _ = store.create(new_job())
    store.claim(job.id, "w")
    before = store.get("ann", job.id).revision
    store.add_sample(job.id, 1, sample(20))
    store.add_sample(job.id, 1, sample(40))
    store.add_sample(job.id, 1, sample(20))  # again, after an answer that was lost
    job = store.get("ann", job.id)
    assert (job.samples, job.revision - before) == ((sample(20), sample(40)), 2)
    # Then by the next holder
    store.release(job.id, 1)
    store.claim(job.id, "w2")
    for step in (60, 20):
        with pytest.raises(LeaseLost):
            store.add_sample(job.id, 1, sample(step))
    store.add_sample(job.id, 2, sample(60, attempt=2))
    assert [(each.step, each.attempt) for each in store.get("ann", job.id).samples] == [(20, 1), (40, 1), (60, 2)]


def test_a_record_from_before_there_were_samples_has_none_and_takes_some(store: JobStore, database: Documents) -> None:
    job, _ = store.create(new_job())
    store.claim(job.id, "w")
    database["jobs"].update_one({"_id": job.id}, {"$unset": {"samples": 1, "retry_of": 1}})
    old = store.get("ann", job.id)
    assert (old.samples, old.retry_of) == ((), None)
    store.add_sample(job.id, 1, sample(20))
    assert store.get("ann", job.id).samples == (sample(20),)
