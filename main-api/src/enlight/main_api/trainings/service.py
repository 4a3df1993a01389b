"""What stands behind the training routes: started and stopped together, and the few acts that need several parts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from pydantic import BaseModel
from pymongo.database import Database

from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.dreambooth_api.training_requests import CheckedTraining, TrainingChecker
from enlight.jobkit.dispatcher import Dispatcher
from enlight.jobkit.job_histories import JobHistories
from enlight.jobkit.job_store import JobStore
from enlight.jobkit.jobs import Job, JobSample
from enlight.main_api.background import Repeating
from enlight.main_api.limits.rate_limits import RateLimiter
from enlight.main_api.metrics.gateway_metrics import GatewayMetrics
from enlight.main_api.models.names import ModelNames
from enlight.main_api.settings import Settings
from enlight.main_api.trainings.events import TrainingEvents
from enlight.main_api.trainings.history import History, training_log, training_losses
from enlight.main_api.trainings.leftovers import SWEEP_EVERY_S, sweep
from enlight.main_api.trainings.objects import TrainingObjects
from enlight.main_api.trainings.samples import TrainingJobBody, with_samples
from enlight.main_api.trainings.shared_reads import SharedReads
from enlight.main_api.trainings.start_training import StartHeaders, StartOptions, TrainingStarter, start_options
from enlight.main_api.trainings.views import TrainingPageQuery, training_error, training_view
from enlight.main_api.trainings.waiters import TrainingWaiters
from enlight.main_api.trainings.watch import JobWatcher
from enlight.main_api.usage.training_time import TAKE_OVER_EVERY_S, TrainingTime
from enlight.main_api.webhooks.deliveries import WebhookDeliveries
from enlight.main_api.webhooks.delivery_log import DeliveryLog
from enlight.main_api.webhooks.post import WebhookPoster
from enlight.main_api.webhooks.sender import WebhookSender
from enlight.main_api.webhooks.webhooks import WebhookSecrets
from enlight.servicekit.errors import Conflict, NotFound
from enlight.servicekit.metrics import ServiceMetrics
from enlight.servicekit.object_store import ObjectStore

_WEBHOOK_LEASE_MARGIN_S = 60.0
"""For the name server and the database, beside the post itself."""


class TrainingService:
    """The trainings of the gateway.

    Args:
        settings: Bounds and times.
        database: For the webhooks' collections and the trainings' histories.
        store: The jobs.
        objects: The jobs' bucket.
        names: The tenants' names of models.
        dispatcher: Tells the workers.
        catalogue: The base models that a training may name; their weights need not be here.
        limiter: Counts what the tenants use, the workers' time included.
        measured: Counts what becomes of webhooks and attempts; None: nobody asks.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        database: Database[dict[str, Any]],
        store: JobStore,
        objects: ObjectStore,
        names: ModelNames,
        dispatcher: Dispatcher,
        catalogue: BaseCatalogue,
        limiter: RateLimiter,
        measured: GatewayMetrics | None = None,
    ) -> None:
        measured = measured or GatewayMetrics(ServiceMetrics(http=False))
        self._settings = settings
        self._store = store
        self._objects = TrainingObjects(objects)
        self._histories = JobHistories(database)
        self._deliveries = WebhookDeliveries(
            database,
            lease_s=settings.webhook_timeout_s + _WEBHOOK_LEASE_MARGIN_S,
            max_attempts=settings.webhook_attempts,
        )
        self.delivery_log = DeliveryLog(database)
        self.secrets = WebhookSecrets(database)
        self.checker = TrainingChecker(settings, catalogue, require_weights=False)
        self._starter = TrainingStarter(
            store,
            self._objects,
            names,
            dispatcher,
            self._deliveries,
            limiter,
            max_of_tenant=settings.max_queued_trainings,
            max_queued=settings.max_all_queued_trainings,
        )
        self._reads = SharedReads(store.find_many)
        self._positions = SharedReads(store.positions)
        self.watcher = JobWatcher(store.find_many, poll_s=settings.event_poll_s)
        self.events = TrainingEvents(self.watcher, settings.max_event_streams)
        self._waiters = TrainingWaiters(self.watcher, settings.max_training_waiters)
        self._sender = WebhookSender(
            self._deliveries,
            self.secrets,
            WebhookPoster(timeout_s=settings.webhook_timeout_s, allow_private=settings.webhook_private_addresses),
            store.find_many,
            allow_private=settings.webhook_private_addresses,
            tried=measured.webhook_tried,
        )
        tidy_up = partial(sweep, self._objects, store, photos_kept_s=settings.ended_photos_kept_s)
        self._sweeper = Repeating(tidy_up, every_s=SWEEP_EVERY_S, name="training-sweep")
        self._time = TrainingTime(database, limiter, recorded=measured.attempt_ended)
        self._time_keeper = Repeating(self._time.take_over, every_s=TAKE_OVER_EVERY_S, name="training-time")

    def make_indexes(self) -> None:
        """Makes the indexes of the webhooks' collections. Raises: DatabaseUnavailable."""
        self._deliveries.make_indexes()

    def start(self) -> None:
        """Begins to watch trainings and their time, to deliver webhooks and to tidy up."""
        for part in (self.watcher, self._sender, self._sweeper, self._time_keeper):
            part.start()

    def stop(self) -> None:
        """Ends streams and waiting clients, whose trainings go on."""
        for part in (self.watcher, self._sender, self._sweeper, self._time_keeper):
            part.stop()

    def options(self, headers: StartHeaders, body: BaseModel) -> StartOptions:
        """What a request says beside its body, or path. Raises: InvalidField naming the header."""
        return start_options(headers, body, private_webhooks=self._settings.webhook_private_addresses)

    def start_training(self, tenant: str, body: TrainingJobBody, options: StartOptions, *, join: bool = False) -> Job:
        """The job of this request; see `TrainingStarter.start`. Raises also: InvalidField of the body."""
        checked = self.checker.from_training_body(body)
        checked = with_samples(checked, body, max_prompt_chars=self._settings.max_prompt_chars)
        return self._starter.start(tenant, checked, options, join=join)

    def retry(self, tenant: str, job_id: str, options: StartOptions) -> Job:
        """A new training like this one; see `TrainingStarter.retry`. Raises also: NotFound."""
        job = self._store.get(tenant, job_id)
        told = options.webhook_url or job.webhook_url
        return self._starter.retry(job, dataclasses.replace(options, webhook_url=told, fine_tuning=job.fine_tuning))

    def train(self, tenant: str, checked: CheckedTraining, options: StartOptions, gone: Callable[[], bool]) -> Job:
        """The job of this request once it has succeeded.

        Raises:
            ServiceError: as `TrainingStarter.start` and `TrainingWaiters`, or why the training ended without a model.
        """
        with self._waiters.place():
            job = self._waiters.wait(self._starter.start(tenant, checked, options, join=True), gone)
        if job.state != "succeeded":
            raise training_error(job)
        return job

    def get(self, tenant: str, job_id: str) -> Job:
        """The tenant's training. Raises: NotFound, for another tenant's too."""
        job = self._reads.find(job_id)
        if job is None or job.tenant != tenant:
            raise NotFound(f"There is no training {job_id[:100]!r}.")
        return job

    @contextmanager
    def reads_together(self, job_ids: Sequence[str]) -> Iterator[None]:
        """Within it, this thread's looks at these trainings share their questions to the database."""
        with self._reads.together(job_ids), self._positions.together(job_ids):
            yield

    def view(self, job: Job) -> dict[str, Any]:
        """``job`` as a caller sees it."""
        return training_view(job, self._positions.find(job.id) if job.state == "queued" else None)

    def jobs(
        self, tenant: str, *, limit: int, before: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> list[Job]:
        """Trainings of the tenant, newest first; see `JobStore.list`."""
        return self._store.list(tenant, limit=limit, before=before, metadata=metadata)

    def page(self, tenant: str, query: TrainingPageQuery) -> dict[str, Any]:
        """A page of the tenant's trainings, newest first."""
        jobs = self._store.list(
            tenant, state=query.state, model_name=query.model_id, limit=query.limit + 1, before=query.before
        )
        shown = jobs[: query.limit]
        positions = self._store.positions({job.id for job in shown if job.state == "queued"})
        return {
            "trainings": [training_view(job, positions.get(job.id)) for job in shown],
            "next": shown[-1].id if len(jobs) > len(shown) else None,
        }

    def cancel(self, tenant: str, job_id: str) -> Job:
        """Asks for the end of a training. Cancelling twice is no error.

        Raises:
            NotFound: the tenant has no such training.
            Conflict: it has succeeded or failed already.
        """
        job = self._store.request_cancel(tenant, job_id)
        if job.state in ("succeeded", "failed"):
            raise Conflict(f"The training has ended: {job.state}.", details={"state": job.state})
        if job.state == "cancelled":  # no worker had it, so nobody else removes what an earlier one left
            self._objects.try_to_remove(f"{job.id}/checkpoints")
        return job

    def read_sample(self, job: Job, sample: JobSample) -> bytes:
        """The file of a sample; see `TrainingObjects.read_sample`."""
        return self._objects.read_sample(job, sample)

    def losses(self, tenant: str, job_id: str) -> dict[str, Any]:
        """The curve of a training's losses. Raises: NotFound."""
        return training_losses(self._histories.losses(self.get(tenant, job_id).id))

    def history(self, job: Job) -> History:
        """What workers told of a training."""
        lines, lines_in_all = self._histories.lines(job.id)
        return History(lines, lines_in_all, self._histories.losses(job.id))

    def log(self, tenant: str, job_id: str, *, max_lines: int, with_traces: bool) -> dict[str, Any]:
        """What happened to a training. Raises: NotFound."""
        job = self.get(tenant, job_id)
        return training_log(job, *self._histories.lines(job.id), max_lines=max_lines, with_traces=with_traces)

    def delete(self, tenant: str, job_id: str) -> None:
        """Removes an ended training's record and history, whatever it still has in the jobs' bucket, and its webhook.

        Raises:
            NotFound: the tenant has no such training.
            Conflict: it has not ended.
            StorageUnavailable, DatabaseUnavailable: the record is still there; a repetition goes on.
        """
        job = self._store.get(tenant, job_id)
        if not job.ended:
            raise Conflict("The training has not ended; cancel it first.", details={"state": job.state})
        self._objects.remove(job_id)
        self._histories.remove(job_id)
        self._time.settle(job)  # with the record goes what it took
        self._deliveries.forget(job_id)
        self._store.delete(tenant, job_id)
