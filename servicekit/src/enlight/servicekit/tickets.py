"""A ticket: what the submitter of a task holds until the answer is there."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from enlight.servicekit.errors import ServiceError

MAX_KEPT_EVENTS = 256
"""Progress events kept for a slow reader; the oldest go first."""


class Ticket:
    """One submitted task. It always ends: with a result, or with an error when its worker dies or hangs."""

    def __init__(self, ticket_id: int, on_cancel: Callable[[Ticket], None]) -> None:
        self.id = ticket_id
        self._on_cancel = on_cancel
        self._changed = threading.Condition()
        self._events: deque[object] = deque(maxlen=MAX_KEPT_EVENTS)
        self._progress: object = None
        self._begun = False
        self._cancelled = False
        self._done = False
        self._value: object = None
        self._error: ServiceError | None = None

    @property
    def done(self) -> bool:
        """True when the answer is there."""
        with self._changed:
            return self._done

    @property
    def begun(self) -> bool:
        """True once the worker has told of it."""
        with self._changed:
            return self._begun

    @property
    def on_progress(self) -> object:
        """The latest progress payload; None before the first."""
        with self._changed:
            return self._progress

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits for the answer. False when it was not there in time."""
        with self._changed:
            return self._changed.wait_for(lambda: self._done, timeout_s)

    def result(self) -> object:
        """The worker's result; waits for it. Raises the ServiceError that the task ended with."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._value

    def cancel(self) -> None:
        """Tells the worker that nobody wants the result. The ticket ends when the worker lets go of the task."""
        with self._changed:
            if self._done or self._cancelled:
                return
            self._cancelled = True
        self._on_cancel(self)

    def events(self, heartbeat_s: float | None = None) -> Iterator[object]:
        """Progress payloads as they come, until the task ends. For one reader.

        With ``heartbeat_s``, None comes whenever nothing else did for that long, so that the reader can look
        whether its own client is still there.
        """
        while True:
            with self._changed:
                deadline_s = None if heartbeat_s is None else time.monotonic() + heartbeat_s
                while not self._events and not self._done:
                    left_s = None if deadline_s is None else deadline_s - time.monotonic()
                    if left_s is not None and left_s <= 0:
                        break
                    self._changed.wait(left_s)
                if self._events:
                    event = self._events.popleft()
                elif self._done:
                    return
                else:
                    event = None
            yield event

    def report(self, payload: object) -> None:
        """For the supervisor: a progress payload came."""
        with self._changed:
            self._begun = True
            self._progress = payload
            self._events.append(payload)
            self._changed.notify_all()

    def finish(self, value: object = None, error: ServiceError | None = None) -> None:
        """For the supervisor: the answer. The first one counts."""
        with self._changed:
            if self._done:
                return
            self._done = True
            self._value = value
            self._error = error
            self._changed.notify_all()
