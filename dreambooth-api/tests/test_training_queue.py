"""Admission, joining, cancelling, retrying and restarting of trainings, with the trainer process behind a seam."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from training_samples import catalogue_in, settings_in, training_request

from enlight.dreambooth_api.requests import TrainerConfig, TrainingOutcome, TrainingProgress
from enlight.dreambooth_api.training_jobs import TrainingJob
from enlight.dreambooth_api.training_queue import TrainingQueue
from enlight.dreambooth_api.training_records import TrainingRecords
from enlight.servicekit.errors import (
    Conflict,
    JobCancelled,
    JobFailed,
    NotFound,
    OutOfGpuMemory,
    QueueFull,
    WorkerUnavailable,
)
from enlight.servicekit.logs import current_job_id, current_request_id, log_context

WAIT_S = 10.0


class Trainer:
    """Stands where the child process stands: each attempt does what the script says next, then succeeds."""

    def __init__(self, *script: Callable[[TrainingJob], None]) -> None:
        self.script = list(script)
        self.configs: list[TrainerConfig] = []
        self.may_end = threading.Event()
        self.may_end.set()
        self.started = threading.Semaphore(0)

    def __call__(
        self,
        job: TrainingJob,
        config: TrainerConfig,
        on_progress: Callable[[TrainingProgress], None],
        closing: threading.Event,
    ) -> TrainingOutcome:
        self.configs.append(config)
        self.started.release()
        if self.script:
            self.script.pop(0)(job)
        while not self.may_end.wait(0.01):
            if job.cancel.is_set():
                raise JobCancelled("The job was cancelled.")
            if closing.is_set():
                raise WorkerUnavailable("The service is stopping.")
        return TrainingOutcome(job.request.model_id, "v1", 4, 0, 0.1, 1.0, 2.0, None, 10)


def dies(_: TrainingJob) -> None:
    raise WorkerUnavailable("The job's process was killed by SIGKILL.")


@contextmanager
def queue_in(folder: Path, trainer: Trainer, **settings: Any) -> Iterator[TrainingQueue]:
    chosen = settings_in(folder, **settings)
    records = TrainingRecords(chosen.trainings_folder, chosen.jobs_folder)
    queue = TrainingQueue(chosen, catalogue_in(folder), records, run=trainer)
    queue.start()
    try:
        yield queue
    finally:
        queue.stop()


def test_a_training_succeeds_and_leaves_no_work_folder(tmp_path: Path) -> None:
    # Given a queue, when a training is accepted
    trainer = Trainer()
    with queue_in(tmp_path, trainer) as queue:
        job = queue.submit(training_request(), [b"photo"], detached=False)
        # Then it ends well, the trainer saw the photo's file, and the local copy is gone
        assert job.wait(WAIT_S)
        assert job.state == "succeeded"
        assert trainer.configs[0].request.photos == (tmp_path / "data/jobs" / job.fingerprint / "photos/00",)
    assert list((tmp_path / "data/jobs").iterdir()) == []


def test_a_full_queue_refuses_and_says_when_to_come_again(tmp_path: Path) -> None:
    # Given one slot and one waiting place, both taken
    trainer = Trainer()
    trainer.may_end.clear()
    with queue_in(tmp_path, trainer, max_waiting_trainings=1) as queue:
        running = queue.submit(training_request(seed=1), [b"photo"], detached=True)
        assert trainer.started.acquire(timeout=WAIT_S)
        waiting = queue.submit(training_request(seed=2), [b"photo"], detached=True)
        # When a third comes, then it is refused with Retry-After
        with pytest.raises(QueueFull) as refusal:
            queue.submit(training_request(seed=3), [b"photo"], detached=True)
        assert refusal.value.retry_after_s
        assert (queue.position(running), queue.position(waiting)) == (None, 0)
        # And when the first ends, the second runs
        trainer.may_end.set()
        assert waiting.wait(WAIT_S)
        assert waiting.state == "succeeded"


def test_zero_waiting_places_make_a_busy_service_refuse_at_once(tmp_path: Path) -> None:
    trainer = Trainer()
    trainer.may_end.clear()
    with queue_in(tmp_path, trainer, max_waiting_trainings=0) as queue:
        queue.submit(training_request(seed=1), [b"photo"], detached=True)
        with pytest.raises(QueueFull):
            queue.submit(training_request(seed=2), [b"photo"], detached=True)
        trainer.may_end.set()


def test_an_identical_training_is_joined_and_a_different_one_is_not(tmp_path: Path) -> None:
    trainer = Trainer()
    trainer.may_end.clear()
    with queue_in(tmp_path, trainer) as queue:
        first = queue.submit(training_request(), [b"photo"], detached=True)
        assert queue.submit(training_request(), [b"photo"], detached=True) is first
        assert queue.submit(training_request(), [b"photo"], detached=False) is first
        assert queue.submit(training_request(), [b"other photo"], detached=True) is not first
        assert queue.submit(training_request(seed=9), [b"photo"], detached=True) is not first
        trainer.may_end.set()


def test_a_detached_training_does_not_join_one_that_leaves_with_its_client(tmp_path: Path) -> None:
    trainer = Trainer()
    trainer.may_end.clear()
    with queue_in(tmp_path, trainer) as queue:
        queue.submit(training_request(), [b"photo"], detached=False)
        with pytest.raises(Conflict):
            queue.submit(training_request(), [b"photo"], detached=True)
        trainer.may_end.set()


def test_a_dead_trainer_is_started_again_in_the_same_folder(tmp_path: Path) -> None:
    trainer = Trainer(dies, dies)
    with queue_in(tmp_path, trainer, max_training_attempts=3) as queue:
        job = queue.submit(training_request(), [b"photo"], detached=False)
        assert job.wait(WAIT_S)
    assert (job.state, job.attempt) == ("succeeded", 3)
    assert len({config.job_folder for config in trainer.configs}) == 1


def test_a_trainer_that_always_dies_fails_after_the_allowed_attempts(tmp_path: Path) -> None:
    trainer = Trainer(dies, dies, dies, dies)
    with queue_in(tmp_path, trainer, max_training_attempts=3) as queue:
        job = queue.submit(training_request(), [b"photo"], detached=False)
        assert job.wait(WAIT_S)
    assert (job.state, len(trainer.configs)) == ("failed", 3)
    assert isinstance(job.error, JobFailed)


def test_an_error_of_the_training_itself_is_not_tried_again_and_the_next_job_works(tmp_path: Path) -> None:
    def out_of_memory(_: TrainingJob) -> None:
        raise OutOfGpuMemory("Use a smaller batch.")

    trainer = Trainer(out_of_memory)
    with queue_in(tmp_path, trainer) as queue:
        failed = queue.submit(training_request(), [b"photo"], detached=False)
        assert failed.wait(WAIT_S)
        next_one = queue.submit(training_request(seed=1), [b"photo"], detached=False)
        assert next_one.wait(WAIT_S)
    assert isinstance(failed.error, OutOfGpuMemory)
    assert len(trainer.configs) == 2
    assert next_one.state == "succeeded"


def test_a_defect_of_our_own_does_not_take_the_slot_with_it(tmp_path: Path) -> None:
    def defect(_: TrainingJob) -> None:
        raise ZeroDivisionError

    with queue_in(tmp_path, Trainer(defect)) as queue:
        failed = queue.submit(training_request(), [b"photo"], detached=False)
        assert failed.wait(WAIT_S)
        next_one = queue.submit(training_request(seed=1), [b"photo"], detached=False)
        assert next_one.wait(WAIT_S)
    assert (failed.state, next_one.state) == ("failed", "succeeded")
    assert failed.error is not None
    assert "ZeroDivision" not in failed.error.message


def test_the_last_client_that_leaves_cancels_a_synchronous_training(tmp_path: Path) -> None:
    trainer = Trainer()
    trainer.may_end.clear()
    with queue_in(tmp_path, trainer) as queue:
        job = queue.submit(training_request(), [b"photo"], detached=False)
        with queue.waiting_client(job):
            with queue.waiting_client(job):
                pass
            assert not job.cancel.is_set(), "another client still waits"
        assert job.wait(WAIT_S)
        assert job.state == "cancelled"
        # And what it had done is kept for an identical request
        assert job.folder.is_dir()


def test_a_client_that_leaves_does_not_cancel_a_detached_training(tmp_path: Path) -> None:
    trainer = Trainer()
    trainer.may_end.clear()
    with queue_in(tmp_path, trainer) as queue:
        job = queue.submit(training_request(), [b"photo"], detached=True)
        with queue.waiting_client(job):
            pass
        assert not job.cancel.is_set()
        trainer.may_end.set()
        assert job.wait(WAIT_S)
        assert job.state == "succeeded"


def test_waiting_clients_are_bounded(tmp_path: Path) -> None:
    trainer = Trainer()
    trainer.may_end.clear()
    with queue_in(tmp_path, trainer, max_training_waiters=1) as queue:
        job = queue.submit(training_request(), [b"photo"], detached=True)
        with queue.waiting_client(job), pytest.raises(QueueFull, match="/v1/trainings"), queue.waiting_client(job):
            pass
        trainer.may_end.set()


def test_cancel_of_a_waiting_a_running_and_an_ended_training(tmp_path: Path) -> None:
    trainer = Trainer()
    trainer.may_end.clear()
    with queue_in(tmp_path, trainer) as queue:
        running = queue.submit(training_request(seed=1), [b"photo"], detached=True)
        assert trainer.started.acquire(timeout=WAIT_S)
        waiting = queue.submit(training_request(seed=2), [b"photo"], detached=True)
        queue.cancel(waiting)
        assert waiting.state == "cancelled"
        queue.cancel(running)
        assert running.wait(WAIT_S)
        assert running.state == "cancelled"
        with pytest.raises(Conflict):
            queue.cancel(running)
    assert list((tmp_path / "data/jobs").iterdir()) == [], "a cancelled training keeps nothing"


def test_an_accepted_training_goes_on_after_a_restart(tmp_path: Path) -> None:
    # Given a service that stops while one training runs and one waits
    trainer = Trainer()
    trainer.may_end.clear()
    with queue_in(tmp_path, trainer) as queue:
        running = queue.submit(training_request(seed=1), [b"photo"], detached=True)
        assert trainer.started.acquire(timeout=WAIT_S)
        waiting = queue.submit(training_request(seed=2), [b"photo"], detached=True)
    # When it starts again
    with queue_in(tmp_path, Trainer()) as queue:
        # Then both end well, under their old ids, in their old folders
        for old in (running, waiting):
            job = queue.get(old.id)
            assert job.wait(WAIT_S)
            assert (job.state, job.folder, job.attempt) == ("succeeded", old.folder, 1)


def test_a_training_runs_under_its_request_s_id_also_after_a_restart(tmp_path: Path) -> None:
    ran_under = []
    trainer = Trainer(lambda _: ran_under.append((current_request_id(), current_job_id())))
    trainer.may_end.clear()
    with queue_in(tmp_path, trainer) as queue, log_context(request_id="the-first"):
        job = queue.submit(training_request(), [b"photo"], detached=True)
        with log_context(request_id="who-joined"):
            assert queue.submit(training_request(), [b"photo"], detached=True) is job
        assert trainer.started.acquire(timeout=WAIT_S)
    with queue_in(tmp_path, Trainer(lambda _: ran_under.append((current_request_id(), current_job_id())))) as queue:
        again = queue.get(job.id)
        assert again.wait(WAIT_S)
        assert again.request_id == "the-first"
    assert ran_under == [("the-first", job.id)] * 2


def test_ended_trainings_are_still_known_after_a_restart(tmp_path: Path) -> None:
    def out_of_memory(_: TrainingJob) -> None:
        raise OutOfGpuMemory("Use a smaller batch.")

    with queue_in(tmp_path, Trainer(out_of_memory)) as queue:
        failed = queue.submit(training_request(seed=1), [b"photo"], detached=True)
        done = queue.submit(training_request(seed=2), [b"photo"], detached=True)
        assert failed.wait(WAIT_S)
        assert done.wait(WAIT_S)
    with queue_in(tmp_path, Trainer()) as queue:
        assert [job.id for job in queue.list(None, 10)] == [done.id, failed.id]
        assert [job.id for job in queue.list("failed", 10)] == [failed.id]
        known = queue.get(failed.id)
        assert isinstance(known.error, OutOfGpuMemory)
        assert known.finished_at == failed.finished_at
        outcome = queue.get(done.id).outcome
        assert outcome is not None
        assert outcome.version == "v1"


def test_a_training_that_never_reached_its_end_in_all_its_attempts_fails_at_the_restart(tmp_path: Path) -> None:
    # Given a record of a service that was killed during the last allowed attempt
    chosen = settings_in(tmp_path, max_training_attempts=2)
    records = TrainingRecords(chosen.trainings_folder, chosen.jobs_folder)
    job = TrainingJob(
        "tr-1", fingerprint="f", request=training_request(), folder=records.job_folder("f"), detached=True, attempt=1
    )
    job.start_attempt()
    records.save(job)
    # When the service starts again, then it is not tried for ever
    trainer = Trainer()
    with queue_in(tmp_path, trainer, max_training_attempts=2) as queue:
        assert queue.get("tr-1").state == "failed"
    assert trainer.configs == []


def test_a_stopping_service_takes_no_training(tmp_path: Path) -> None:
    with queue_in(tmp_path, Trainer()) as queue:
        queue.stop()
        with pytest.raises(WorkerUnavailable):
            queue.submit(training_request(), [b"photo"], detached=True)


def test_work_folders_that_nobody_uses_are_swept(tmp_path: Path) -> None:
    stale = tmp_path / "data/jobs/stale"
    stale.mkdir(parents=True)
    with queue_in(tmp_path, Trainer(), checkpoint_retention_s=3600):
        assert stale.is_dir(), "too young"
    with queue_in(tmp_path, Trainer(), checkpoint_retention_s=0):
        assert not stale.exists()


def test_an_unknown_id_is_not_found(tmp_path: Path) -> None:
    with queue_in(tmp_path, Trainer()) as queue, pytest.raises(NotFound):
        queue.get("tr-unknown")
