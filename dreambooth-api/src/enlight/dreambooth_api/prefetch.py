"""Reads the next batch's weights into host memory while the GPU works on this one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from enlight.dreambooth_api.fine_tune import FineTune

logger = logging.getLogger(__name__)


class Prefetcher:
    """Holds at most one model. For one thread, which owns it."""

    def __init__(self) -> None:
        self._pending: _Read | None = None

    @property
    def running(self) -> bool:
        """Whether a model is being read."""
        return self._pending is not None and self._pending.running

    def want(self, version: str, read: Callable[[], FineTune]) -> None:
        """Begins to read a version, in place of what was read before; not while another one is being read."""
        if self._pending is None or (self._pending.version != version and not self.running):
            self._pending = _Read(version, read)
            self._pending.start()

    def take(self, version: str) -> FineTune | None:
        """The version, if it was wanted and could be read; waits for the rest of the reading."""
        pending = self._pending
        if pending is None or pending.version != version:
            return None
        self._pending = None
        return pending.wait()

    def stop(self, timeout_s: float) -> None:
        """Forgets what was wanted and waits for the reading to end.

        An interpreter that ends while a thread is inside of torch aborts.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.wait(timeout_s)


class _Read:
    def __init__(self, version: str, read: Callable[[], FineTune]) -> None:
        self.version = version
        self._read = read
        self._fine_tune: FineTune | None = None
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def start(self) -> None:
        self._thread.start()

    def wait(self, timeout_s: float | None = None) -> FineTune | None:
        self._thread.join(timeout_s)
        return self._fine_tune

    def _run(self) -> None:
        try:
            self._fine_tune = self._read()
        except Exception as error:  # noqa: BLE001 - whoever needs the model reads it again and gets the error
            logger.info("%s could not be read ahead: %s", self.version, error)
