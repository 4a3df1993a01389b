from __future__ import annotations

import threading
from pathlib import Path

from training_samples import training_request

from enlight.dreambooth_api.requests import TrainingOutcome, TrainingProgress
from enlight.dreambooth_api.training_jobs import EVENTS_KEPT, TrainingJob, fingerprint, new_job_id
from enlight.servicekit.errors import JobCancelled, JobFailed

OUTCOME = TrainingOutcome("chair", "v1", 4, 0, 0.1, 1.0, 2.0, None, 10)


def a_job() -> TrainingJob:
    return TrainingJob(new_job_id(), fingerprint="f", request=training_request(), folder=Path("x"), detached=True)


def progress(step: int) -> TrainingProgress:
    return TrainingProgress("training", step, 4, 0, 0.5, 1e-4, 2.0, 1.0, None)


def test_the_fingerprint_is_equal_only_for_equal_work() -> None:
    photos = [b"one", b"two"]
    same = fingerprint(training_request(), photos)
    assert same == fingerprint(training_request(), [b"one", b"two"])
    assert same != fingerprint(training_request(), [b"two", b"one"])
    assert same != fingerprint(training_request(), [b"onetwo"])
    assert same != fingerprint(training_request(learning_rate=1e-5), photos)
    assert same != fingerprint(training_request(model_id="table"), photos)


def test_no_state_goes_back() -> None:
    job = a_job()
    job.start_attempt()
    job.succeed(OUTCOME)
    job.fail(JobFailed("late"))
    job.end_cancelled(JobCancelled("later"))
    assert job.state == "succeeded"


def test_events_are_followed_from_anywhere_to_the_end() -> None:
    # Given a job that has reported
    job = a_job()
    job.start_attempt()
    for step in (1, 2):
        job.report(progress(step))
    # When somebody reads while it goes on and ends
    ended = threading.Timer(0.1, job.succeed, [OUTCOME])
    ended.start()
    names = [event[1:] if event else None for event in job.events(0, idle_s=5)]
    # Then every event came once, in order, and the stream ended with the job
    assert [name for name, _ in filter(None, names)] == ["state", "state", "progress", "progress", "state"]
    # And a reader that comes back gets only what it missed
    assert [event[0] for event in job.events(3, idle_s=5) if event] == [4, 5]
    ended.join()


def test_silence_is_reported_so_that_the_stream_can_keep_alive() -> None:
    assert next(a_job().events(1, idle_s=0.01)) is None


def test_old_events_are_dropped_beyond_the_bound() -> None:
    job = a_job()
    for step in range(EVENTS_KEPT + 10):
        job.report(progress(step))
    job.succeed(OUTCOME)
    kept = [event for event in job.events(0, idle_s=1) if event]
    assert len(kept) == EVENTS_KEPT
    assert kept[-1][1:] == ("state", {"state": "succeeded", "model_id": "chair", "model_version": "v1"})
