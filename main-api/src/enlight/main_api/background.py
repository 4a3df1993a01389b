"""Work that is repeated beside the requests, whatever goes wrong with it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

_log = logging.getLogger(__name__)


class Repeating:
    """A daemon thread that does ``work`` again and again until it is stopped.

    An error of the work is logged, once for each kind until the work succeeds again, and ends nothing.

    Args:
        work: What to do; it gives up by itself when it takes long (see `stopping`).
        every_s: Pause between the end of one round and the next.
        name: Of the thread, for the log.
    """

    def __init__(self, work: Callable[[], None], *, every_s: float, name: str) -> None:
        self._work = work
        self._every_s = every_s
        self._name = name
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @property
    def stopping(self) -> bool:
        """Whether the end was asked for."""
        return self._stop.is_set()

    def start(self) -> None:
        """Begins; the first round comes after one pause."""
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Asks for the end without waiting for it."""
        self._stop.set()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Asks for the end, and waits for the round in progress at most this long."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        failing: type[Exception] | None = None
        while not self._stop.wait(self._every_s):
            try:
                self._work()
            except Exception as error:  # noqa: BLE001 -- the next round may do better, whatever this one met
                if type(error) is not failing:
                    _log.warning("%s: %s; it is tried again", self._name, error, exc_info=True)
                failing = type(error)
            else:
                failing = None
