"""An application with quick reads that says which thread answers, and with what other reads together."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from enlight.servicekit.gunicorn_quick_reads import EXTENSION, QuickRead, QuickReads
from enlight.servicekit.gunicorn_worker import StayingWorker

NAP_S = 0.05
"""Less than a stall."""
_here = threading.local()
_may_go_on = threading.Event()


class SoonQuiet(QuickReads):
    """Keeps no connection for long."""

    quiet_after_s = 0.1


class SoonQuietWorker(StayingWorker):
    """The worker with these quick reads."""

    quick_reads = SoonQuiet


class Application:
    """``/records/<id>`` is quick; the ids ``nap``, ``blocked`` and ``exit`` do what they say, others answer at once.

    ``/go-on`` ends what is blocked, ``/files`` says how many files the process has open.
    """

    def __init__(self) -> None:
        self.extensions = {EXTENSION: QuickRead(r"/records/([a-z0-9]+)", self._together)}

    @contextmanager
    def _together(self, record_ids: Sequence[str]) -> Iterator[None]:
        _here.ids = [*record_ids]
        yield
        _here.ids = None

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
        """Any method, any path."""
        match environ["PATH_INFO"].rpartition("/")[2]:
            case "nap":
                time.sleep(NAP_S)
            case "blocked":
                assert _may_go_on.wait(60)
                _may_go_on.clear()
            case "go-on":
                _may_go_on.set()
            case "exit":
                raise SystemExit
        answer = {
            "thread": threading.current_thread().name,
            "together": getattr(_here, "ids", None),
            "files": sum(1 for _ in Path("/proc/self/fd").iterdir()),
        }
        body = json.dumps(answer).encode()
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]


app = Application()
