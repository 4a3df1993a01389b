"""A training's events as a server-sent event stream (WHATWG HTML, section 9.2). No torch."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator

from enlight.dreambooth_api.training_jobs import TrainingJob
from enlight.servicekit.errors import InvalidRequest, QueueFull

KEEP_ALIVE_S = 10.0
"""A comment line goes out after this long without an event, so that proxies and dead clients are noticed."""


class EventStreams:
    """Bounds how many streams are open: each one holds an HTTP thread."""

    def __init__(self, max_streams: int) -> None:
        self._free = threading.BoundedSemaphore(max_streams)

    def open(self, job: TrainingJob, last_event_id: str | None) -> Iterator[bytes]:
        """The events of ``job`` after ``last_event_id``, until it ends.

        Raises:
            InvalidRequest: ``last_event_id`` is not one of ours.
            QueueFull: too many streams are open.
        """
        after = 0
        if last_event_id:
            if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 16):
                raise InvalidRequest("Last-Event-ID must be the id of an event of this stream.")
            after = int(last_event_id)
        if not self._free.acquire(blocking=False):
            raise QueueFull("Too many event streams are open; poll GET /v1/trainings/<id> instead.", retry_after_s=10)
        return _Stream(job, after, self._free)


class _Stream(Iterator[bytes]):
    """A stream that frees its place when it ends or its client goes, even if it was never begun to be read."""

    def __init__(self, job: TrainingJob, after: int, free: threading.BoundedSemaphore) -> None:
        self._events = job.events(after, idle_s=KEEP_ALIVE_S)
        self._free = free
        self._open = True

    def __next__(self) -> bytes:
        try:
            event = next(self._events)
        except BaseException:
            self.close()
            raise
        if event is None:
            return b": keep-alive\n\n"
        event_id, name, data = event
        return f"id: {event_id}\nevent: {name}\ndata: {json.dumps(data)}\n\n".encode()

    def close(self) -> None:
        """Called by the WSGI server when the response ends, however it ends."""
        if self._open:
            self._open = False
            self._free.release()
