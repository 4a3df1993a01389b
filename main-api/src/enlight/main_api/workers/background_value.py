"""A value that is fetched beside those who read it, so that a source that hangs delays nobody twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Generic, TypeVar

Value = TypeVar("Value")


@dataclass(frozen=True)
class Reading(Generic[Value]):
    """What is known of a value."""

    value: Value | None
    """The last one; None before the first."""
    fetched_at: datetime | None
    is_current: bool
    """Whether the last fetch gave it, in time."""


class BackgroundValue(Generic[Value]):
    """One value, fetched by one thread at a time, and not more often than every so many seconds whoever asks.

    Args:
        fetch: Gives the value, or raises; it ends by itself, however late.
        every_s: From the end of one fetch to the next one's begin.
    """

    def __init__(self, fetch: Callable[[], Value], *, every_s: float) -> None:
        self._fetch = fetch
        self._every_s = every_s
        self._changed = threading.Condition()
        self._fetching = False
        self._next_s = 0.0
        self._value: Value | None = None
        self._fetched_at: datetime | None = None
        self._is_late = False
        """Whether the last fetch failed, or is under way for longer than somebody waited for it."""

    def begin(self) -> None:
        """Has it fetched, when it is time to."""
        with self._changed:
            if self._fetching or time.monotonic() < self._next_s:
                return
            self._fetching = True
        threading.Thread(target=self._run, name="background-value", daemon=True).start()

    def read(self, deadline_s: float) -> Reading[Value]:
        """Waits for the fetch under way until ``deadline_s``; not if the one before was late: then it is read as it is.

        Args:
            deadline_s: By the monotonic clock.
        """
        with self._changed:
            if not self._is_late:
                left_s = max(0.0, deadline_s - time.monotonic())
                self._is_late = not self._changed.wait_for(lambda: not self._fetching, left_s)
            return Reading(self._value, self._fetched_at, not self._is_late and self._value is not None)

    def _run(self) -> None:
        value: Value | None = None
        try:
            value = self._fetch()
        except Exception:  # noqa: BLE001 -- whatever it was, there is no newer value
            value = None
        with self._changed:
            self._fetching = False
            self._next_s = time.monotonic() + self._every_s
            self._is_late = value is None
            if value is not None:
                self._value, self._fetched_at = value, datetime.now(UTC)
            self._changed.notify_all()
