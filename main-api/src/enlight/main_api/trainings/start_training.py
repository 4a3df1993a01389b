"""From a checked request to a job that a worker may take: photos first, the record next, the queue last.

The record is what makes a training: before it is written nothing was promised, afterwards nothing can be forgotten.
A process that dies in between leaves photos without a record, which the sweep removes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from enlight.dreambooth_api.requests import SAMPLE_FIELDS
from enlight.dreambooth_api.training_jobs import new_job_id
from enlight.dreambooth_api.training_requests import CheckedTraining
from enlight.jobkit.dispatcher import Dispatcher
from enlight.jobkit.job_store import JobStore
from enlight.jobkit.jobs import Job, NewJob
from enlight.main_api.limits.quotas import GPU_SECONDS
from enlight.main_api.limits.rate_limits import RateLimiter
from enlight.main_api.models.names import ModelNames
from enlight.main_api.trainings.objects import TrainingObjects
from enlight.main_api.webhooks.addresses import MAX_URL_CHARS, parse_webhook_url
from enlight.main_api.webhooks.deliveries import WebhookDeliveries
from enlight.servicekit.errors import (
    Conflict,
    DatabaseUnavailable,
    NotFound,
    QueueFull,
    QuotaExceeded,
    ServiceError,
)
from enlight.servicekit.logs import current_request_id
from enlight.servicekit.tracing import tracer

_log = logging.getLogger(__name__)

WEBHOOK_URL = "X-Webhook-URL"


class StartHeaders(BaseModel):
    """Headers of a request for a training."""

    idempotency_key: Annotated[str, StringConstraints(pattern=r"^[!-~]{1,255}$")] | None = Field(
        None,
        alias="Idempotency-Key",
        description="1 to 255 visible ASCII characters. With the same key and body a repeated request gives the "
        "training that the first one started; with another body 422.",
    )
    webhook_url: str | None = Field(
        None,
        alias=WEBHOOK_URL,
        description="Where the training's end is posted to, signed (`GET /v1/webhook-secret`): http or https, a "
        "public address.",
        json_schema_extra={"pattern": "^https?://[!-~]+$", "maxLength": MAX_URL_CHARS},
    )


@dataclass(frozen=True)
class StartOptions:
    """What a request says beside its checked body."""

    body_digest: str
    """SHA-256 of the body and the webhook's URL: what a repeated idempotency key is compared by."""
    idempotency_key: str | None = None
    webhook_url: str | None = None
    fine_tuning: dict[str, Any] | None = None
    """See `NewJob`."""


def start_options(headers: StartHeaders, body: BaseModel, *, private_webhooks: bool) -> StartOptions:
    """The options of a request with this body, or path where it has none.

    Raises:
        InvalidField: webhooks do not go to this URL.
    """
    if headers.webhook_url is not None:
        parse_webhook_url(headers.webhook_url, field=WEBHOOK_URL, allow_private=private_webhooks)
    return StartOptions(_digest(body, headers.webhook_url), headers.idempotency_key, headers.webhook_url)


@dataclass(frozen=True)
class _Wanted:
    """A training that is to be started, but for its photos."""

    model_name: str
    request: dict[str, Any]
    """Plain values; the model is the caller's still."""
    warnings: list[dict[str, Any]]
    retry_of: str | None = None


PutPhotos = Callable[[str], list[str]]
"""Puts a training's photos below its id, and gives their keys."""


class TrainingStarter:
    """Starts trainings, as many as may wait.

    Args:
        store: The jobs.
        objects: Where photos are kept for the worker.
        names: Gives a tenant's model its id in the bucket.
        dispatcher: Tells the workers.
        webhooks: Where the wish for a webhook is noted.
        limiter: Knows whether the tenant has GPU seconds left.
        max_of_tenant: Trainings of one tenant that may wait and run.
        max_queued: Trainings of all tenants that may wait.
    """

    def __init__(
        self,
        store: JobStore,
        objects: TrainingObjects,
        names: ModelNames,
        dispatcher: Dispatcher,
        webhooks: WebhookDeliveries,
        limiter: RateLimiter,
        *,
        max_of_tenant: int,
        max_queued: int,
    ) -> None:
        self._store = store
        self._objects = objects
        self._names = names
        self._dispatcher = dispatcher
        self._webhooks = webhooks
        self._limiter = limiter
        self._max_of_tenant = max_of_tenant
        self._max_queued = max_queued
        self._room = threading.Lock()
        """From counting to creating, so that the requests of this process cannot all take the last place."""

    def start(self, tenant: str, checked: CheckedTraining, options: StartOptions, *, join: bool = False) -> Job:
        """The job of this request: a new one, or the one that its idempotency key made earlier.

        With ``join`` a request without a key gets the training of the same body that has not ended.

        Raises:
            InvalidField: the idempotency key was used with another body.
            QuotaExceeded: the tenant has as many trainings as it may have, or no GPU seconds left.
            QueueFull: as many trainings wait as may wait.
            StorageUnavailable, DatabaseUnavailable: nothing was started, or (rarely, without an answer of the
                database) it cannot be told; a repetition with the same idempotency key is safe.
        """
        request = dataclasses.asdict(checked.request)
        del request["photos"]
        if checked.request.sample_prompt is None:  # what is not asked for, an older worker need not know
            for field in SAMPLE_FIELDS:
                del request[field]
        wanted = _Wanted(
            checked.request.model_id, request, [dataclasses.asdict(warning) for warning in checked.warnings]
        )
        return self._start(tenant, wanted, partial(self._objects.put_photos, photos=checked.photos), options, join=join)

    def retry(self, job: Job, options: StartOptions) -> Job:
        """A new job of the same photos and parameters as ``job``, which ended without a model; the one that this made
        before, as long as that has not ended.

        Raises:
            Conflict: ``job`` did not end so, or its photos are no longer kept.
            ServiceError: as `start`.
        """
        if job.state not in ("failed", "cancelled"):
            raise Conflict(
                f"Only a training that failed or was cancelled is tried again; the state of this one is {job.state}.",
                details={"state": job.state},
            )
        wanted = _Wanted(job.model_name, job.request, job.warnings, retry_of=job.id)

        def copy_photos(job_id: str) -> list[str]:
            try:
                return self._objects.copy_photos(job_id, job.photo_keys)
            except NotFound as error:
                raise Conflict(
                    "The photos of the training are no longer kept; start a new training with them."
                ) from error

        return self._start(job.tenant, wanted, copy_photos, options, join=True)

    def _start(self, tenant: str, wanted: _Wanted, put_photos: PutPhotos, options: StartOptions, *, join: bool) -> Job:
        find_earlier = partial(self._find_earlier, tenant, wanted, options, join=join)
        earlier = self._earlier_or_room(tenant, find_earlier)  # before the photos travel
        if earlier is not None:
            return earlier
        job_id = new_job_id()
        photo_keys = put_photos(job_id)
        try:
            job, made = self._create(tenant, job_id, wanted, photo_keys, options, find_earlier)
        except DatabaseUnavailable:
            raise  # the record may be there: the photos stay until the sweep can ask
        except ServiceError:
            self._objects.try_to_remove(job_id)
            raise
        if not made:  # an equal request was faster
            self._objects.try_to_remove(job_id)
            self._webhooks.forget(job_id)
            return job
        _log.info("training %s of model %s accepted", job.id, job.model_id)
        self._dispatcher.dispatch(job.id)  # the reaper repeats it, should the queue be away
        return job

    def _find_earlier(self, tenant: str, wanted: _Wanted, options: StartOptions, *, join: bool) -> Job | None:
        if options.idempotency_key is not None:
            # Only the key tells which training is meant: joined by its body, a request that is sent again after that
            # one's end would train again.
            return self._store.find_earlier(tenant, options.idempotency_key, options.body_digest)
        if join:
            for state in ("queued", "running"):  # in the order in which a training passes through them
                for job in self._store.list(tenant, state=state, model_name=wanted.model_name):
                    if job.body_digest == options.body_digest and not job.cancel_requested:
                        return job
        return None

    def _earlier_or_room(self, tenant: str, find_earlier: Callable[[], Job | None]) -> Job | None:
        earlier = find_earlier()
        if earlier is None:
            try:
                self._require_room(tenant)
            except (QuotaExceeded, QueueFull):
                # A request beside this one may have taken the last place since, and be the same.
                earlier = find_earlier()
                if earlier is None:
                    raise
        return earlier

    def _create(
        self,
        tenant: str,
        job_id: str,
        wanted: _Wanted,
        photo_keys: list[str],
        options: StartOptions,
        find_earlier: Callable[[], Job | None],
    ) -> tuple[Job, bool]:
        with self._room:
            earlier = self._earlier_or_room(tenant, find_earlier)
            if earlier is not None:
                return earlier, False
            name = wanted.model_name
            bucket_id = self._names.reserve(tenant, name)
            if options.webhook_url is not None:
                self._webhooks.expect(job_id, tenant, options.webhook_url)
            job, made = self._store.create(
                NewJob(
                    id=job_id,
                    tenant=tenant,
                    model_name=name,
                    model_id=bucket_id,
                    request={**wanted.request, "model_id": bucket_id},
                    photo_keys=photo_keys,
                    warnings=wanted.warnings,
                    idempotency_key=options.idempotency_key,
                    body_digest=options.body_digest,
                    webhook_url=options.webhook_url,
                    retry_of=wanted.retry_of,
                    fine_tuning=options.fine_tuning,
                    request_id=current_request_id() or None,
                    trace_parent=tracer().trace_parent(),
                )
            )
        return job, made

    def _require_room(self, tenant: str) -> None:
        self._limiter.take(tenant, GPU_SECONDS, 0)
        unfinished = self._store.count("queued", tenant=tenant) + self._store.count("running", tenant=tenant)
        if unfinished >= self._max_of_tenant:
            raise QuotaExceeded(
                f"{unfinished} trainings of yours wait or run; no more are taken until one has ended.",
                retry_after_s=60,
            )
        queued = self._store.count("queued")
        if queued >= self._max_queued:
            raise QueueFull(f"{queued} trainings wait; no more are taken now.", retry_after_s=60)


def _digest(body: BaseModel, webhook_url: str | None) -> str:
    # Long texts (photos) go in by their own digest: no second copy of a large body is made.
    described = json.dumps([_described(body.model_dump()), webhook_url], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()


def _described(value: object) -> object:
    if isinstance(value, dict):
        return {key: _described(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_described(item) for item in value]
    if isinstance(value, str):
        return hashlib.sha256(value.encode()).hexdigest()
    return value
