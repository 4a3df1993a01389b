"""Streams whose browser leaves: main-api is hung up on, so that it makes nothing more for nobody."""

from __future__ import annotations

import threading
from collections.abc import Callable

LOOK_EVERY_S = 0.3


class BrowserWatch:
    """One thread looks at all open streams, for as long as there are any.

    A thread that waits for main-api's next event cannot look itself: it sleeps in the read of that event.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._hang_ups: dict[object, tuple[Callable[[], bool], Callable[[], None]]] = {}
        self._looking = False

    def add(self, gone: Callable[[], bool], hang_up: Callable[[], None]) -> Callable[[], None]:
        """Calls ``hang_up``, which must not block, while ``gone``; until the function that it gives is called."""
        stream = object()
        with self._changed:
            self._hang_ups[stream] = gone, hang_up
            if not self._looking:
                self._looking = True
                threading.Thread(target=self._look, name="browser-watch", daemon=True).start()

        def forget() -> None:
            with self._changed:
                self._hang_ups.pop(stream, None)
                self._changed.notify()

        return forget

    def _look(self) -> None:
        with self._changed:
            while self._hang_ups:
                for gone, hang_up in self._hang_ups.values():
                    if gone():
                        hang_up()
                self._changed.wait(LOOK_EVERY_S)
            self._looking = False
