"""Admits trainings, runs each in a trainer process when a slot is free, and starts a dead trainer again. No torch."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.dreambooth_api.photo_preflight import PhotoWarning
from enlight.dreambooth_api.process_environment import PROCESS_ENVIRONMENT
from enlight.dreambooth_api.requests import TrainerConfig, TrainingOutcome, TrainingProgress, TrainingRequest
from enlight.dreambooth_api.settings import Settings
from enlight.dreambooth_api.training_jobs import JobState, TrainingJob, fingerprint, new_job_id
from enlight.dreambooth_api.training_metrics import TrainingMetrics
from enlight.dreambooth_api.training_records import TrainingRecords
from enlight.servicekit.errors import (
    Conflict,
    InternalError,
    JobCancelled,
    JobFailed,
    NotFound,
    QueueFull,
    ServiceError,
    WorkerUnavailable,
)
from enlight.servicekit.job_process import run_job
from enlight.servicekit.logs import current_request_id, log_context

_log = logging.getLogger(__name__)

TRAINER = "enlight.dreambooth_api.trainer:main"

RunTrainer = Callable[
    [TrainingJob, TrainerConfig, Callable[[TrainingProgress], None], threading.Event], TrainingOutcome
]


def run_trainer(settings: Settings, trainings: TrainingMetrics) -> RunTrainer:
    """The real way to run a training: a child process per job, which ``trainings`` measures."""

    def run(
        job: TrainingJob,
        config: TrainerConfig,
        on_progress: Callable[[TrainingProgress], None],
        closing: threading.Event,
    ) -> TrainingOutcome:
        with trainings.trainer() as measured:

            def take(payload: object) -> None:
                if isinstance(payload, TrainingProgress):  # what it remarks is in its own log too
                    measured.take(payload)
                    on_progress(payload)

            outcome = run_job(
                TRAINER,
                config,
                on_progress=take,
                cancel=job.cancel,
                cancel_grace_s=settings.training_stop_grace_s,
                closing=closing,
                env=PROCESS_ENVIRONMENT,
                name="trainer",
            )
        return cast(TrainingOutcome, outcome)

    return run


class TrainingQueue:
    """The trainings of this service.

    Args:
        settings: Slots, bounds and the trainer's configuration.
        catalogue: Where the base models are.
        records: Their records on disk.
        run: Runs one training; `run_trainer` in the service.
    """

    def __init__(
        self, settings: Settings, catalogue: BaseCatalogue, records: TrainingRecords, *, run: RunTrainer
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._records = records
        self._run = run
        self._lock = threading.Condition()
        self._waiting: deque[TrainingJob] = deque()
        self._running: list[TrainingJob] = []
        self._jobs: dict[str, TrainingJob] = {}
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Takes up the trainings that an earlier life of the service had accepted, and begins to work."""
        for job in self._records.load():
            self._jobs[job.id] = job
            if job.ended:
                continue
            if job.attempt >= self._settings.max_training_attempts:
                job.fail(JobFailed(f"The training was begun {job.attempt} times and never reached its end."))
                self._records.save(job)
                continue
            self._waiting.append(job)
            _log.info("training %s goes on after a restart", job.id)
        self._sweep()
        for number in range(self._settings.training_slots):
            thread = threading.Thread(target=self._work, name=f"training-slot-{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Ends all trainings with a checkpoint; detached ones go on when the service starts again."""
        # The slots are told first and waited for last: while they write their checkpoints nothing new may begin.
        self._closing.set()
        with self._lock:
            self._lock.notify_all()
        for thread in self._threads:
            thread.join(self._settings.training_stop_grace_s + 5)

    def submit(
        self,
        request: TrainingRequest,
        photos: Sequence[bytes],
        *,
        detached: bool,
        warnings: tuple[PhotoWarning, ...] = (),
    ) -> TrainingJob:
        """Accepts a training. An identical one that has not ended is joined, not started twice.

        Raises:
            QueueFull: as many trainings as allowed run and wait.
            WorkerUnavailable: the service is stopping.
        """
        identity = fingerprint(request, photos)
        with self._lock:
            if self._closing.is_set():
                raise WorkerUnavailable(
                    "The service is stopping; send the request again in a moment.", retry_after_s=10
                )
            twin = self._find_active(identity)
            if twin is not None:
                if detached and not twin.detached:
                    raise Conflict(
                        "An identical training runs for a client of /train; wait for its end, or change the seed.",
                        details={"training_id": twin.id},
                    )
                return twin
            busy = len(self._running) + len(self._waiting)
            if busy >= self._settings.training_slots + self._settings.max_waiting_trainings:
                raise QueueFull(
                    f"{len(self._running)} trainings run and {len(self._waiting)} wait; no more are taken now.",
                    retry_after_s=60,
                )
            paths = self._records.photo_paths(identity, len(photos))
            # The work folder is made under the lock, so that a sweep cannot take it away again.
            self._records.write_photos(paths, photos)
            job = TrainingJob(
                new_job_id(),
                fingerprint=identity,
                request=dataclasses.replace(request, photos=paths),
                folder=self._records.job_folder(identity),
                detached=detached,
                warnings=warnings,
                request_id=current_request_id() or None,
            )
            self._records.save(job)
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._lock.notify_all()
        _log.info("training %s of model %s accepted", job.id, request.model_id)
        return job

    @contextmanager
    def waiting_client(self, job: TrainingJob) -> Iterator[None]:
        """Counts a synchronous client of ``job``; when the last one leaves an undetached job, it is cancelled.

        Raises:
            QueueFull: too many clients wait already.
        """
        with self._lock:
            if sum(other.waiting_clients for other in self._jobs.values()) >= self._settings.max_training_waiters:
                too_many = QueueFull(
                    "Too many clients wait for a training's end; use POST /v1/trainings, which answers at once.",
                    retry_after_s=60,
                )
                if not job.detached and job.waiting_clients == 0:
                    job.cancel.set()
                    self._drop_if_waiting(job)
                raise too_many
            job.waiting_clients += 1
        try:
            yield
        finally:
            with self._lock:
                job.waiting_clients -= 1
                if job.waiting_clients == 0 and not job.detached and not job.ended:
                    job.cancel.set()
                    self._drop_if_waiting(job)

    def cancel(self, job: TrainingJob) -> None:
        """Asks for the end of a training; a running one ends within a step.

        Raises:
            Conflict: it has ended already.
        """
        with self._lock:
            if job.ended:
                raise Conflict(f"The training has ended: {job.state}.", details={"state": job.state})
            job.cancel.set()
            self._drop_if_waiting(job)

    def get(self, job_id: str) -> TrainingJob:
        """The training with this id.

        Raises:
            NotFound: there is none.
        """
        with self._lock:
            job = self._jobs.get(job_id)
        if job is None:
            raise NotFound(f"No training has the id {job_id[:64]!r}.")
        return job

    def list(self, state: JobState | None, limit: int) -> list[TrainingJob]:
        """The trainings of both routes, newest first; those of ``/train`` are forgotten by a restart."""
        with self._lock:
            jobs = [job for job in self._jobs.values() if state is None or job.state == state]
        return sorted(jobs, key=lambda job: job.id, reverse=True)[:limit]

    def position(self, job: TrainingJob) -> int | None:
        """Trainings before this one in the queue; None unless it waits."""
        with self._lock:
            return self._waiting.index(job) if job in self._waiting else None

    def counts(self) -> dict[str, int]:
        """How many trainings run and wait."""
        with self._lock:
            return {"running": len(self._running), "waiting": len(self._waiting)}

    def _find_active(self, fingeridentity: str) -> TrainingJob | None:
        # One that is being cancelled is not joined: it would end under the hands of its new client. But it must
        # have let go of the work folder before a twin may use it, which the slot order below takes care of.
        for job in (*self._running, *self._waiting):
            if job.fingerprint == fingeridentity and not job.cancel.is_set():
                return job
        return None

    def _drop_if_waiting(self, job: TrainingJob) -> None:
        if job in self._waiting:
            self._waiting.remove(job)
            self._end_cancelled(job)

    def _end_cancelled(self, job: TrainingJob) -> None:
        job.end_cancelled(JobCancelled("The training was cancelled."))
        self._records.save(job)
        if job.detached:
            self._records.remove_folder(job.fingerprint)

    def _next_job(self) -> TrainingJob | None:
        with self._lock:
            while not self._closing.is_set():
                in_use = {job.fingerprint for job in self._running}
                for job in self._waiting:
                    # Two jobs never share a work folder at the same time (the first may still be winding down).
                    if job.fingerprint not in in_use:
                        self._waiting.remove(job)
                        self._running.append(job)
                        return job
                self._lock.wait()
        return None

    def _work(self) -> None:
        while (job := self._next_job()) is not None:
            with log_context(request_id=job.request_id, job_id=job.id):
                try:
                    self._train(job)
                except Exception as error:  # noqa: BLE001 -- the job must end whatever went wrong
                    # A defect of this code must not take the slot with it.
                    _log.exception("training %s ended unexpectedly", job.id)
                    job.fail(error if isinstance(error, ServiceError) else InternalError("The training failed."))
            with self._lock:
                self._running.remove(job)
                self._jobs = {kept.id: kept for kept in self._records.prune(list(self._jobs.values()))}
                self._lock.notify_all()
            self._sweep()

    def _train(self, job: TrainingJob) -> None:
        base = self._catalogue.bases()[job.request.base_name]
        config = self._settings.trainer_config(base, job.request, job.folder)
        while True:
            job.start_attempt()
            self._records.save(job)
            try:
                outcome = self._run(job, config, job.report, self._closing)
            except JobCancelled:
                self._end_cancelled(job)
            except WorkerUnavailable as error:
                if self._closing.is_set():
                    self._interrupt(job, error)
                elif job.attempt < self._settings.max_training_attempts:
                    _log.warning("the trainer of %s died (%s); it goes on from its checkpoint", job.id, error.message)
                    continue
                else:
                    job.fail(JobFailed(f"The trainer died {job.attempt} times; the last time: {error.message}"))
                    self._records.save(job)
            except ServiceError as error:
                _log.info("training %s failed: %s", job.id, error.message)
                job.fail(error)
                self._records.save(job)
            else:
                # The record first, so that a crash here does not train again; the client last, because the contract
                # says that by then the local copy is gone.
                self._records.save_success(job, outcome)
                self._records.remove_folder(job.fingerprint)
                job.succeed(outcome)
                _log.info(
                    "training %s published %s version %s after %.1f s",
                    job.id,
                    outcome.model_id,
                    outcome.version,
                    outcome.total_s,
                )
            return

    def _interrupt(self, job: TrainingJob, error: WorkerUnavailable) -> None:
        if job.detached:
            # Its record still says `running`, so the next life of the service takes it up; the attempt that a
            # stop of the service ended does not count against it.
            job.attempt -= 1
            self._records.save(job)
        else:
            job.fail(error)

    def _sweep(self) -> None:
        with self._lock:
            in_use = {job.fingerprint for job in (*self._running, *self._waiting)}
            self._records.sweep_folders(in_use=in_use, older_than_s=self._settings.checkpoint_retention_s)
