"""Requests under way whose client leaves, or whose time is up: the service behind is hung up on, and drops the work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from enlight.main_api.background import Repeating

LOOK_EVERY_S = 0.2


@dataclass(eq=False)
class Watched:
    """One request under way."""

    client_gone: Callable[[], bool]
    deadline_s: float
    hang_up: Callable[[], None]
    ended: Literal["client_gone", "too_late"] | None = None
    """Why `hang_up` was called; None: it was not."""


class ClientWatch:
    """One thread looks at all requests under way.

    A thread that waits for a service's answer cannot look itself: it sleeps in the read of that answer.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watched: set[Watched] = set()
        self._thread = Repeating(self._look, every_s=LOOK_EVERY_S, name="client-watch")

    def start(self) -> None:
        """Begins to look."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the looking."""
        self._thread.stop()

    @contextmanager
    def watching(
        self, client_gone: Callable[[], bool], deadline_s: float, hang_up: Callable[[], None]
    ) -> Iterator[Watched]:
        """Calls ``hang_up``, which must not block, once ``client_gone`` or past ``deadline_s`` (monotonic clock); never
        after the block's end."""
        watched = Watched(client_gone, deadline_s, hang_up)
        with self._lock:
            self._watched.add(watched)
        try:
            yield watched
        finally:
            with self._lock:
                self._watched.discard(watched)

    def _look(self) -> None:
        now_s = time.monotonic()
        with self._lock:
            for watched in self._watched:
                if watched.ended is None and watched.client_gone():
                    watched.ended = "client_gone"
                elif watched.ended is None and now_s > watched.deadline_s:
                    watched.ended = "too_late"
                if watched.ended is not None:
                    watched.hang_up()  # again and again: a connection that is only being made cannot be ended yet
