"""The suite as the demo runs it: on loopback, on free ports, with embedded defaults, without keys."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from enlight.servicekit.local_process import LocalProcess, accepts_connections, free_port
from enlight.servicekit.local_service import LocalService, settings_environment

ROOT = Path(__file__).resolve().parents[1]
BASE_MODEL = "enlight/pocket"


@contextmanager
def suite(data_folder: Path, log_folder: Path) -> Iterator[str]:
    """The gateway's address, with everything behind it running; what it keeps is below ``data_folder``."""
    shared = {"DATA_FOLDER": str(data_folder), "MODELS_FOLDER": str(ROOT / "models")}
    weights = {name: {"WEIGHTS_FOLDER": str(ROOT / "models" / name)} for name in ("bgrem", "realesrgan")}
    with ExitStack() as running:
        cache_port, queue_port, database_port = free_port(), free_port(), free_port()
        running.enter_context(_server("enlight-redis", "cache", cache_port, data_folder, log_folder))
        running.enter_context(
            _server("enlight-redis", "queue", queue_port, data_folder, log_folder, "--", "--appendonly", "yes")
        )
        running.enter_context(_server("mongodb-server", "database", database_port, data_folder, log_folder))
        jobs = {"QUEUE_URL": f"redis://127.0.0.1:{queue_port}/0", "MONGO_URL": f"mongodb://127.0.0.1:{database_port}"}
        running.enter_context(_worker(shared | jobs, log_folder))
        dreambooth_api = running.enter_context(
            _service("dreambooth-api", log_folder, **shared, DEFAULT_BASE_MODEL=BASE_MODEL)
        )
        bgrem, realesrgan = (running.enter_context(_service(name, log_folder, **weights[name])) for name in weights)
        gateway = running.enter_context(
            _service(
                "main-api",
                log_folder,
                **shared,
                **jobs,
                KEYS="off",
                CACHE_URLS=json.dumps([f"redis://127.0.0.1:{cache_port}/0"]),
                DEFAULT_BASE_MODEL=BASE_MODEL,
                DREAMBOOTH_URLS=json.dumps([dreambooth_api.url]),
                BGREM_URLS=json.dumps([bgrem.url]),
                REALESRGAN_URLS=json.dumps([realesrgan.url]),
            )
        )
        yield gateway.url


def _service(name: str, log_folder: Path, **settings: str) -> LocalService:
    package = name.replace("-", "_")
    return LocalService(
        f"enlight.{package}.app:create_app()",
        gunicorn_config=ROOT / name / "gunicorn.conf.py",
        env_prefix=f"{package.upper()}_",
        settings=settings,
        log=log_folder / f"{name}.log",
    )


def _worker(settings: dict[str, str], log_folder: Path) -> LocalProcess:
    return LocalProcess(
        "the worker",
        [sys.executable, "-m", "enlight.dreambooth_api.worker"],
        environment=settings_environment("DREAMBOOTH_WORKER_", settings),
        log=log_folder / "worker.log",
        is_ready=lambda: True,  # nobody waits for it: a job waits in the queue
    )


def _server(kind: str, role: str, port: int, data_folder: Path, log_folder: Path, *options: str) -> LocalProcess:
    """A Valkey or a database as a development package has it, with its files in the folder ``role``."""
    script = ROOT / kind / "embedded.py"
    return LocalProcess(
        f"the {role}",
        [sys.executable, str(script), "--port", str(port), "--data", str(data_folder / role), *options],
        environment=settings_environment("MAIN_API_", {}),
        log=log_folder / f"{role}.log",
        is_ready=partial(accepts_connections, port),
    )
