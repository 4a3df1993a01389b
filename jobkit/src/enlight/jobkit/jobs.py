"""One job as a value: what is asked for, and the record that the database keeps of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from enlight.jobkit.states import FINAL_STATES, EndState, State

Outcome = Literal[EndState, "released", "lost"]
"""How an attempt ended; ``released``: its worker gave the job back, ``lost``: its lease ran out."""


@dataclass(frozen=True)
class EndedAttempt:
    """A worker's time on a job, which is over."""

    attempt: int
    outcome: Outcome
    gpu_seconds: float
    ended_at: datetime
    """Of a lost one: its last sign of life."""


@dataclass(frozen=True)
class JobSample:
    """A picture that a training made of itself on its way; its file is in the jobs' store."""

    step: int
    attempt: int
    """Which attempt made it; part of the file's name."""
    seconds: float
    """How long that took."""
    size_bytes: int
    sha256: str


def sample_key(job_id: str, sample: JobSample) -> str:
    """Where a sample's file is in the jobs' store. Two attempts never write the same one."""
    return f"{job_id}/samples/{sample.step:08d}-{sample.attempt:04d}"


@dataclass(frozen=True)
class NewJob:
    """A job on its way into the database.

    ``model_name`` is the tenant's name of the model, ``model_id`` the bucket's. ``request`` holds plain values
    without photos, ``photo_keys`` the photos' keys in the jobs' store, ``body_digest`` names the caller's body,
    so that one ``idempotency_key`` with another body is seen.
    """

    id: str
    tenant: str
    model_name: str
    model_id: str
    request: dict[str, Any]
    photo_keys: list[str]
    warnings: list[dict[str, Any]]
    idempotency_key: str | None
    body_digest: str
    webhook_url: str | None
    retry_of: str | None = field(default=None, kw_only=True)
    """Id of the job that this one repeats."""
    fine_tuning: dict[str, Any] | None = field(default=None, kw_only=True)
    """What came by OpenAI's route besides, and is told back there: ``training_file``, ``method``, ``hyperparameters``,
    and ``metadata`` as a list of ``key`` and ``value``, for a key may be any text."""
    request_id: str | None = field(default=None, kw_only=True)
    """Of the request that made it: each attempt's log lines carry it, wherever that runs."""
    trace_parent: str | None = field(default=None, kw_only=True)
    """Names that request's span, in W3C's form, where it was traced: each attempt's span belongs to it."""


@dataclass(frozen=True)
class Job(NewJob):
    """A job as the database holds it; read-only, and as old as the read. Times have a time zone (UTC)."""

    state: State
    reason: dict[str, Any] | None
    """Why it failed: ``code``, ``message``, ``details``, as in an error's body."""
    attempt: int
    """Fencing token: how often the job was claimed. Only the newest attempt can change the job."""
    lost_attempts: int
    """Attempts whose lease ran out."""
    worker: str | None
    """Who holds it, or held it last."""
    lease_until: datetime | None
    """Until when the holder is believed to live, by the database's clock; None unless running."""
    renewed_at: datetime | None
    """The last sign of life of whoever holds it, or held it last."""
    gpu_seconds: float
    """Seconds that workers had the job, all attempts together, up to the last sign of life."""
    counted_gpu_seconds: float
    """How many of these were counted against the tenant's limit."""
    unrecorded_attempts: tuple[EndedAttempt, ...]
    """Attempts that ended and are not among the usage records yet."""
    progress: dict[str, Any] | None
    samples: tuple[JobSample, ...]
    """In the order in which they came."""
    revision: int
    """Grows with every change that a client can see, progress included; 1 at creation."""
    cancel_requested: bool
    committed_version: str | None
    """The model version that this job published; once set, only this version can be the job's."""
    result: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def ended(self) -> bool:
        """Whether the job reached its end."""
        return self.state in FINAL_STATES


_NAMES = tuple(field.name for field in dataclasses.fields(Job) if field.name != "id")


def job_from_document(document: Mapping[str, Any]) -> Job:
    """The job that a document of the collection ``jobs`` describes; fields unknown here are left out."""
    values = {name: document.get(name) for name in _NAMES}
    # Records from before there were these fields have used nothing that is known.
    values["gpu_seconds"] = values["gpu_seconds"] or 0.0
    values["counted_gpu_seconds"] = values["counted_gpu_seconds"] or 0.0
    values["unrecorded_attempts"] = tuple(EndedAttempt(**ended) for ended in values["unrecorded_attempts"] or ())
    values["samples"] = tuple(JobSample(**sample) for sample in values["samples"] or ())
    return Job(id=document["_id"], **values)  # type: ignore[arg-type]  # the database's values have Any
