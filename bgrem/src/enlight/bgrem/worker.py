"""The worker: the child process in which the networks run."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from enlight.bgrem.cutouts import Cutouts
from enlight.bgrem.networks import Networks
from enlight.bgrem.requests import OPERATION, CutoutRequest, WorkerConfig
from enlight.servicekit.child import ChildChannel
from enlight.servicekit.freed_memory import keep_freed_memory
from enlight.servicekit.strips import Strips, core_count
from enlight.servicekit.task_pool import RunningTask, serve_tasks


def main(channel: ChildChannel, config: WorkerConfig) -> None:
    """Cuts out until the parent asks this process to end.

    Raises:
        WorkerBroken: the GPU failed; the process has to end, and its parent starts another.
    """
    keep_freed_memory()
    worker = Worker(config)
    serve_tasks(channel, worker.handle, threads=config.parallel_requests, state=worker.state, operation=OPERATION)


class Worker:
    """Gives a picture all cores when it is alone, and one when there are others.

    Threads that wait for each other within one picture cost a sixth of a core's time; pictures beside each other do
    not wait. A network that is shared is for all of them: on a GPU, or in MNN, where they take turns with all cores.
    """

    def __init__(self, config: WorkerConfig) -> None:
        threads = config.cpu_threads or core_count()
        matting = ThreadPoolExecutor(1, thread_name_prefix="matting")
        self._lock = threading.Lock()
        self._in_work = 0
        self._made = 0
        self._networks = Networks(config, threads=threads)
        self._alone = Cutouts(
            self._networks, Strips(threads), max_matting_pixels=config.max_matting_pixels, matting=matting
        )
        self._beside = Cutouts(self._networks, Strips(1), max_matting_pixels=config.max_matting_pixels, matting=matting)

    def handle(self, task: RunningTask) -> object:
        """The answer to a request; raises as `Cutouts.cut_out`."""
        assert isinstance(task.payload, CutoutRequest)
        with self._counted() as is_alone:
            result = (self._alone if is_alone else self._beside).cut_out(task.payload, task.check, task.stage)
        with self._lock:
            self._made += 1
        return result

    def state(self) -> Mapping[str, object]:
        """What ``/ready``, ``/metrics`` and ``/v1/status`` show."""
        return {
            "device": self._networks.device,
            "providers": self._networks.providers,
            "loaded": sorted(self._networks.engines),
            "engines": self._networks.engines,
            "pictures_total": self._made,
        }

    @contextmanager
    def _counted(self) -> Iterator[bool]:
        """Whether no other picture is in work now."""
        with self._lock:
            self._in_work += 1
            is_alone = self._in_work == 1
        try:
            yield is_alone
        finally:
            with self._lock:
                self._in_work -= 1
