"""Debian's nginx before backends on loopback, as a child of a test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from enlight.servicekit.local_process import LocalProcess, accepts_connections, free_port
from enlight.servicekit.settings import child_environment

NGINX = "/usr/sbin/nginx"
TEMPLATE = Path(__file__).with_name("nginx_affinity.conf")


@contextmanager
def nginx_before(backends: Sequence[str], folder: Path, *, read_timeout_s: int) -> Iterator[str]:
    """The address of an nginx with the configuration of `TEMPLATE` before these addresses.

    Args:
        backends: Such as ``http://127.0.0.1:5000``.
        folder: Its files.
        read_timeout_s: How long a backend may be silent.
    """
    port = free_port()
    values = {
        "folder": str(folder),
        "port": str(port),
        "servers": " ".join(f"server {url.removeprefix('http://')} max_fails=0;" for url in backends),
        "read_timeout_s": str(read_timeout_s),
    }
    configuration = TEMPLATE.read_text()
    for name, value in values.items():
        configuration = configuration.replace(f"{{{name}}}", value)
    file = folder / "nginx.conf"
    file.write_text(configuration)
    with LocalProcess(
        "nginx",
        [NGINX, "-p", str(folder), "-c", str(file), "-e", str(folder / "nginx.log")],
        environment=child_environment({}),
        log=folder / "nginx.out",
        is_ready=partial(accepts_connections, port),
    ):
        yield f"http://127.0.0.1:{port}"
