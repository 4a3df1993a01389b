"""A database, a Valkey and clients of it, a gateway. A module that needs others defines its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
from embedded_servers import EmbeddedServer, mongo_server, valkey_server
from flask_openapi import OpenAPI
from gateways import gateway
from redis import Redis
from redis_servers import StartServer

from enlight.main_api.cache.client import CacheClient
from enlight.main_api.settings import Settings


@pytest.fixture(scope="module")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A database server, for the tests of one module."""
    with mongo_server(tmp_path_factory.mktemp("mongo") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def app(settings: Settings) -> Iterator[OpenAPI]:
    """A gateway, for a module that has a fixture `settings`."""
    with gateway(settings) as running:
        yield running


@pytest.fixture(scope="module")
def start_server() -> StartServer:
    """What `server` is. A module whose tests are also for Redis has another fixture of this name."""
    return valkey_server


@pytest.fixture(scope="module")
def server(start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """A Valkey, for the tests of one module."""
    with start_server(tmp_path_factory.mktemp("valkey") / "data") as server:
        yield server


@pytest.fixture
def redis(server: EmbeddedServer) -> Iterator[Redis]:
    """The way to look into it; it is empty at first."""
    with closing(Redis.from_url(server.url, socket_timeout=5)) as redis:
        redis.flushall()
        yield redis


@pytest.fixture
def client(server: EmbeddedServer, redis: Redis) -> Iterator[CacheClient]:
    """The cache's client of it."""
    with closing(CacheClient([server.url], probe_every_s=0.05)) as client:
        yield client
