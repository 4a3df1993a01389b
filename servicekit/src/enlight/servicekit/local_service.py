"""A service under gunicorn as a child of a demo, a benchmark or a test: started, waited for, stopped, killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from enlight.servicekit.settings import child_environment


class LocalService:
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
        port = _free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self._command = [sys.executable, "-m", "gunicorn", "--config", str(gunicorn_config), app]
        # Only the prefix is taken out: everything else of our environment (PATH, CUDA, OMP ...) is the child's too.
        inherited = {name: value for name, value in child_environment({}).items() if not name.startswith(env_prefix)}
        chosen = {"HOST": "127.0.0.1", "PORT": str(port), **settings}
        self._environment = inherited | {f"{env_prefix}{name}": value for name, value in chosen.items()}
        self._ready_timeout_s = ready_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of gunicorn's arbiter, which is the id of the service's process group as well."""
        assert self._process is not None, "the service was not started"
        return self._process.pid

    def start(self, *, wait: bool = True) -> None:
        """Starts the service.

        Raises:
            RuntimeError: it ended, or was not ready in time; the message holds the end of its log.
        """
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        """Waits until ``/ready`` answers 200; raises as `start`."""
        deadline = time.monotonic() + self._ready_timeout_s
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/ready", timeout=5):  # noqa: S310 -- our own http address
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        end_of_log = self.log.read_text(errors="replace")[-3000:]
        raise RuntimeError(f"the service at {self.url} is not ready; the end of its log:\n{end_of_log}")

    def stop(self, timeout_s: float = 60) -> int:
        """Asks the service to stop and insists after ``timeout_s``; returns its exit status."""
        process = self._process
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            status = process.wait(10)
        self._process = None
        return status

    def kill(self) -> None:
        """kill -9 of gunicorn's processes. The service's own children must notice by themselves."""
        assert self._process is not None, "the service was not started"
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def __enter__(self) -> LocalService:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
