"""Processes that say how they are, as a test wants them to be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from quick_services import served

from enlight.servicekit.http import Readiness, create_service_app
from enlight.servicekit.service_status import HeldModel, ModelTier, ServiceStatus, status_routes

IDLE = {"device": "cpu", "pending": 0, "running": 0}


@dataclass
class Process:
    """One of them."""

    url: str = ""
    status: ServiceStatus = field(default_factory=lambda: ServiceStatus("ready", IDLE))
    asked: int = 0
    answers: threading.Event = field(default_factory=threading.Event)
    """Clear: it hangs."""

    def tell(self) -> ServiceStatus:
        """What it says when it is asked."""
        self.asked += 1
        assert self.answers.wait(60)
        return self.status


@contextmanager
def process(service: str = "dreambooth-api", *, host: str = "127.0.0.1", port: int = 0) -> Iterator[Process]:
    """A service of this name that has no route but this one."""
    told = Process()
    told.answers.set()
    app = create_service_app(
        service=service, version="1", description="", readiness=lambda: Readiness("ready"), default_body_limit_bytes=1
    )
    app.register_api(status_routes(service, told.tell))
    with served(app, host=host, port=port) as told.url:
        try:
            yield told
        finally:
            told.answers.set()


def held(model_id: str, tier: ModelTier, version: str | None = "v1") -> HeldModel:
    """A model of a process."""
    return HeldModel(model_id=model_id, version=version, tier=tier)
