"""A gateway with a real database, a real Valkey and stand-ins for the services behind."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedded_servers import EmbeddedServer, mongo_server, valkey_server
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from stand_in_service import StandIn, stand_in_service
from waiting import wait_until

from enlight.main_api.app import create_app
from enlight.main_api.gateway import Gateway
from enlight.main_api.keys.tenants import Scope
from enlight.main_api.settings import Settings
from enlight.main_api.stores import Stores, open_stores
from enlight.servicekit.local_service import LocalService

ROOT = Path(__file__).resolve().parents[3]
MODELS_FOLDER = ROOT / "models"


@dataclass
class Surroundings:
    """What gateways of a test module stand on."""

    folder: Path
    mongo: EmbeddedServer
    valkey: EmbeddedServer
    behind: dict[str, StandIn]
    _databases: int = field(default=0)

    def settings(self, **changes: Any) -> Settings:
        """Settings with a database and buckets of their own."""
        self._databases += 1
        given: dict[str, Any] = {
            "data_folder": self.folder / f"data-{self._databases}",
            "mongo_url": self.mongo.url,
            "mongo_database": f"test{self._databases}",
            "queue_url": self.valkey.url,
            "cache_urls": [self.valkey.url],
            "models_folder": MODELS_FOLDER,
            "default_base_model": "enlight/pocket",
            "upstream_check_every_s": 0.2,
            "connect_timeout_s": 1,
            **{f"{name}_urls": [service.url] for name, service in self.behind.items()},
        }
        return Settings(**{**given, **changes})


@contextmanager
def surroundings(folder: Path) -> Iterator[Surroundings]:
    """The servers, for a whole test module."""
    with ExitStack() as stack:
        mongo = stack.enter_context(mongo_server(folder / "mongo"))
        valkey = stack.enter_context(valkey_server(folder / "valkey"))
        names = ("dreambooth", "bgrem", "upsampler", "realesrgan")
        behind = {name: stack.enter_context(stand_in_service()) for name in names}
        yield Surroundings(folder, mongo, valkey, behind)


def gateway_under_gunicorn(settings: Settings, log: Path) -> LocalService:
    """The gateway as it is run, with the settings that are not the default."""
    values = json.loads(settings.model_dump_json(exclude_unset=True))
    variables = {name.upper(): value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
    return LocalService(
        "enlight.main_api.app:create_app()",
        gunicorn_config=ROOT / "main-api" / "gunicorn.conf.py",
        env_prefix="MAIN_API_",
        settings=variables,
        log=log,
    )


@contextmanager
def gateway(settings: Settings) -> Iterator[OpenAPI]:
    """The application, ready, with the services behind seen."""
    app = create_app(settings)
    running: Gateway = app.extensions["enlight"]
    try:
        assert wait_until(lambda: _is_up(running)), running.readiness()
        yield app
    finally:
        running.stop()


@contextmanager
def opened(settings: Settings) -> Iterator[Stores]:
    """What a gateway of these settings keeps, for a look beside it."""
    stores = open_stores(settings)
    try:
        yield stores
    finally:
        stores.close()


def make_key(settings: Settings, tenant: str, scope: Scope = "user") -> str:
    """A key's text."""
    with opened(settings) as stores:
        return stores.keys.create(tenant, scope)[1].text


def client_of(app: OpenAPI, key: str | None = None) -> FlaskClient:
    """A client that sends this key with each request."""
    client = app.test_client()
    if key is not None:
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    return client


def _is_up(running: Gateway) -> bool:
    now = running.readiness()
    return now.state == "ready" and "unknown" not in str(now.details)
