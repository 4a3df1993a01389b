"""gunicorn: see `enlight.servicekit.gunicorn`."""

from __future__ import annotations

from enlight.realesrgan.settings import Settings
from enlight.servicekit.gunicorn import post_worker_init, server_config, worker_exit
from enlight.servicekit.settings import load_settings

__all__ = ["post_worker_init", "worker_exit"]

# The picture at hand gets a while; one that takes longer is given up.
globals().update(server_config("realesrgan", load_settings(Settings), graceful_timeout_s=15))
