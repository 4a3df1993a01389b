"""An application that says which thread answers, under a worker whose threads stay for a minute."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from enlight.servicekit.gunicorn_worker import StayingWorker

THREADS = 4
_together = threading.Barrier(THREADS)


class MinuteLongWorker(StayingWorker):
    """Long enough for a test to see what waits for such a thread."""

    stay_s = 60.0
    max_staying = THREADS - 1


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """``/together``: answers once all threads are asked at the same time."""
    if environ["PATH_INFO"] == "/together":
        _together.wait(20)
    body = threading.current_thread().name.encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
