"""gunicorn: as every service runs it. Streams end with the service; browsers ask for them again."""

from enlight.dashboard.settings import Settings
from enlight.servicekit.gunicorn import post_worker_init, server_config, worker_exit
from enlight.servicekit.settings import load_settings

__all__ = ["post_worker_init", "worker_exit"]

STOP_GRACE_S = 10

globals().update(server_config("dashboard", load_settings(Settings), graceful_timeout_s=STOP_GRACE_S))
