"""The ``gunicorn.conf.py`` of the service that `traced_requests` measures."""

from __future__ import annotations

from traced_requests import Settings

from enlight.servicekit.gunicorn import post_worker_init, server_config, worker_exit
from enlight.servicekit.settings import load_settings

__all__ = ["post_worker_init", "worker_exit"]

globals().update(server_config("traced", load_settings(Settings), graceful_timeout_s=10))
