"""What the gateway's benchmarks start: gateways, the small programs beside them, and what their processes cost."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from unittest import mock

import psutil
import requests

from enlight.servicekit.local_service import LocalService
from enlight.servicekit.settings import child_environment

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DATABASE = "p12"
THREADS = 16
CACHE_SECRET = "only for this benchmark, on the loopback"


class Gateway(Protocol):
    """Something that is asked."""

    @property
    def url(self) -> str: ...

    @property
    def pid(self) -> int: ...


@dataclass(frozen=True)
class FreePortService:
    """One of the small programs beside this one."""

    url: str
    pid: int


def cpu_s(gateway: Gateway) -> float:
    """CPU time of a gateway's processes so far, in steps of 10 ms."""
    arbiter = psutil.Process(gateway.pid)
    times = [process.cpu_times() for process in (arbiter, *arbiter.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def cores(text: str) -> set[int]:
    """``4-7`` and ``4`` as numbers of cores."""
    first, _, last = text.partition("-")
    return set(range(int(first), int(last or first) + 1))


@contextmanager
def on_cores(numbers: set[int]) -> Iterator[None]:
    """What is started within it runs on these cores; none: where this program does."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, numbers or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def code_of(checkout: Path | None) -> Iterator[None]:
    """What is started within it runs the code of another checkout, with the packages of this one."""
    if checkout is None:
        yield
        return
    sources = sorted(str(folder) for folder in checkout.resolve().glob("*/src"))
    assert sources, f"{checkout} is no checkout"
    path = os.pathsep.join([*sources, *filter(None, [child_environment({}).get("PYTHONPATH")])])
    with mock.patch.dict(os.environ, PYTHONPATH=path):  # noqa: TID251 -- of the children
        yield


@contextmanager
def small_service(program: str, *arguments: str) -> Iterator[FreePortService]:
    """A program of this folder that takes a port."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, str(HERE / program), str(port), *arguments]
    process = subprocess.Popen(command, env=child_environment({}))
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield FreePortService(f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def our_gateway(folder: Path, echo_url: str, mongo_url: str, cache_url: str) -> Iterator[LocalService]:
    """main-api without keys, before a service that sends bodies back, which it has seen to be there."""
    settings = {
        "KEYS": "off",
        "DATA_FOLDER": str(folder / "data"),
        "MODELS_FOLDER": str(ROOT / "models"),
        "DEFAULT_BASE_MODEL": "enlight/pocket",
        "MONGO_URL": mongo_url,
        "MONGO_DATABASE": DATABASE,
        "QUEUE_URL": cache_url,
        "CACHE_URLS": json.dumps([cache_url]),
        "CACHE_SECRET": CACHE_SECRET,
        "BGREM_URLS": json.dumps([echo_url]),
        "LOG_LEVEL": "warning",
        "UPSTREAM_CHECK_EVERY_S": "1",
    }
    with LocalService(
        "enlight.main_api.app:create_app()",
        gunicorn_config=HERE.parent / "gunicorn.conf.py",
        env_prefix="MAIN_API_",
        settings=settings,
        log=folder / "ours.log",
    ) as service:
        while requests.get(f"{service.url}/ready", timeout=5).json()["details"]["dependencies"]["bgrem"] == "unknown":
            time.sleep(0.1)
        yield service
