"""One attempt at a claimed job, from its photos to its published model.

The order carries the guarantee. The trainer publishes a version that no alias names. ``commit`` settles in the
database, on the condition that this attempt still holds the job, that it is the job's version. Only then does it
become the model's current one. Whoever is killed, paused or cut off on the way has changed nothing that others see,
or left a committed job that the next attempt only finishes.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

from enlight.dreambooth_api.attempt_history import AttemptHistory
from enlight.dreambooth_api.attempt_stages import AttemptStages
from enlight.dreambooth_api.attempt_versions import AttemptVersions, describe_outcome
from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.dreambooth_api.checkpoint_mirror import CheckpointMirror
from enlight.dreambooth_api.checkpoint_uploads import CheckpointUploads
from enlight.dreambooth_api.lease_keeper import LeaseKeeper
from enlight.dreambooth_api.model_store import ModelStore
from enlight.dreambooth_api.process_environment import PROCESS_ENVIRONMENT
from enlight.dreambooth_api.requests import TrainerConfig, TrainingOutcome, TrainingProgress, TrainingRequest
from enlight.dreambooth_api.training_metrics import Trainer
from enlight.dreambooth_api.training_queue import TRAINER
from enlight.dreambooth_api.worker_metrics import WorkerMetrics, unwatched
from enlight.dreambooth_api.worker_settings import WorkerSettings
from enlight.jobkit.job_leases import JobLeases, LeaseLost
from enlight.jobkit.jobs import Job
from enlight.servicekit.errors import (
    ClientError,
    CorruptModel,
    DatabaseUnavailable,
    JobCancelled,
    JobFailed,
    NotFound,
    OutOfGpuMemory,
    ServiceError,
    StorageUnavailable,
    WeightsUnavailable,
    WorkerUnavailable,
    error_to_wire,
)
from enlight.servicekit.job_process import run_job
from enlight.servicekit.object_store import ObjectStore, remove_folder

_log = logging.getLogger(__name__)

_FINAL = (ClientError, CorruptModel, JobFailed, OutOfGpuMemory, WeightsUnavailable)
"""Errors that another attempt would meet again: they end the job. After any other, another attempt is made."""

_PATIENCE_S = 600.0
"""How long a trained model waits for a database that is away."""
_RETRY_EVERY_S = 1.0


class TrainingAttempt:
    """One attempt at a job.

    Args:
        job: As this attempt claimed it.
        leases: Who is told what becomes of it.
        history: Is told what happens on the way.
        objects: The jobs' bucket.
        models: Where the model is published.
        settings: Of the worker.
        closing: Set when the worker is to stop; only looked at.
        trainer: What the trainer's process runs, as ``module:function``.
        metrics: Are told what the attempt measures, and how it ends; None: nobody is.
    """

    def __init__(
        self,
        job: Job,
        leases: JobLeases,
        history: AttemptHistory,
        objects: ObjectStore,
        models: ModelStore,
        settings: WorkerSettings,
        closing: threading.Event,
        *,
        trainer: str = TRAINER,
        metrics: WorkerMetrics | None = None,
    ) -> None:
        self._job = job
        self._leases = leases
        self._history = history
        self._settings = settings
        self._closing = closing
        self._trainer = trainer
        self._metrics = metrics or unwatched()
        self._objects = objects
        self._versions = AttemptVersions(models, job)
        self._folder = settings.work_folder / f"{job.attempt:04d}-{secrets.token_hex(8)}"

    def run(self) -> None:
        """Brings the job to its end, or gives it up.

        Raises:
            LeaseLost: the job is another attempt's, or ended.
            DatabaseUnavailable: the database could not be told; the lease runs out.
        """
        with self._history:
            self._run()

    def _run(self) -> None:
        lost = self._job.lost_attempts
        before = f" Workers lost before: {lost}." if lost else ""
        self._history.note("info", f"Taken by worker {self._job.worker}.{before}")
        shutil.rmtree(self._settings.work_folder, ignore_errors=True)  # of attempts that were killed
        self._folder.mkdir(parents=True)
        try:
            with LeaseKeeper(
                self._leases,
                self._job,
                lease_s=self._settings.lease_s,
                silence_limit_s=self._settings.training_hang_timeout_s,
            ) as lease:
                self._work(lease)
        except LeaseLost:
            self._metrics.ended("lost")
            self._history.note("warning", "This worker has lost the training; nothing of its attempt counts.")
            self._withdraw()
            raise
        except ServiceError:
            self._metrics.ended("lost")
            raise
        except Exception:
            self._metrics.ended("lost")
            self._history.note("error", "The worker met an error that was not foreseen.", traceback.format_exc())
            raise
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _work(self, lease: LeaseKeeper) -> None:
        job_id, attempt = self._job.id, self._job.attempt
        needless = ["checkpoints"]
        try:
            self._train_and_publish(lease)
            needless.append("photos")  # of a training without a model they wait for another try
            outcome = "succeeded"
        except JobCancelled:
            lease.check()
            self._insist(partial(self._leases.cancelled, job_id, attempt))
            outcome = "cancelled"
        except _FINAL as error:
            lease.check()
            _log.info("the job failed: %s", error.message)
            self._insist(partial(self._leases.fail, job_id, attempt, _reason(error)))
            outcome = "failed"
        except (_NothingLostError, ServiceError) as error:
            lease.check()
            self._give_up(error)
            return
        self._metrics.ended(outcome)
        self._remove_objects(needless)

    def _give_up(self, error: Exception) -> None:
        if isinstance(error, _NothingLostError) or (self._closing.is_set() and isinstance(error, WorkerUnavailable)):
            _log.info("the job goes back to the queue: %s", error)
            self._history.note("info", f"The worker gives the training back to the queue: {error}")
            self._leases.release(self._job.id, self._job.attempt)
            self._metrics.ended("released")
        else:
            # Nobody is told: the lease runs out, and whoever sees that counts the lost attempts.
            _log.warning("attempt %d died: %s", self._job.attempt, error)
            self._metrics.ended("lost")
            self._history.note("error", f"The attempt ends without a result: {error}")

    def _train_and_publish(self, lease: LeaseKeeper) -> None:
        with AttemptStages() as stages:
            self._reach_the_end(lease, stages)

    def _reach_the_end(self, lease: LeaseKeeper, stages: AttemptStages) -> None:
        job, versions = self._job, self._versions
        if job.committed_version is None:
            stages.begin("prepare")
            outcome = self._train(lease, stages)
            lease.check()
            stages.begin("publish")
            self._insist(partial(self._leases.commit, job.id, job.attempt, outcome.version))
            version, result = outcome.version, describe_outcome(outcome)
        else:
            stages.begin("publish")
            version = job.committed_version
            result = versions.describe(version)
        versions.make_current(version)
        self._history.note("info", f"Version {version} is published.")
        self._insist(partial(self._leases.succeed, job.id, job.attempt, result))
        _log.info("version %s of %s is published", version, job.model_id)
        versions.remove(kept=version)

    def _train(self, lease: LeaseKeeper, stages: AttemptStages) -> TrainingOutcome:
        settings = self._settings
        mirror = CheckpointMirror(
            self._objects,
            self._job.id,
            self._job.attempt,
            folder=self._folder / "checkpoints",
            staging=self._folder / "mirrored",
        )
        catalogue = BaseCatalogue(
            settings.models_folder, revisions=settings.base_revisions, aliases=settings.base_aliases
        )
        try:
            request = _request_of(self._job, self._fetch_photos(lease))
            base = catalogue.resolve(request.base_name, field="base_model")
            catalogue.require_weights(base)
            step = mirror.restore(on_bytes=lambda _: self._go_on(lease))
        except StorageUnavailable as error:
            raise _NothingLostError(error.message) from error
        _log.info("the training begins after update %d", step)
        config = settings.trainer_config(
            base,
            request,
            self._folder,
            version=self._versions.own,
            move_alias=False,
            sampled_steps=tuple(sample.step for sample in self._job.samples),
        )

        with self._metrics.trainer() as measured:
            return self._run_trainer(config, mirror, lease, measured, stages)

    def _run_trainer(
        self,
        config: TrainerConfig,
        mirror: CheckpointMirror,
        lease: LeaseKeeper,
        measured: Trainer,
        stages: AttemptStages,
    ) -> TrainingOutcome:
        settings = self._settings

        def on_progress(payload: object) -> None:
            lease.check()
            lease.alive()
            self._history.take(payload)
            if isinstance(payload, TrainingProgress):
                measured.take(payload)
                stages.take(payload)
                lease.report(payload)

        try:
            with CheckpointUploads(
                mirror,
                every_s=settings.checkpoint_poll_s,
                before_upload=self._history.flush,  # whoever goes on from it does not come by earlier samples again
                tell=self._history.note,
                measured=self._metrics.uploaded,
            ):
                outcome = run_job(
                    self._trainer,
                    config,
                    on_progress=on_progress,
                    cancel=lease.cancel,
                    cancel_grace_s=settings.training_stop_grace_s,
                    closing=self._closing,
                    env=PROCESS_ENVIRONMENT,
                    hang_timeout_s=settings.training_hang_timeout_s,
                    name="trainer",
                )
        finally:
            self._history.flush()  # while the job is this attempt's: afterwards no sample is taken
        return cast(TrainingOutcome, outcome)

    def _fetch_photos(self, lease: LeaseKeeper) -> tuple[Path, ...]:
        folder = self._folder / "photos"
        folder.mkdir()
        paths = tuple(folder / f"{index:02d}" for index in range(len(self._job.photo_keys)))
        for key, path in zip(self._job.photo_keys, paths, strict=True):
            self._go_on(lease)
            try:
                with path.open("xb") as file:
                    self._objects.download(key, file.write)
            except NotFound as error:
                raise JobFailed(f"Photo {path.name} of the training is no longer there.") from error
        return paths

    def _go_on(self, lease: LeaseKeeper) -> None:
        """A sign of life before the trainer's. Raises: LeaseLost, JobCancelled, _NothingLostError."""
        lease.alive()
        lease.check()
        if lease.cancel.is_set():
            raise JobCancelled("The job was cancelled.")
        if self._closing.is_set():
            raise _NothingLostError("the worker stops")

    def _insist(self, update: Callable[[], None]) -> None:
        """Tells the database; again while it is away, since hours of training may depend on it."""
        give_up_s = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return update()
            except DatabaseUnavailable:
                if self._closing.is_set() or time.monotonic() > give_up_s:
                    raise
                _log.warning("what became of the job cannot be told; it is tried again")
                time.sleep(_RETRY_EVERY_S)

    def _remove_objects(self, folders: Iterable[str]) -> None:
        """The job has ended: nobody needs these any more. The gateway sweeps what stays."""
        with suppress(StorageUnavailable):
            for folder in folders:
                remove_folder(self._objects, f"{self._job.id}/{folder}")

    def _withdraw(self) -> None:
        """Removes the version that this attempt may have published, where it is certain that it is not the job's."""
        with suppress(DatabaseUnavailable):
            job = self._leases.find(self._job.id)
            # While ours is the newest attempt of a running job, a write whose answer was lost may still arrive.
            over = job is not None and (job.ended or job.attempt != self._job.attempt)
            if job is not None and over and job.committed_version != self._versions.own:
                self._versions.remove_own()


class _NothingLostError(Exception):
    """The attempt ends before its trainer began, for a reason that is not the job's: it does not count as lost."""


def _request_of(job: Job, photos: tuple[Path, ...]) -> TrainingRequest:
    try:
        return TrainingRequest(**{**job.request, "model_id": job.model_id, "photos": photos})
    except TypeError as error:
        raise JobFailed("The training was accepted by another version of the gateway; send it again.") from error


def _reason(error: ServiceError) -> Mapping[str, Any]:
    wire = error_to_wire(error)
    return {"code": wire.code, "message": wire.message, "details": dict(wire.details)}
