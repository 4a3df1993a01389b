"""gunicorn's worker with threads that stay with a connection for a moment after they have answered on it.

gunicorn's own thread hands a connection back after each answer; the main thread waits for the next request and gives it
to a thread again. For a small request this is half of the work, and each of its steps passes the interpreter's lock on
while other requests want it. A client that asks again soon is answered by the thread that has just answered it; and one
that repeats a read which the application calls quick, by the thread of `gunicorn_quick_reads.py`.
"""

from __future__ import annotations

import select
from concurrent.futures import Future
from threading import BoundedSemaphore

from gunicorn.http.message import Request
from gunicorn.workers.gthread import TConn, ThreadWorker

from enlight.servicekit.gunicorn_quick_reads import EXTENSION, QuickReads, has_read_ahead

STAY_S = 0.05
"""After an answer. A client that asks less often than this has the usual way."""
MAX_STAYING = 32
"""Threads that stay at once, on top of those that requests need; other connections have the usual way."""

_TAKEN = object()
"""Instead of whether a connection stays open: the quick reads have it."""


class StayingWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gthread, whose threads may stay, and which has a thread for quick reads."""

    stay_s = STAY_S
    max_staying = MAX_STAYING
    quick_reads = QuickReads

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)
        self._may_stay = BoundedSemaphore(self.max_staying)
        self._quick_reads: QuickReads | None = None

    def load_wsgi(self) -> None:
        """Loads the application, and begins with its quick reads if it has any."""
        super().load_wsgi()
        if (read := getattr(self.wsgi, "extensions", {}).get(EXTENSION)) is not None:
            self._quick_reads = self.quick_reads(self, read)
            self._quick_reads.start()

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """One turn of the main thread, which takes a second at most."""
        super().wait_for_and_dispatch_events(timeout)
        if self._quick_reads is not None:
            self._quick_reads.release_if_stalled()

    def handle_request(self, req: Request, conn: TConn) -> object:
        """Answers a request, and notes on its connection whether it was a quick read."""
        conn.is_quick = self._quick_reads is not None and self._quick_reads.has(req)
        return super().handle_request(req, conn)

    def handle(self, conn: TConn) -> object:
        """Answers a request, and those that follow it soon. True: the connection stays open, and is quiet."""
        stays = False
        try:
            # Anything but True: it was closed, or is a new one that has not asked yet.
            while (answered := super().handle(conn)) is True:
                if self._quick_reads is not None and conn.is_quick and self._quick_reads.take(conn):
                    return _TAKEN
                stays = stays or self._may_stay.acquire(blocking=False)
                if not (stays and self.alive and self._asks_again(conn)):
                    break
            return answered
        finally:
            if stays:
                self._may_stay.release()

    def finish_request(self, conn: TConn, fs: Future[object]) -> None:
        """What becomes of a connection that a thread has done with; on the main thread."""
        if fs.cancelled() or fs.result() is not _TAKEN:
            super().finish_request(conn, fs)

    def _asks_again(self, conn: TConn) -> bool:
        if has_read_ahead(conn):
            return False
        poll = select.poll()
        poll.register(conn.sock, select.POLLIN)
        return bool(poll.poll(1000 * self.stay_s))
