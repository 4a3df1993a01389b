"""``dev-scripts/<service>/start.sh``: each service twice on one machine, on ports of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
import redis
import requests
from embedded_servers import mongo_server, valkey_server

from enlight.servicekit.local_process import LocalProcess, accepts_connections, free_port
from enlight.servicekit.settings import child_environment

ROOT = Path(__file__).resolve().parents[1]
SERVICES = {
    "dreambooth-api": "DREAMBOOTH_API_",
    "bgrem": "BGREM_",
    "upsampler": "UPSAMPLER_",
    "realesrgan": "REALESRGAN_",
    "main-api": "MAIN_API_",
    "dashboard": "DASHBOARD_",
}


@contextmanager
def started(name: str, port: int, folder: Path, *arguments: str, **variables: str) -> Iterator[None]:
    """The script, until the block ends; it listens at ``port`` within the block."""
    folder.mkdir()
    with LocalProcess(
        name,
        [str(ROOT / f"dev-scripts/{name}/start.sh"), *arguments],
        environment=child_environment(variables),
        log=folder / "log",
        is_ready=partial(accepts_connections, port),
    ):
        yield


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_runs_twice_on_one_machine(name: str, tmp_path: Path) -> None:
    prefix = SERVICES[name]
    more = {}
    with ExitStack() as running:
        if name == "main-api":
            more = {
                "MAIN_API_MONGO_URL": running.enter_context(mongo_server(tmp_path / "mongo")).url,
                "MAIN_API_QUEUE_URL": running.enter_context(valkey_server(tmp_path / "queue")).url,
                "MAIN_API_CACHE_URLS": "[]",
                "MAIN_API_DEFAULT_BASE_MODEL": "enlight/pocket",
            }
        if name == "dreambooth-api":
            more = {"DREAMBOOTH_API_DEFAULT_BASE_MODEL": "enlight/pocket"}
        ports = [free_port(), free_port()]
        for port in ports:
            own = {f"{prefix}PORT": str(port)}
            if name in ("dreambooth-api", "main-api"):
                own[f"{prefix}DATA_FOLDER"] = str(tmp_path / f"data-{port}")
            running.enter_context(started(name, port, tmp_path / str(port), **own, **more))
        for port in ports:
            document = requests.get(f"http://127.0.0.1:{port}/openapi.json", timeout=30).json()
            assert document["info"]["title"] == name


def test_redis_runs_as_cache_and_as_queue(tmp_path: Path) -> None:
    with ExitStack() as running:
        for role in ("cache", "queue"):
            port, data = free_port(), tmp_path / role
            variables = {"REDIS_PORT": str(port), "REDIS_FOLDER": str(data)}
            running.enter_context(started("redis", port, tmp_path / f"log-{role}", role, **variables))
            with redis.Redis(port=port, password=(data / "password").read_text()) as client:
                policy = client.config_get("maxmemory-policy")["maxmemory-policy"]
            assert policy == {"cache": "allkeys-lru", "queue": "noeviction"}[role]
