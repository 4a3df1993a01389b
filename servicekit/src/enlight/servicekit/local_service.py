"""A service under gunicorn as a child of a demo, a benchmark or a test."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from enlight.servicekit.local_process import LocalProcess, free_port
from enlight.servicekit.settings import child_environment


class LocalService(LocalProcess):
    """One service on a free loopback port, for as long as the ``with`` block lasts.

    Args:
        app: gunicorn's name of the application, such as ``enlight.dreambooth_api.app:create_app()``.
        gunicorn_config: The service's ``gunicorn.conf.py``.
        env_prefix: Prefix of its settings; settings of that prefix in our own environment are not handed on.
        settings: Settings without the prefix. ``HOST`` and ``PORT`` are set here.
        log: File that gets the service's output, appended.
        ready_timeout_s: How long it may take until ``/ready`` answers 200.
    """

    def __init__(
        self,
        app: str,
        *,
        gunicorn_config: Path,
        env_prefix: str,
        settings: Mapping[str, str],
        log: Path,
        ready_timeout_s: float = 120,
    ) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        super().__init__(
            f"the service at {self.url}",
            [sys.executable, "-m", "gunicorn", "--config", str(gunicorn_config), app],
            environment=settings_environment(env_prefix, {"HOST": "127.0.0.1", "PORT": str(port), **settings}),
            log=log,
            is_ready=self._answers_ready,
            ready_timeout_s=ready_timeout_s,
        )

    def _answers_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ready", timeout=5):  # noqa: S310 -- our own http address
                return True
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False


def settings_environment(prefix: str, settings: Mapping[str, str]) -> dict[str, str]:
    """Our environment with these settings as the only ones of that prefix."""
    # Only the prefix is taken out: everything else of our environment (PATH, CUDA, OMP ...) is the child's too.
    inherited = {name: value for name, value in child_environment({}).items() if not name.startswith(prefix)}
    return inherited | {f"{prefix}{name}": value for name, value in settings.items()}
