"""An application under a real gunicorn, on a free port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from waiting import wait_until

from enlight.servicekit.local_process import free_port

SUPPORT = Path(__file__).parent
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class GunicornServer:
    """One that listens."""

    port: int
    process: subprocess.Popen[bytes]


@contextmanager
def gunicorn_server(
    app: str, *arguments: str, python_path: str = str(SUPPORT), environment: Mapping[str, str] | None = None
) -> Iterator[GunicornServer]:
    """gunicorn with these arguments; ``environment`` is added to this process's."""
    port = free_port()
    command = [
        *(sys.executable, "-m", "gunicorn", "--no-control-socket", "--bind", f"127.0.0.1:{port}"),
        *("--pythonpath", python_path, *arguments, app),
    ]
    process = subprocess.Popen(
        command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert wait_until(lambda: _is_listening(port), START_TIMEOUT_S)
        yield GunicornServer(port, process)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()


def _is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
