"""What `/v1/status` makes of what a service and its worker say."""

from __future__ import annotations

from typing import Any

import pytest

from enlight.servicekit.host_memory import host_memory
from enlight.servicekit.service_status import ServiceStatus, StatusBody, resident, status_body

GIB = 1 << 30


def told(state: str = "ready", *, worker: dict[str, Any] | None = None, **more: Any) -> StatusBody:
    known = {"pending": 0, "running": 0, **(worker or {})}
    return status_body("bgrem", "machine", ServiceStatus(state, known, **more))


def test_a_gpu_is_named_and_its_memory_is_everybody_s() -> None:
    on_gpu = {
        "device": "cuda:1",
        "device_name": "NVIDIA H100",
        "device_memory_used_bytes": 30 * GIB,
        "device_memory_total_bytes": 80 * GIB,
    }
    body = told(worker=on_gpu)
    assert (body.device, body.memory_kind) == ("cuda:1 NVIDIA H100", "gpu")
    assert (body.memory_used_bytes, body.memory_total_bytes) == (30 * GIB, 80 * GIB)


def test_a_gpu_whose_memory_the_worker_cannot_see_is_one_all_the_same() -> None:
    body = told(worker={"device": "cuda:0"})
    assert (body.device, body.memory_kind, body.memory_used_bytes, body.memory_total_bytes) == (
        "cuda:0", "gpu", None, None,
    )  # fmt: skip


def test_on_a_cpu_it_is_the_host_s_memory() -> None:
    body = told(worker={"device": "cpu", "device_name": "CPU"})
    assert (body.device, body.memory_kind, body.memory_total_bytes) == ("cpu", "host", host_memory().total_bytes)


def test_before_its_first_word_nobody_knows_what_a_worker_is() -> None:
    body = told("starting")
    assert (body.state, body.device, body.memory_kind, body.memory_used_bytes) == ("starting", None, None, None)
    assert body.models == []


def test_what_waits_and_runs_beside_the_worker_counts() -> None:
    body = told(worker={"pending": 5, "running": 2}, queued=10, running=20)
    assert (body.queued, body.running) == (13, 22)


@pytest.mark.parametrize(("state", "shown"), [("ready", "busy"), ("starting", "starting"), ("defunct", "defunct")])
def test_work_beside_the_worker_makes_a_ready_service_busy(state: str, shown: str) -> None:
    assert told(state, running=1).state == shown


def test_networks_in_memory_have_no_version() -> None:
    (held,) = told(models=resident(["u2net"])).models
    assert (held.model_id, held.version, held.tier) == ("u2net", None, "resident")
