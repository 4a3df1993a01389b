"""What traces cost a request that does nothing: services side by side, asked in turns over a kept connection.

``python servicekit/benchmarks/traced_requests.py [--before CHECKOUT]`` prints medians and their ratios. ``CHECKOUT`` is
the project at another commit, for what the code costs where traces are off.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from contextlib import ExitStack
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from unittest import mock

from flask_openapi.openapi import OpenAPI
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from enlight.servicekit import gunicorn
from enlight.servicekit.http import Readiness, create_service_app
from enlight.servicekit.local_service import LocalService
from enlight.servicekit.logs import configure_logging
from enlight.servicekit.service_settings import HttpSettings

HERE = Path(__file__).resolve().parent
ROUNDS = 40
REQUESTS = 200


class Settings(HttpSettings):
    """The service's settings."""

    model_config = SettingsConfigDict(env_prefix="TRACED_", frozen=True, extra="forbid")

    port: int = Field(4999, ge=1, le=65535, description="Port to listen on.")

    @property
    def http_threads(self) -> int:
        """Few."""
        return 4


class NothingBesides:
    """What ends with the service."""

    def stop(self) -> None:
        """Nothing to do."""


def create_app() -> OpenAPI:
    """A service with one route."""
    configure_logging("traced")
    app = create_service_app(
        service="traced",
        version="1",
        description="A benchmark.",
        readiness=lambda: Readiness("ready"),
        default_body_limit_bytes=1000,
    )

    @app.get("/nothing")
    def nothing() -> dict[str, object]:
        return {"answer": 42}

    app.extensions[gunicorn.EXTENSION] = NothingBesides()
    return app


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier commit")
    before = parser.parse_args().before
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        collector = _collector()
        stack.callback(collector.shutdown)
        kinds: dict[str, dict[str, str]] = {} if before is None else {"before": _sources(before)}
        kinds |= {"off": {}, "on": {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}"}}
        services = {kind: stack.enter_context(_service(kind, more, Path(folder))) for kind, more in kinds.items()}
        times: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(ROUNDS):
            for kind, service in services.items():
                times[kind].append(_seconds_of_a_request(service.url))
    medians = {kind: statistics.median(seconds) for kind, seconds in times.items()}
    for kind, seconds in medians.items():
        print(f"{kind:8} {seconds * 1e6:7.0f} us a request, {seconds / medians['off']:.3f} of off")


def _service(kind: str, more: dict[str, str], folder: Path) -> LocalService:
    path = os.pathsep.join([str(HERE), *filter(None, [more.get("PYTHONPATH"), os.environ.get("PYTHONPATH")])])  # noqa: TID251
    with mock.patch.dict(os.environ, {**more, "PYTHONPATH": path}):  # noqa: TID251
        return LocalService(
            "traced_requests:create_app()",
            gunicorn_config=HERE / "traced_requests_gunicorn.py",
            env_prefix="TRACED_",
            settings={},
            log=folder / f"{kind}.log",
        )


def _sources(checkout: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(checkout.resolve() / "servicekit/src")}


def _collector() -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Not into the table."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def _seconds_of_a_request(url: str) -> float:
    connection = HTTPConnection(url.removeprefix("http://"), timeout=10)
    try:
        began_s = time.perf_counter()
        for _ in range(REQUESTS):
            connection.request("GET", "/nothing")
            with connection.getresponse() as response:
                response.read()
        return (time.perf_counter() - began_s) / REQUESTS
    finally:
        connection.close()


if __name__ == "__main__":
    main()
