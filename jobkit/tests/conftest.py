"""A database with jobs. A module that needs another one defines its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from embedded_servers import EmbeddedServer, mongo_server
from job_samples import opened

from enlight.jobkit.database import Documents
from enlight.jobkit.job_store import JobStore


@pytest.fixture(scope="module")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A server, for the tests of one module."""
    with mongo_server(tmp_path_factory.mktemp("mongo") / "data") as server:
        yield server


@pytest.fixture
def database(mongo: EmbeddedServer) -> Iterator[Documents]:
    """A database of this test's own."""
    with opened(mongo) as database:
        yield database


@pytest.fixture
def store(database: Documents) -> JobStore:
    """The jobs in it."""
    store = JobStore(database, lease_s=30)
    store.make_indexes()
    return store
