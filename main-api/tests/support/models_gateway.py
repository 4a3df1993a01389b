"""The routes of models with everything behind them but keys: the header ``X-Tenant`` says who asks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import g, request
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from small_models import publish, write_base, write_full, write_lora
from werkzeug.test import TestResponse

from enlight.dreambooth_api.model_cache import ModelCache
from enlight.dreambooth_api.model_store import ModelStore
from enlight.jobkit.database import open_database
from enlight.jobkit.job_store import JobStore
from enlight.main_api.keys.tenants import Caller
from enlight.main_api.models.names import ModelNames, new_bucket_id
from enlight.main_api.models.routes import IMPORT_RULE, model_routes
from enlight.main_api.models.service import ModelsService
from enlight.main_api.models.transfers import ModelTransfers
from enlight.servicekit.errors import StorageUnavailable
from enlight.servicekit.http import Readiness, create_service_app
from enlight.servicekit.object_store import ObjectStore, open_store

LIMIT_BYTES = 64 << 20
SLOTS = 2


class FailingDeletes:
    """A bucket that stops removing after some objects, as when the process or the network dies on the way."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self.allowed: int | None = None
        """Removals that still work; None: all."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._objects, name)

    def delete(self, key: str) -> None:
        """As the bucket, while it may."""
        if self.allowed is not None:
            if self.allowed == 0:
                raise StorageUnavailable("The bucket is away.")
            self.allowed -= 1
        self._objects.delete(key)


class ModelsGateway:
    """Routes, their parts, and ways to look at them from outside.

    Args:
        mongo_url: A database server.
        database_name: An empty database, or one that an earlier gateway on the same folder left.
        folder: Holds bucket, copies, base model and imports.
    """

    def __init__(self, mongo_url: str, database_name: str, folder: Path) -> None:
        self.folder = folder
        self.database = open_database(mongo_url, database_name, timeout_s=5)
        self.names = ModelNames(self.database)
        self.jobs = JobStore(self.database, lease_s=30)
        self.jobs.make_indexes()
        self.bucket = FailingDeletes(open_store((folder / "bucket").as_uri(), timeout_s=5, retry_total_s=5))
        self.store = ModelStore(self.bucket)
        self.copies = ModelCache(
            folder / "copies", self.store, quota_bytes=256 << 20, alias_ttl_s=0, fetch_timeout_s=10
        )
        self.forgotten: list[tuple[str, str]] = []
        self.models = ModelsService(
            self.names, self.bucket, self.store, self.copies, self.jobs, forget_name=self._forget_name
        )
        self.transfers = ModelTransfers(
            self.names,
            self.store,
            self.copies,
            write_base(folder / "models"),
            work_folder=folder / "imports",
            limit_bytes=LIMIT_BYTES,
            slots=SLOTS,
        )
        self.app = _app(self.models, self.transfers)
        self.client: FlaskClient = self.app.test_client()

    def close(self) -> None:
        """Ends threads and connections."""
        self.models.close()
        self.database.client.close()

    def ask(self, method: str, path: str, *, tenant: str = "anna", **more: Any) -> TestResponse:
        """An answer of the routes."""
        return self.client.open(path, method=method, headers={"X-Tenant": tenant}, **more)

    def train(self, name: str, *, tenant: str = "anna", kind: str = "full", seed: int = 1) -> str:
        """A model as a finished training leaves it; its bucket id."""
        bucket_id = self.names.reserve(tenant, name)
        folder = self.folder / "trained" / new_bucket_id()
        if kind == "lora":
            publish(self.store, bucket_id, write_lora(folder, seed=seed), "lora")
        else:
            publish(self.store, bucket_id, write_full(folder, seed=seed), "full")
        return bucket_id

    def objects(self, bucket_id: str) -> list[Path]:
        """What the bucket has of a model."""
        return [each for each in (self.folder / "bucket" / bucket_id).rglob("*") if each.is_file()]

    def _forget_name(self, tenant: str, name: str) -> bool:
        self.forgotten.append((tenant, name))
        return True


@contextmanager
def models_gateway(mongo_url: str, folder: Path) -> Iterator[ModelsGateway]:
    """A gateway with an empty database."""
    gateway = ModelsGateway(mongo_url, f"models_{new_bucket_id()}", folder)
    try:
        yield gateway
    finally:
        gateway.close()


def create_app(mongo_url: str, database_name: str, folder: str) -> OpenAPI:
    """For gunicorn."""
    return ModelsGateway(mongo_url, database_name, Path(folder)).app


def _app(models: ModelsService, transfers: ModelTransfers) -> OpenAPI:
    app = create_service_app(
        service="main-api",
        version="test",
        description="",
        readiness=lambda: Readiness("ready"),
        default_body_limit_bytes=4096,
        body_limits={IMPORT_RULE: LIMIT_BYTES},
    )

    @app.before_request
    def authenticate() -> None:
        g.caller = Caller(tenant=request.headers.get("X-Tenant", "nobody"), scope="user", key_id="0")

    app.register_api(model_routes(models, transfers, dict))
    return app
