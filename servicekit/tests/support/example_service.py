"""A small service on the skeleton; tests run it in this process, and under a real gunicorn."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from flask import Response, request
from flask_openapi.openapi import OpenAPI
from pydantic import BaseModel, Field

from enlight.servicekit.errors import InvalidField, NotFound, QueueFull
from enlight.servicekit.http import Readiness, client_gone, create_service_app
from enlight.servicekit.logs import configure_logging
from enlight.servicekit.schemas import StrictModel

SMALL_BYTES = 2_000
LARGE_BYTES = 300 << 20


class Body(StrictModel):
    """A body with a field of each kind."""

    prompt: str = Field(max_length=100, description="What to draw.", examples=["a `dog` <b>"])
    LR: float = Field(2e-6, gt=0, le=1)
    size: int | None = Field(None, ge=8, le=1024, multiple_of=8)
    scheduler: Literal["constant", "linear"] = "constant"
    face_enhance: bool = False
    IMAGE_LIST: list[str] = Field(default_factory=list, max_length=50)


class Answer(BaseModel):
    """What was understood."""

    size: int | None
    LR: float


class JobPath(BaseModel):
    """A job."""

    job_id: str = Field(description="Id of the job.")


class FailurePath(BaseModel):
    """How to fail."""

    kind: str


class JobQuery(BaseModel):
    """How many."""

    limit: int = Field(20, ge=1, le=100)


def create_app(readiness: Readiness | None = None, error_fields: dict[str, object] | None = None) -> OpenAPI:
    now = readiness or Readiness("ready", {"queue": 0})
    app = create_service_app(
        service="example",
        version="1.2.3",
        description="An example.",
        readiness=lambda: now,
        default_body_limit_bytes=SMALL_BYTES,
        body_limits={"/large": LARGE_BYTES},
        error_fields=error_fields,
    )

    @app.post("/draw", summary="Draw", responses={200: Answer})
    def draw(body: Body) -> dict[str, object]:
        return {"size": body.size, "LR": body.LR}

    @app.post("/large")
    def large(body: Body) -> dict[str, object]:
        return {"characters": sum(map(len, body.IMAGE_LIST))}

    @app.post("/raw")
    def raw() -> dict[str, object]:
        return {"bytes": len(request.get_data())}

    @app.get("/jobs/<job_id>")
    def job(path: JobPath, query: JobQuery) -> dict[str, object]:
        return {"job": path.job_id, "limit": query.limit}

    @app.get("/fails/<kind>")
    def fails(path: FailurePath) -> dict[str, object]:
        kind = path.kind
        if kind == "service-error":
            raise QueueFull("Full.", retry_after_s=7)
        if kind == "not-found":
            raise NotFound("No such model.", details={"model_id": "dog"})
        if kind == "field":
            raise InvalidField.of("size", "must be a multiple of 64")
        if kind == "nan":
            return {"loss": float("nan")}
        raise ZeroDivisionError("secret")

    @app.get("/stream")
    def stream() -> Response:
        return Response((b"x" for _ in range(3)), content_type="text/plain")

    @app.post("/wait")
    def wait() -> dict[str, object]:
        """Waits until the client is gone, at most 10 s; says for how long."""
        started_s = time.monotonic()
        while not client_gone(request.environ) and time.monotonic() - started_s < 10.0:
            time.sleep(0.01)
        Path(request.args["file"]).write_text(f"{time.monotonic() - started_s}")
        return {}

    return app


def gunicorn_app() -> OpenAPI:
    configure_logging("example")
    return create_app()
