"""gunicorn for main-api. What is under way gets a moment to end; trainings go on without the gateway."""

from __future__ import annotations

from enlight.main_api.settings import Settings
from enlight.servicekit.gunicorn import post_worker_init, server_config, worker_exit
from enlight.servicekit.settings import load_settings

__all__ = ["post_worker_init", "worker_exit"]

STOP_GRACE_S = 15

globals().update(server_config("main-api", load_settings(Settings), graceful_timeout_s=STOP_GRACE_S))
