"""Jobs for tests, and a database to keep them in."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from embedded_servers import EmbeddedServer

from enlight.jobkit.database import Documents, open_database, server_time
from enlight.jobkit.jobs import NewJob

_DEFAULTS: dict[str, Any] = {
    "tenant": "ann",
    "model_name": "dog",
    "model_id": "m-0001",
    "request": {"prompt": "a photo of $state", "steps": 2, "nested": {"a.b": 1, "$c": None}},
    "photo_keys": ["photos/00", "photos/01"],
    "warnings": [{"photo": 1, "code": "blurred"}],
    "idempotency_key": None,
    "body_digest": "0" * 64,
    "webhook_url": None,
}


def new_job(**values: Any) -> NewJob:
    """A job with these values and made-up ones for the rest; ids sort by time."""
    job_id = f"tr-{time.time_ns():019d}-{secrets.token_hex(5)}"
    return NewJob(**{"id": job_id, **_DEFAULTS, **values})


@contextmanager
def opened(server: EmbeddedServer, *, name: str | None = None, timeout_s: float = 10) -> Iterator[Documents]:
    """A database on the server, new unless ``name`` says which; closed at the end."""
    database = open_database(server.url, name or f"test-{secrets.token_hex(6)}", timeout_s=timeout_s)
    try:
        yield database
    finally:
        database.client.close()


def wait_for_server_time(database: Documents, until: datetime | None) -> None:
    """Returns when the database's clock is past ``until``."""
    assert until is not None
    while server_time(database) <= until:
        time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()))
