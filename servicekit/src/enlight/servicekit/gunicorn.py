"""gunicorn as every service runs it; a service's ``gunicorn.conf.py`` is made of three of these names.

One process, because it owns the worker child; more threads than requests admitted, so that it always answers. They are
threads that stay with a busy connection (`gunicorn_worker.py`).
"""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

from gunicorn.glogging import Logger

from enlight.servicekit.gunicorn_worker import MAX_STAYING, StayingWorker
from enlight.servicekit.logs import configured_logging, gunicorn_logging
from enlight.servicekit.service_settings import HttpSettings
from enlight.servicekit.tracing import require_packages, start_tracing, stop_tracing

STOP_POLL_S = 0.2
EXTENSION = "enlight"
"""Key in ``app.extensions`` of the object whose ``stop`` ends what runs beside the routes."""


def server_config(service: str, settings: HttpSettings, *, graceful_timeout_s: float) -> dict[str, object]:
    """gunicorn's settings; ``graceful_timeout_s`` is the time that ``stop`` and the last requests get.

    Raises: SettingsError, see `require_packages`.
    """
    require_packages()  # before there are processes that would fail one after the other
    return {
        "bind": f"{settings.host}:{settings.port}",
        "workers": 1,
        "worker_class": StayingWorker,
        "threads": settings.http_threads + MAX_STAYING,
        # The heartbeat of the worker, which its main loop keeps up whatever the threads do; not a limit of a request.
        "timeout": 60,
        "graceful_timeout": round(graceful_timeout_s),
        "keepalive": 65,
        # Requests are logged by the application, once, as JSON; the server's own lines get the same form.
        "logger_class": ServerLog,
        "logconfig_dict": gunicorn_logging(service, settings.log_level),
        # gunicorn 25 and later open a control socket in the home folder unless told not to.
        "control_socket_disable": True,
    }


class ServerLog(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own lines."""

    def access(self, *arguments: object) -> None:
        """None for a request: with a ``logconfig_dict`` gunicorn would make one up whatever ``accesslog`` says."""


def post_worker_init(worker: Any) -> None:  # noqa: ANN401 -- gunicorn's worker classes have no types
    """Watches for the worker's stop: the service must be told at once, not when the last request has ended."""
    gc.collect()
    gc.freeze()  # modules and routes live as long as the process: a look through all of them stops every request
    if (logging_now := configured_logging()) is not None:
        start_tracing(logging_now.service)
    service = worker.wsgi.extensions[EXTENSION]

    def stop_with_the_worker() -> None:
        while worker.alive:
            time.sleep(STOP_POLL_S)
        service.stop()

    threading.Thread(target=stop_with_the_worker, name="stop", daemon=True).start()


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ANN401
    """Last call: nothing that this process started may outlive it, and what is being stopped is waited for."""
    wsgi = getattr(worker, "wsgi", None)
    if wsgi is not None:
        wsgi.extensions[EXTENSION].stop()
    stop_tracing()
