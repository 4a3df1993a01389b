"""gunicorn's worker with threads that stay with a connection for a moment after they have answered on it.

gunicorn's own thread hands a connection back after each answer; the main thread waits for the next request and gives it
to a thread again. For a small request this is half of the work, and each of its steps passes the interpreter's lock on
while other requests want it. A client that asks again soon is answered by the thread that has just answered it.
"""

from __future__ import annotations

import select
from threading import BoundedSemaphore

from gunicorn.workers.gthread import TConn, ThreadWorker

STAY_S = 0.05
"""After an answer. A client that asks less often than this has the usual way."""
MAX_STAYING = 32
"""Threads that stay at once, on top of those that requests need; other connections have the usual way."""


class StayingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gthread, whose threads may stay."""

    stay_s = STAY_S
    max_staying = MAX_STAYING

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)
        self._may_stay = BoundedSemaphore(self.max_staying)

    def handle(self, conn: TConn) -> object:
        """Answers a request, and those that follow it soon. True: the connection stays open, and is quiet."""
        answered = super().handle(conn)
        # Anything but True: it was closed, or is a new one that has not asked yet.
        if answered is not True or not self._may_stay.acquire(blocking=False):
            return answered
        try:
            while answered is True and self.alive and self._asks_again(conn):
                answered = super().handle(conn)
        finally:
            self._may_stay.release()
        return answered

    def _asks_again(self, conn: TConn) -> bool:
        if conn.parser.unreader.buf.getvalue():  # came with the last request; gunicorn looks for that itself
            return False
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(1000 * self.stay_s))
