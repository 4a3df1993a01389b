"""The suite on several hosts: one has gateway, queue, cache, database and bucket, each of the others a worker."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fake_gcs import fake_gcs_binary, make_bucket
from separate_hosts import Host, separate_hosts

from enlight.servicekit.local_process import LocalProcess
from enlight.servicekit.local_service import settings_environment

ROOT = Path(__file__).resolve().parents[2]
CENTRE = "centre"
BUCKET = "enlight"
GATEWAY_PORT, CACHE_PORT, QUEUE_PORT, MONGO_PORT, BUCKET_PORT = 8040, 6379, 6390, 27017, 4443
"""A host has all ports to itself."""


@dataclass(frozen=True)
class SuiteOnHosts:
    """What runs where. Everything is reached at the address of the host that it runs on."""

    hosts: dict[str, Host]
    workers: dict[str, LocalProcess]
    """By the name of their host."""

    @property
    def url(self) -> str:
        """The gateway's address."""
        return f"http://{self._centre}:{GATEWAY_PORT}"

    @property
    def mongo_url(self) -> str:
        """The database's address."""
        return f"mongodb://{self._centre}:{MONGO_PORT}"

    @property
    def bucket_url(self) -> str:
        """The address of the service that has the bucket."""
        return f"http://{self._centre}:{BUCKET_PORT}"

    @property
    def _centre(self) -> str:
        return self.hosts[CENTRE].address


@contextmanager
def suite_on_hosts(
    worker_hosts: Sequence[str], folder: Path, *, lease_s: float, settings: Mapping[str, Mapping[str, str]]
) -> Iterator[SuiteOnHosts]:
    """The suite on as many hosts and one more, until the block ends.

    Args:
        worker_hosts: Short names.
        folder: Data and logs of all parts, a folder and a file for each; workers share nothing but the network.
        lease_s: After how long a silent worker has lost its job.
        settings: More settings, by the prefix of their variables.
    """
    with ExitStack() as running:
        hosts = running.enter_context(separate_hosts([CENTRE, *worker_hosts]))
        suite = SuiteOnHosts(hosts, {})
        centre = _Centre(hosts[CENTRE], folder, suite)
        shared = {
            "MONGO_URL": suite.mongo_url,
            "QUEUE_URL": f"redis://{hosts[CENTRE].address}:{QUEUE_PORT}/0",
            "JOBS_URL": f"gs://{BUCKET}/jobs",
            "MODELS_FOLDER": str(ROOT / "models"),
            "LEASE_S": str(lease_s),
        }
        for server in (centre.bucket(), centre.database(), centre.cache(), centre.queue()):
            running.enter_context(server)
        make_bucket(suite.bucket_url, BUCKET)
        running.enter_context(centre.gateway({**shared, **settings.get("MAIN_API_", {})}))
        for name in worker_hosts:
            own = {
                **shared,
                "DATA_FOLDER": str(folder / name),
                "BUCKET_URL": f"gs://{BUCKET}/models",
                **settings.get("DREAMBOOTH_WORKER_", {}),
            }
            environment = settings_environment("DREAMBOOTH_WORKER_", own)
            worker = LocalProcess(
                f"the worker on {name}",
                hosts[name].command([sys.executable, "-m", "enlight.dreambooth_api.worker"]),
                environment={**environment, "STORAGE_EMULATOR_HOST": suite.bucket_url},
                log=folder / f"{name}.log",
                is_ready=lambda: True,  # nobody waits for it: a job waits in the queue
            )
            suite.workers[name] = running.enter_context(worker)
        yield suite


class _Centre:
    """Makes what runs on the host in the middle."""

    def __init__(self, host: Host, folder: Path, suite: SuiteOnHosts) -> None:
        self._host = host
        self._folder = folder
        self._suite = suite

    def bucket(self) -> LocalProcess:
        options = ["-scheme", "http", "-backend", "filesystem", "-log-level", "error"]
        options += ["-filesystem-root", str(self._folder / "bucket"), "-external-url", self._suite.bucket_url]
        options += ["-host", self._host.address, "-port", str(BUCKET_PORT)]
        return self._server("bucket", BUCKET_PORT, [str(fake_gcs_binary()), *options])

    def database(self) -> LocalProcess:
        options = ["--host", self._host.address, "--port", str(MONGO_PORT), "--data", str(self._folder / "database")]
        return self._server("database", MONGO_PORT, _script("mongodb-server", options))

    def cache(self) -> LocalProcess:
        return self._valkey("cache", CACHE_PORT)

    def queue(self) -> LocalProcess:
        return self._valkey("queue", QUEUE_PORT, "--appendonly", "yes")

    def gateway(self, settings: Mapping[str, str]) -> LocalProcess:
        given = {
            "HOST": self._host.address,
            "PORT": str(GATEWAY_PORT),
            "DATA_FOLDER": str(self._folder / "main-api"),
            "MODELS_URL": f"gs://{BUCKET}/models",
            "CACHE_URLS": json.dumps([f"redis://{self._host.address}:{CACHE_PORT}/0"]),
            "DEFAULT_BASE_MODEL": "enlight/pocket",
            **settings,
        }
        config = str(ROOT / "main-api/gunicorn.conf.py")
        command = [sys.executable, "-m", "gunicorn", "--config", config, "enlight.main_api.app:create_app()"]
        return self._server("main-api", GATEWAY_PORT, command, settings_environment("MAIN_API_", given))

    def _valkey(self, role: str, port: int, *options: str) -> LocalProcess:
        # No password: the network ends at these hosts.
        open_to_hosts = ["--bind", self._host.address, "--protected-mode", "no"]
        of_script = ["--port", str(port), "--data", str(self._folder / role), "--", *open_to_hosts, *options]
        return self._server(role, port, _script("enlight-redis", of_script))

    def _server(
        self, role: str, port: int, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> LocalProcess:
        given = settings_environment("MAIN_API_", {}) if environment is None else environment
        return LocalProcess(
            f"the {role}",
            self._host.command(command),
            environment={**given, "STORAGE_EMULATOR_HOST": self._suite.bucket_url},
            log=self._folder / f"{role}.log",
            is_ready=partial(_accepts_connections, self._host.address, port),
        )


def _script(kind: str, options: Sequence[str]) -> list[str]:
    return [sys.executable, str(ROOT / kind / "embedded.py"), *options]


def _accepts_connections(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=1).close()
    except OSError:
        return False
    return True
