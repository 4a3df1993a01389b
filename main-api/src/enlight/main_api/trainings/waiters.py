"""Clients of the seed's ``/train``, which answers only when the training has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from enlight.jobkit.jobs import Job
from enlight.main_api.trainings.watch import JobWatcher
from enlight.servicekit.errors import ClientGone, NotFound, QueueFull, WorkerUnavailable
from enlight.servicekit.worker_service import CLIENT_CHECK_S


class TrainingWaiters:
    """Bounds how many clients wait: each one holds an HTTP thread.

    Args:
        watcher: Looks at the trainings.
        max_waiters: Clients that may wait at once.
    """

    def __init__(self, watcher: JobWatcher, max_waiters: int) -> None:
        self._watcher = watcher
        self._free = threading.BoundedSemaphore(max_waiters)

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place to wait in; taken before the training is started, so that a refused client leaves none behind.

        Raises:
            QueueFull: as many clients as may wait are waiting.
        """
        if not self._free.acquire(blocking=False):
            raise QueueFull(
                "Too many clients wait for a training's end; use POST /v1/trainings, which answers at once.",
                retry_after_s=60,
            )
        try:
            yield
        finally:
            self._free.release()

    def wait(self, job: Job, gone: Callable[[], bool]) -> Job:
        """The job at its end, whatever that is.

        Raises:
            ClientGone: ``gone()`` became true; the training goes on.
            NotFound: the job was deleted.
            WorkerUnavailable: this service stops; the training goes on.
        """
        followed = {"training_id": job.id}
        with self._watcher.watch(job) as watched:
            while not watched.over:
                watched.wait_beyond(job.revision, CLIENT_CHECK_S)
                job = watched.latest or job
                if gone():
                    raise ClientGone("The client left before the training's end; the training goes on.")
            if watched.latest is None:
                raise NotFound("The training was deleted.", details=followed)
            if not watched.latest.ended:
                raise WorkerUnavailable(
                    f"The gateway is stopping; the training goes on, see GET /v1/trainings/{job.id}.",
                    details=followed,
                    retry_after_s=10,
                )
            return watched.latest
