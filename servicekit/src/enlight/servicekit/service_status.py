"""``/v1/status``: what a process that computes is at, for whoever runs the machines. It never waits for the worker."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from flask_openapi import APIBlueprint, Tag
from pydantic import Field

from enlight.servicekit.host_memory import MemoryUse, host_memory
from enlight.servicekit.process import WorkerState
from enlight.servicekit.schemas import Answer

STATUS_RULE = "/v1/status"

ModelTier = Literal["resident", "gpu", "host", "disk"]
"""Where a model is, the quickest place first: what the networks compute with, kept on the GPU, in host memory, on the
local disk."""

_SERVICE = Tag(name="service", description="What every service of the suite answers.")


class HeldModel(Answer):
    """A model that is at hand."""

    model_id: str = Field(description="As the service has it: a base model's or a network's name, a trained model's.")
    version: str | None = Field(description="Of a trained model.")
    tier: ModelTier = Field(
        description="The quickest place that has it: `resident`: the networks compute with it; then the GPU's memory, "
        "the host's, the disk."
    )


class StatusBody(Answer):
    """What this process is at."""

    service: str
    hostname: str = Field(description="Of the machine or container.")
    state: str = Field(description="starting, ready, busy or defunct.", examples=["ready"])
    device: str | None = Field(description="What it computes on, such as `cpu`; null while nobody knows.")
    memory_kind: Literal["gpu", "host"] | None = Field(
        description="`gpu`: of the device, as of the last work; `host`: of the container where it has a limit, else of "
        "the machine."
    )
    memory_used_bytes: int | None = Field(description="By whomever; null: not known.")
    memory_total_bytes: int | None
    models: list[HeldModel]
    queued: int = Field(description="Requests that wait.")
    running: int = Field(description="Requests in work.")


@dataclass(frozen=True)
class ServiceStatus:
    """What a service knows of itself.

    Attributes:
        state: As for ``/ready``.
        worker: The supervised worker's status, with what the child published: ``device``, ``device_name``,
            ``device_memory_used_bytes`` and ``device_memory_total_bytes`` are read.
        models: What is at hand.
        queued: What waits elsewhere than for the worker.
        running: What is in work elsewhere.
    """

    state: str
    worker: Mapping[str, Any]
    models: Sequence[HeldModel] = ()
    queued: int = 0
    running: int = 0


def resident(names: Sequence[str]) -> list[HeldModel]:
    """Networks or base models that are loaded."""
    return [HeldModel(model_id=name, version=None, tier="resident") for name in names]


def status_routes(service: str, status: Callable[[], ServiceStatus]) -> APIBlueprint:
    """``/v1/status`` of a service."""
    routes = APIBlueprint("status", __name__, abp_tags=[_SERVICE])
    hostname = socket.gethostname()

    @routes.get(STATUS_RULE, summary="Show what the process is at", responses={"200": StatusBody})
    def show_status() -> dict[str, Any]:
        """Device, memory, models at hand and requests, for main-api's `GET /v1/workers`."""
        return status_body(service, hostname, status()).model_dump(mode="json")

    return routes


def status_body(service: str, hostname: str, status: ServiceStatus) -> StatusBody:
    """The answer."""
    worker = status.worker
    device, memory_kind, memory = _device(worker)
    running = worker["running"] + status.running
    state = WorkerState.BUSY if status.state == WorkerState.READY and running else status.state
    return StatusBody(
        service=service,
        hostname=hostname,
        state=state,
        device=device,
        memory_kind=memory_kind,
        memory_used_bytes=memory.used_bytes if memory else None,
        memory_total_bytes=memory.total_bytes if memory else None,
        models=list(status.models),
        queued=worker["pending"] - worker["running"] + status.queued,
        running=running,
    )


def _device(worker: Mapping[str, Any]) -> tuple[str | None, Literal["gpu", "host"] | None, MemoryUse | None]:
    device = worker.get("device")
    if device is None:
        return None, None, None
    if device == "cpu":
        return device, "host", host_memory()
    name = worker.get("device_name")
    memory = None
    if "device_memory_total_bytes" in worker:
        memory = MemoryUse(worker["device_memory_used_bytes"], worker["device_memory_total_bytes"])
    return (f"{device} {name}" if name else device), "gpu", memory
