"""A service whose requests leave traces of every kind, for a real gunicorn."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator

from flask import Response
from flask_openapi.openapi import OpenAPI

from enlight.servicekit.gunicorn import EXTENSION
from enlight.servicekit.http import Readiness, create_service_app
from enlight.servicekit.logs import configure_logging
from enlight.servicekit.tracing import Stage, span, tracer

logger = logging.getLogger(__name__)


class NothingBesides:
    """What ends with the service."""

    def stop(self) -> None:
        """Nothing to do."""


def create_app() -> OpenAPI:
    """The application."""
    configure_logging("example")
    app = create_service_app(
        service="example",
        version="1",
        description="An example.",
        readiness=lambda: Readiness("ready"),
        default_body_limit_bytes=1000,
    )

    @app.get("/work")
    def work() -> dict[str, object]:
        with span("call", kind="client", attributes={"to": "somebody"}) as calling:
            logger.info("working")
            sent = calling.headers()
        now_s = time.monotonic()
        tracer().record([Stage("earlier", now_s - 2, now_s - 1)])
        return {"pid": os.getpid(), "sent": sent, "trace_parent": tracer().trace_parent()}

    @app.get("/fail")
    def fail() -> Response:
        with span("doomed"):
            raise RuntimeError("a bug")

    @app.get("/stream")
    def stream() -> Response:
        return Response(_pieces(), content_type="text/plain")

    app.extensions[EXTENSION] = NothingBesides()
    return app


def _pieces() -> Iterator[bytes]:
    for number in range(3):
        with span("piece"):
            logger.info("piece %d", number)
        yield b"x"
