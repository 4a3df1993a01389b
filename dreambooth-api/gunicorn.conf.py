"""gunicorn: one process, because it owns the engine; more threads than requests admitted, so that it always answers."""

from __future__ import annotations

import threading
import time
from typing import Any

from enlight.dreambooth_api.settings import Settings
from enlight.servicekit.logs import gunicorn_logging
from enlight.servicekit.settings import load_settings

_settings = load_settings(Settings)

bind = f"{_settings.host}:{_settings.port}"
workers = 1
worker_class = "gthread"
threads = _settings.http_threads
# The heartbeat of the worker, which its main loop keeps up whatever the threads do; not a limit of a request.
timeout = 60
# Trainings get time to write their checkpoints, generations to finish.
graceful_timeout = int(_settings.training_stop_grace_s) + 10
keepalive = 65
# Requests are logged by the application, once, as JSON; the server's own lines get the same form.
accesslog = None
logconfig_dict = gunicorn_logging("dreambooth-api", _settings.log_level)
# gunicorn 25 and later open a control socket in the home folder unless told not to.
control_socket_disable = True


def post_worker_init(worker: Any) -> None:  # noqa: ANN401 -- gunicorn's worker classes have no types
    """Watches for the worker's stop: trainings must be told at once, not when the last request has ended."""
    service = worker.wsgi.extensions["enlight"]

    def drain_when_stopping() -> None:
        while worker.alive:
            time.sleep(0.2)
        service.stop()

    threading.Thread(target=drain_when_stopping, name="drain", daemon=True).start()


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ANN401
    """Last call: nothing that this process started may outlive it."""
    wsgi = getattr(worker, "wsgi", None)
    if wsgi is not None:
        wsgi.extensions["enlight"].stop()
