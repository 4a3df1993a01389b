"""gunicorn: as every service runs it."""

from enlight.servicekit.gunicorn import post_worker_init, server_config, worker_exit
from enlight.servicekit.settings import load_settings
from enlight.servicekit.worker_service import STOP_GRACE_S
from enlight.upsampler.settings import Settings

__all__ = ["post_worker_init", "worker_exit"]

globals().update(server_config("upsampler", load_settings(Settings), graceful_timeout_s=STOP_GRACE_S + 10))
