"""Metrics of a supervised child process, which has no HTTP of its own: its parent is asked for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from prometheus_client import Histogram

from enlight.servicekit.measurements import PICTURES, STAGE_DURATION
from enlight.servicekit.metrics import LONG_BUCKETS_S, ServiceMetrics
from enlight.servicekit.process import Supervisor, WorkerState

OUT_OF_MEMORY = {"out_of_memory_total": "Times that memory was short since the child process was started."}
"""For children that count it in their status."""
_MEMORY = {
    "gpu_memory_bytes": "GPU memory that the child process holds.",
    "device_memory_used_bytes": "Memory of the GPU that anybody uses.",
    "device_memory_total_bytes": "Memory of the GPU.",
}


def stage_durations(metrics: ServiceMetrics) -> Histogram:
    """The one histogram of stages of a service."""
    return metrics.histogram(
        STAGE_DURATION,
        "Time that a stage of an operation took.",
        ["operation", "stage"],
        buckets=LONG_BUCKETS_S,
    )


def watch_child(
    metrics: ServiceMetrics,
    child: Supervisor,
    name: str,
    durations: Histogram,
    operations: Mapping[str, Sequence[str]],
    totals: Mapping[str, str] | None = None,
    *,
    tells_memory: bool = True,
) -> None:
    """Adds what there is to know of a child; to be called before it is started.

    Args:
        metrics: Of the service.
        child: Which one.
        name: What it is called in the label ``child``.
        durations: See `stage_durations`.
        operations: What it does, each with its stages: they are shown from the start, so that the first of them is seen
            as growth.
        tells_memory: Whether its status has the GPU's memory.
        totals: Counts in its status, as key and help text; they begin anew with each start of the child.
    """
    pictures = metrics.counter(PICTURES, "Pictures made.", ["operation"])
    for operation, stages in operations.items():
        pictures.labels(operation)
        for stage in stages:
            durations.labels(operation, stage)
    metrics.watch_each("child_up", "1 while the child process takes tasks.", "child", lambda: {name: _is_up(child)})
    metrics.watch_totals(
        "child_restarts_total",
        "Times that the child process was started again.",
        "child",
        lambda: {name: _count(child, "restarts")},
    )
    metrics.watch("tasks_running", "Requests that the child process works on.", partial(_number, child, "running"))
    metrics.watch("tasks_waiting", "Requests that wait for the child process.", partial(_waiting, child))
    for key, text in _MEMORY.items() if tells_memory else ():
        metrics.watch(key, text, partial(_number, child, key))
    for key, text in (totals or {}).items():
        metrics.watch_total(key, text, partial(_count, child, key))
    child.on_measured = metrics.take


def _is_up(child: Supervisor) -> float:
    return float(child.state in (WorkerState.READY, WorkerState.BUSY))


def _waiting(child: Supervisor) -> float:
    return _count(child, "pending") - _count(child, "running")


def _count(child: Supervisor, key: str) -> float:
    return _number(child, key) or 0.0


def _number(child: Supervisor, key: str) -> float | None:
    value = child.status.get(key)
    return float(value) if isinstance(value, int | float) else None
