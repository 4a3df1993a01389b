"""The worker: the child process in which the networks run."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

from enlight.bgrem.cutouts import Cutouts
from enlight.bgrem.networks import Networks
from enlight.bgrem.requests import CutoutRequest, WorkerConfig
from enlight.servicekit.child import ChildChannel
from enlight.servicekit.strips import Strips, core_count
from enlight.servicekit.task_pool import RunningTask, serve_tasks


def main(channel: ChildChannel, config: WorkerConfig) -> None:
    """Cuts out until the parent asks this process to end.

    Raises:
        WorkerBroken: the GPU failed; the process has to end, and its parent starts another.
    """
    threads = config.cpu_threads or core_count()
    networks = Networks(config, threads=threads)
    cutouts = Cutouts(networks, Strips(threads), max_matting_pixels=config.max_matting_pixels)
    numbers = count(1)
    made = 0

    def handle(task: RunningTask) -> object:
        nonlocal made
        assert isinstance(task.payload, CutoutRequest)
        result = cutouts.cut_out(task.payload, task.check)
        made = next(numbers)
        return result

    def state() -> Mapping[str, object]:
        return {"providers": networks.providers, "loaded_models": networks.loaded, "pictures_total": made}

    serve_tasks(channel, handle, threads=config.parallel_requests, state=state)
