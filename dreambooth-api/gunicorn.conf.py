"""gunicorn for dreambooth-api. Trainings get time to write their checkpoints, generations to finish."""

from __future__ import annotations

from enlight.dreambooth_api.settings import Settings
from enlight.servicekit.gunicorn import post_worker_init, server_config, worker_exit
from enlight.servicekit.settings import load_settings

__all__ = ["post_worker_init", "worker_exit"]

_settings = load_settings(Settings)
globals().update(
    server_config("dreambooth-api", _settings, graceful_timeout_s=_settings.training_stop_grace_s + 10),
)
