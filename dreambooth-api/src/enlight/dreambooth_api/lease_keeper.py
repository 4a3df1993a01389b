"""Holds a claimed job's lease while it is worked on, tells its progress, and hears when it is over."""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from types import TracebackType
from typing import Self

from enlight.dreambooth_api.requests import TrainingProgress
from enlight.jobkit.job_leases import JobLeases, LeaseLost
from enlight.jobkit.jobs import Job
from enlight.servicekit.errors import DatabaseUnavailable
from enlight.servicekit.logs import in_this_context

_log = logging.getLogger(__name__)

PROGRESS_EVERY_S = 0.5
"""Shortest time between two renewals, however fast the trainer reports."""


class LeaseKeeper:
    """Renews the lease from a thread of its own, within a ``with`` block.

    It renews only while there are signs of life: a worker that hangs must lose its job. While the database is away it
    goes on trying, since nobody else can claim the job either; what this attempt may still do, the database decides.

    Args:
        store: Where the job is.
        job: The claimed job.
        lease_s: How long one renewal holds it.
        silence_limit_s: Without a sign of life for this long, the lease is let go.
    """

    def __init__(self, store: JobLeases, job: Job, *, lease_s: float, silence_limit_s: float) -> None:
        self._store = store
        self._job = job
        # At least so often, and seldom enough for a database: the two waits of a turn are one third of a lease.
        self._pause_s = min(PROGRESS_EVERY_S, lease_s / 6)
        self._wait_for_news_s = lease_s / 3 - self._pause_s
        self._silence_limit_s = silence_limit_s
        self._last_sign_s = time.monotonic()
        self._lock = threading.Lock()
        self._untold: TrainingProgress | None = None  # guarded by the lock
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._lost = threading.Event()
        self.cancel = threading.Event()
        """Set when the work is to be dropped: somebody asked for it, or the lease is lost."""
        self._thread = threading.Thread(target=in_this_context(self._keep), name="lease-keeper", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._wake.set()
        self._thread.join()

    def alive(self) -> None:
        """A sign of life."""
        self._last_sign_s = time.monotonic()

    def report(self, progress: TrainingProgress) -> None:
        """A sign of life with news, told with the next renewal, which comes soon."""
        self.alive()
        with self._lock:
            self._untold = progress
        self._wake.set()

    def check(self) -> None:
        """Raises LeaseLost when the job is somebody else's."""
        if self._lost.is_set():
            raise LeaseLost("the lease was lost")

    def _keep(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(self._wait_for_news_s)
            self._wake.clear()
            if self._stopping.is_set() or not self._renew():
                return
            self._stopping.wait(self._pause_s)

    def _renew(self) -> bool:
        """Whether there is a lease to renew again."""
        if time.monotonic() - self._last_sign_s > self._silence_limit_s:
            _log.error("no sign of life for %.0f s: the lease is let go", self._silence_limit_s)
            return self._drop()
        progress = self._untold
        try:
            news = dataclasses.asdict(progress) if progress else None
            if self._store.renew(self._job.id, self._job.attempt, news):
                self.cancel.set()
        except LeaseLost:
            return self._drop()
        except DatabaseUnavailable as error:
            _log.warning("the lease is not renewed: %s", error.message)
            return True
        with self._lock:
            if self._untold is progress:
                self._untold = None
        return True

    def _drop(self) -> bool:
        self._lost.set()
        self.cancel.set()
        return False
