"""Fixtures of the tests of trainings: a database and a queue for a file, a gateway for a test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from embedded_servers import EmbeddedServer, mongo_server, valkey_server
from training_gateway import Connections, Gateway, OpenGateway, gateway


@pytest.fixture(scope="module")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with mongo_server(tmp_path_factory.mktemp("mongo") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with valkey_server(tmp_path_factory.mktemp("queue") / "data") as server:
        yield server


@pytest.fixture
def connections(mongo: EmbeddedServer, queue: EmbeddedServer, tmp_path: Path) -> Connections:
    """A database, a queue and a folder; the database and the folder are the test's own."""
    return Connections(mongo.url, queue.url, tmp_path, f"t{uuid.uuid4().hex[:12]}")


@pytest.fixture
def open_gateway(connections: Connections) -> OpenGateway:
    """Opens a gateway, with settings if need be."""
    return partial(gateway, connections)


@pytest.fixture
def gate(open_gateway: OpenGateway) -> Iterator[Gateway]:
    with open_gateway() as opened:
        yield opened
