"""Debian's nginx before backends on loopback, with the configuration that ships, as a child of a test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from enlight.servicekit.local_process import LocalProcess, accepts_connections, free_port
from enlight.servicekit.settings import child_environment

NGINX = "/usr/sbin/nginx"
START = Path(__file__).resolve().parents[2] / "nginx/start-nginx.sh"
needs_nginx = pytest.mark.skipif(not Path(NGINX).exists(), reason="Debian's nginx is not installed")


@dataclass(frozen=True)
class Front:
    """A running nginx."""

    url: str
    folder: Path

    def accesses(self) -> list[dict[str, Any]]:
        """The access log so far."""
        return [json.loads(line) for line in (self.folder / "access.log").read_text().splitlines()]


def nginx_environment(folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of `START` that is this and nothing else of `NGINX_`."""
    own = {"NGINX_PROGRAM": shutil.which("nginx") or NGINX, "NGINX_FOLDER": str(folder), "NGINX_USER": "root"}
    return dict(child_environment({**own, "NGINX_ACCESS_LOG": str(folder / "access.log"), **given}))


@contextmanager
def nginx_before(
    backends: Sequence[str],
    folder: Path,
    *,
    read_timeout_s: int,
    service: str = "DREAMBOOTH_API",
    settings: Mapping[str, str] | None = None,
) -> Iterator[Front]:
    """An nginx before these replicas of one service.

    Args:
        backends: Such as ``http://127.0.0.1:5000``.
        folder: Its files.
        read_timeout_s: How long a backend may be silent.
        service: As it stands in the names of settings.
        settings: More settings.
    """
    port = free_port()
    given = {
        f"NGINX_{service}_SERVERS": " ".join(url.removeprefix("http://") for url in backends),
        f"NGINX_{service}_LISTEN": f"127.0.0.1:{port}",
        "NGINX_CONNECT_TIMEOUT_S": "1",
        "NGINX_READ_TIMEOUT_S": str(read_timeout_s),
        "NGINX_TRAINING_TIMEOUT_S": str(read_timeout_s),
        **(settings or {}),
    }
    with LocalProcess(
        "nginx",
        [str(START)],
        environment=nginx_environment(folder, given),
        log=folder / "nginx.out",
        is_ready=partial(accepts_connections, port),
    ):
        yield Front(f"http://127.0.0.1:{port}", folder)
