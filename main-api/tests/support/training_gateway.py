"""The training routes over a real MongoDB server and a real queue, with a caller whom a header names."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from flask import g, request
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from PIL import Image
from werkzeug.test import TestResponse

from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.jobkit.database import Documents, open_database
from enlight.jobkit.dispatcher import Dispatcher
from enlight.jobkit.job_store import JobStore
from enlight.jobkit.jobs import Job
from enlight.main_api.cache.client import CacheClient
from enlight.main_api.keys.tenants import Caller, Scope
from enlight.main_api.limits.admission import ByteBudget
from enlight.main_api.limits.quotas import tenant_limits
from enlight.main_api.limits.rate_limits import RateLimiter
from enlight.main_api.models.names import ModelNames
from enlight.main_api.settings import Settings
from enlight.main_api.trainings.routes import training_routes
from enlight.main_api.trainings.service import TrainingService
from enlight.main_api.usage.routes import usage_routes
from enlight.main_api.usage.sums import UsageSums
from enlight.main_api.webhooks.routes import webhook_routes
from enlight.servicekit.directory_store import DirectoryStore
from enlight.servicekit.http import Readiness, create_service_app
from enlight.servicekit.object_store import ObjectStore

TENANT_HEADER = "X-Test-Tenant"
SCOPE_HEADER = "X-Test-Scope"


def photo(shade: int = 0) -> bytes:
    """A small PNG file; another one for each shade."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((96, 80)).point(lambda level: (level + shade) % 256).save(file, "PNG")
    return file.getvalue()


def training_body(model_id: str = "chair", **changes: Any) -> dict[str, Any]:
    """A body of ``POST /v1/trainings``."""
    encoded = [base64.b64encode(photo(index)).decode() for index in range(3)]
    return {"model_id": model_id, "instance_prompt": "a sks chair", "photos": encoded, **changes}


def train_body(model_id: str = "chair", **changes: Any) -> dict[str, Any]:
    """A body of the seed's ``POST /train``."""
    encoded = [base64.b64encode(photo(index)).decode() for index in range(3)]
    return {"INSTANCE_PROMPT": "a sks chair", "OUTPUT_DIR": model_id, "IMAGE_LIST": encoded, **changes}


@dataclass
class Gateway:
    """One gateway process, as far as trainings go."""

    app: OpenAPI
    service: TrainingService
    database: Documents
    store: JobStore
    objects: ObjectStore
    names: ModelNames
    cache: CacheClient
    limiter: RateLimiter

    @property
    def client(self) -> FlaskClient:
        """A client of its own for each thread that asks."""
        return self.app.test_client()

    def post(self, path: str, body: object, *, tenant: str = "acme", **headers: str) -> TestResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(path, json=body, headers={TENANT_HEADER: tenant, **named})

    def get(self, path: str, *, tenant: str = "acme", **headers: str) -> TestResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.get(path, headers={TENANT_HEADER: tenant, **named})

    def delete(self, path: str, *, tenant: str = "acme") -> TestResponse:
        return self.client.delete(path, headers={TENANT_HEADER: tenant})

    def start(self, model_id: str = "chair", *, tenant: str = "acme", **headers: str) -> str:
        """Id of a training that was accepted."""
        response = self.post("/v1/trainings", training_body(model_id), tenant=tenant, **headers)
        assert response.status_code == 202, response.text[:500]
        assert isinstance(response.json, dict)
        return str(response.json["id"])

    def claim(self, job_id: str) -> Job:
        """What a worker does first."""
        job = self.store.claim(job_id, "test-worker")
        assert job is not None
        return job

    def succeed(self, job_id: str, version: str = "v1") -> None:
        """What a worker does from the first to the last."""
        job = self.claim(job_id)
        self.store.commit(job_id, job.attempt, version)
        self.store.succeed(job_id, job.attempt, {"version": version})

    def fail(self, job_id: str, code: str, message: str) -> None:
        """A worker that ends with an error."""
        job = self.claim(job_id)
        self.store.fail(job_id, job.attempt, {"code": code, "message": message, "details": {}})

    def keys(self, job_id: str) -> list[str]:
        """The job's objects."""
        return [info.key for info in self.objects.list(f"{job_id}/")]


@dataclass(frozen=True)
class Connections:
    """What a gateway stands on."""

    mongo_url: str
    queue_url: str
    folder: Path
    database: str = "enlight"
    cache_urls: tuple[str, ...] = ()
    """Where the gateways count together; none: each for itself."""


OpenGateway = Callable[..., AbstractContextManager[Gateway]]
"""`gateway` over a test's connections."""


@contextmanager
def gateway(
    connections: Connections, *, objects: ObjectStore | None = None, started: bool = True, **settings: Any
) -> Iterator[Gateway]:
    """A gateway in this process. ``started`` False: without its threads."""
    gate = build(connections, objects=objects, **settings)
    try:
        for indexed in (gate.store, gate.names, gate.service):
            indexed.make_indexes()
        if started:
            gate.service.start()
        yield gate
    finally:
        if started:
            gate.service.stop()
        gate.cache.close()
        gate.database.client.close()


def build(connections: Connections, *, objects: ObjectStore | None = None, **changes: Any) -> Gateway:
    """A gateway, not started; ``changes`` are settings."""
    chosen = {"mongo_timeout_s": 2.0, "event_poll_s": 0.02, "default_base_model": "enlight/pocket", **changes}
    folder = connections.folder
    settings = Settings(data_folder=folder, models_folder=folder / "models", **chosen)
    database = open_database(connections.mongo_url, connections.database, timeout_s=settings.mongo_timeout_s)
    store = JobStore(database, lease_s=30, max_attempts=3)
    names = ModelNames(database)
    objects = objects or DirectoryStore(folder / "job-objects")
    limits = tenant_limits(requests_per_minute=0, gpu_seconds_per_hour=settings.gpu_seconds_per_hour)
    cache = CacheClient(connections.cache_urls)
    limiter = RateLimiter(cache, limits=limits)
    service = TrainingService(
        settings,
        database=database,
        store=store,
        objects=objects,
        names=names,
        dispatcher=Dispatcher(connections.queue_url, timeout_s=settings.redis_timeout_s),
        catalogue=BaseCatalogue(settings.models_folder),
        limiter=limiter,
    )
    app = _make_app(service, database, settings)
    return Gateway(app, service, database, store, objects, names, cache, limiter)


def _make_app(service: TrainingService, database: Documents, settings: Settings) -> OpenAPI:
    """The application with the routes of trainings, and of what becomes of them."""
    app = create_service_app(
        service="test",
        version="0",
        description="",
        readiness=lambda: Readiness("ready"),
        default_body_limit_bytes=settings.max_train_body_bytes,
    )

    @app.before_request
    def name_the_caller() -> None:
        scope = cast(Scope, request.headers.get(SCOPE_HEADER, "user"))
        g.caller = Caller(request.headers.get(TENANT_HEADER, "acme"), scope, "test")

    app.register_api(training_routes(service, ByteBudget(settings.max_buffered_bytes)))
    app.register_api(webhook_routes(service.delivery_log))
    app.register_api(usage_routes(UsageSums(database)))
    return app
