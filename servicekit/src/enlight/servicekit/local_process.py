"""A program as a child of a demo, a benchmark or a test: started, waited for, stopped, killed."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

READY_POLL_S = 0.1
PORTS = range(10_000, 32_768)
"""Below those that Linux gives to outgoing connections (`net.ipv4.ip_local_port_range`), so that a port that was found
free is not one of theirs by the time it is listened on."""


class LocalProcess:
    """One program with a process group of its own, for as long as the ``with`` block lasts.

    Args:
        name: What messages call it.
        command: Program and arguments.
        environment: All of its environment.
        log: File that gets its output, appended.
        is_ready: Whether it does its work by now.
        ready_timeout_s: How long that may take.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        is_ready: Callable[[], bool],
        ready_timeout_s: float = 120,
    ) -> None:
        self.log = log
        self._name = name
        self._command = list(command)
        self._environment = dict(environment)
        self._is_ready = is_ready
        self._ready_timeout_s = ready_timeout_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Id of the process that was started, which is the id of its process group as well."""
        assert self._process is not None, f"{self._name} is not running"
        return self._process.pid

    def start(self, *, wait: bool = True) -> None:
        """Starts it.

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
        """Waits until it is ready; raises as `start`."""
        deadline_s = time.monotonic() + self._ready_timeout_s
        while time.monotonic() < deadline_s and self._process is not None and self._process.poll() is None:
            if self._is_ready():
                return
            time.sleep(READY_POLL_S)
        end_of_log = self.log.read_text(errors="replace")[-3000:]
        raise RuntimeError(f"{self._name} is not ready; the end of its log:\n{end_of_log}")

    def stop(self, timeout_s: float = 60) -> int:
        """Asks it to stop and insists after ``timeout_s``; returns its exit status, 0 for one that does not run."""
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
        """kill -9 of its process group. Processes that it put into others must notice by themselves."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):  # all of the group have ended
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def free_port() -> int:
    """A TCP port on loopback that nothing listens on."""
    while True:
        with socket.socket() as listener:
            port = secrets.choice(PORTS)
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                return port


def accepts_connections(port: int) -> bool:
    """Whether something listens on the loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
