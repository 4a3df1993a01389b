"""What ``/v1/workers`` gives."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from enlight.servicekit.schemas import Answer
from enlight.servicekit.service_status import ModelTier


class ModelCopyView(Answer):
    """A version of a model that a process has at hand."""

    host: str = Field(description="Name of the machine or container.")
    tier: ModelTier = Field(description="The quickest place there that has it.")
    version: str


class ResidentModelView(Answer):
    """A model in a process's memory."""

    model_id: str | None = Field(
        description="The tenant's name of it, a base model's or a network's; null: a trained model that nobody has "
        "any more."
    )
    tenant: str | None = Field(description="Whose; null: nobody's.")
    version: str | None = Field(description="Of a trained model.")
    tier: ModelTier


class WorkerView(Answer):
    """A process that computes."""

    id: str = Field(description="The service, and where it is.")
    service: str = Field(
        description="`dreambooth-api`, `bgrem`, `upsampler`, `realesrgan` or `training-worker`.", examples=["bgrem"]
    )
    host: str = Field(description="Name of the machine or container; empty: it never answered.")
    url: str | None = Field(description="Null: it has no port.")
    state: str = Field(
        description="`ready`, `busy`, `starting`, `defunct` (its worker does not start), `unreachable`.",
        examples=["ready"],
    )
    device: str | None = Field(description="Such as `cpu`; null: not known.")
    memory_kind: Literal["gpu", "host"] | None = Field(description="Whose memory it is.")
    memory_used_bytes: int | None = Field(description="By whomever; null: not known.")
    memory_total_bytes: int | None
    resident_models: list[ResidentModelView]
    queued: int = Field(description="Requests that wait for it.")
    running: int = Field(description="Requests that it works on.")
    training_id: str | None = Field(description="The training that a worker has.")
    seen_at: datetime | None = Field(description="Its last sign of life; null: none.")


class QueueView(Answer):
    """All tenants' trainings."""

    queued: int
    running: int


class WorkersView(Answer):
    """Who computes."""

    workers: list[WorkerView]
    queue: QueueView
