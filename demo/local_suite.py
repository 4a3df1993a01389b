"""The suite as the demo and end-to-end tests run it: on loopback, on free ports, embedded defaults, without keys."""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from enlight.servicekit.local_process import LocalProcess, accepts_connections, free_port
from enlight.servicekit.local_service import LocalService, settings_environment

ROOT = Path(__file__).resolve().parents[1]
BASE_MODEL = "enlight/pocket"
SERVICES = ("dreambooth-api", "bgrem", "realesrgan")


class LocalSuite:
    """The gateway and everything behind it, for as long as the ``with`` block lasts.

    Args:
        data_folder: What the suite keeps lies below it.
        log_folder: One log for each part.
        services: Which services run behind the gateway.
        page: Whether the web page is there, too: the part ``dashboard``. Nobody signs in unless ``settings`` say so.
        workers: How many take trainings from the queue: parts ``worker``, ``worker-2`` and so on, each with a data
            folder of its own of that name below ``data_folder``.
        settings: More settings, by the prefix of their variables: ``{"MAIN_API_": {"LEASE_S": "1"}}``.
    """

    def __init__(
        self,
        data_folder: Path,
        log_folder: Path,
        *,
        services: Collection[str] = SERVICES,
        page: bool = False,
        workers: int = 1,
        settings: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._data_folder = data_folder
        self._log_folder = log_folder
        self._more = settings or {}
        shared = {"DATA_FOLDER": str(data_folder), "MODELS_FOLDER": str(ROOT / "models")}
        cache_port, queue_port, database_port = free_port(), free_port(), free_port()
        self.database_url = f"mongodb://127.0.0.1:{database_port}"
        jobs = {"QUEUE_URL": f"redis://127.0.0.1:{queue_port}/0", "MONGO_URL": self.database_url}
        dreambooth_api = {**shared, "DEFAULT_BASE_MODEL": BASE_MODEL}
        behind = {
            name: self._service(
                name, dreambooth_api if name == "dreambooth-api" else {"WEIGHTS_FOLDER": str(ROOT / "models" / name)}
            )
            for name in services
        }
        self.gateway = self._service(
            "main-api",
            {
                **shared,
                **jobs,
                "KEYS": "off",
                "CACHE_URLS": json.dumps([f"redis://127.0.0.1:{cache_port}/0"]),
                "DEFAULT_BASE_MODEL": BASE_MODEL,
                **{_urls_of(name): json.dumps([service.url]) for name, service in behind.items()},
            },
        )
        self.dashboard = self._service("dashboard", {"MAIN_API_URL": self.gateway.url, "AUTH": "off"})
        self.parts: dict[str, LocalProcess] = {
            "cache": self._server("enlight-redis", "cache", cache_port),
            "queue": self._server("enlight-redis", "queue", queue_port, "--", "--appendonly", "yes"),
            "database": self._server("mongodb-server", "database", database_port),
            **behind,
            **{name: self._worker(name, {**shared, **jobs}) for name in _worker_names(workers)},
            "main-api": self.gateway,
        }
        """By name, in the order in which they start. One that was killed can be started again."""
        if page:
            self.parts["dashboard"] = self.dashboard

    @property
    def url(self) -> str:
        """The gateway's address."""
        return self.gateway.url

    def __enter__(self) -> Self:
        try:
            for part in self.parts.values():
                part.start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        for part in reversed(self.parts.values()):
            part.stop()

    def _service(self, name: str, settings: Mapping[str, str]) -> LocalService:
        package = name.replace("-", "_")
        prefix = f"{package.upper()}_"
        return LocalService(
            f"enlight.{package}.app:create_app()",
            gunicorn_config=ROOT / name / "gunicorn.conf.py",
            env_prefix=prefix,
            settings={**settings, **self._more.get(prefix, {})},
            log=self._log_folder / f"{name}.log",
        )

    def _worker(self, name: str, settings: Mapping[str, str]) -> LocalProcess:
        prefix = "DREAMBOOTH_WORKER_"
        its_own = {
            "DATA_FOLDER": str(self._data_folder / name),
            "BUCKET_URL": (self._data_folder / "modelids").absolute().as_uri(),
            "JOBS_URL": (self._data_folder / "job-objects").absolute().as_uri(),
        }
        return LocalProcess(
            f"the {name}",
            [sys.executable, "-m", "enlight.dreambooth_api.worker"],
            environment=settings_environment(prefix, {**settings, **its_own, **self._more.get(prefix, {})}),
            log=self._log_folder / f"{name}.log",
            is_ready=lambda: True,  # nobody waits for it: a job waits in the queue
        )

    def _server(self, kind: str, role: str, port: int, *options: str) -> LocalProcess:
        """A Valkey or a database as a development package has it, with its files in the folder ``role``."""
        script, folder = ROOT / kind / "embedded.py", self._data_folder / role
        return LocalProcess(
            f"the {role}",
            [sys.executable, str(script), "--port", str(port), "--data", str(folder), *options],
            environment=settings_environment("MAIN_API_", {}),
            log=self._log_folder / f"{role}.log",
            is_ready=partial(accepts_connections, port),
        )


def _urls_of(service: str) -> str:
    """The gateway's setting of the service's addresses."""
    return f"{service.removesuffix('-api').upper()}_URLS"


def _worker_names(workers: int) -> list[str]:
    return ["worker", *(f"worker-{number}" for number in range(2, workers + 1))][:workers]
