"""A service of one worker, in the shape of bgrem and the upscalers: its settings, its app, and its worker's side."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

from flask import request
from flask_openapi.openapi import OpenAPI
from pydantic import BaseModel, Field
from pydantic_settings import SettingsConfigDict

from enlight.servicekit.child import ChildChannel
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.http import client_gone, create_service_app
from enlight.servicekit.http_uploads import uploaded_file
from enlight.servicekit.process import RestartPolicy, Supervisor
from enlight.servicekit.service_settings import ImageServiceSettings
from enlight.servicekit.service_status import status_routes
from enlight.servicekit.settings import load_settings
from enlight.servicekit.task_pool import RunningTask, WorkerBroken, serve_tasks
from enlight.servicekit.worker_service import WorkerService

THREADS = 2


class Settings(ImageServiceSettings):
    """The service's settings."""

    model_config = SettingsConfigDict(env_prefix="EXAMPLE_", frozen=True, extra="forbid")

    port: int = Field(4999, ge=1, le=65535, description="Port to listen on.")
    ends_slowly_into: str = Field("", description="A file that stopping writes, after five seconds.")


class Command(BaseModel):
    """What the worker is to do."""

    command: str


def create_app() -> OpenAPI:
    """The application, its worker started."""
    settings = load_settings(Settings)
    worker = Supervisor(
        "example_picture_service:main",
        None,
        name="worker",
        max_pending=settings.max_requests,
        start_timeout_s=settings.worker_start_timeout_s,
        hang_timeout_s=settings.worker_hang_timeout_s,
        restart=RestartPolicy(first_delay_s=0.05),
    )
    service = SlowToStop(worker, timeout_s=settings.request_timeout_s)
    if settings.ends_slowly_into:
        service.end_slowly_into(Path(settings.ends_slowly_into))
    app = create_service_app(
        service="example",
        version="1",
        description="An example.",
        readiness=service.readiness,
        default_body_limit_bytes=settings.max_body_bytes,
    )

    @app.post("/do/<command>")
    def do(path: Command) -> dict[str, object]:
        return {"answer": service.run(path.command, partial(client_gone, request.environ))}

    @app.post("/upload")
    def upload() -> dict[str, object]:
        sent = uploaded_file(request, form_fields=("image", "file"))
        return {"bytes": len(sent.data), "field": sent.field, "form": sent.form}

    app.register_api(status_routes("example", service.status))
    service.add_metrics(app.extensions["metrics"], "task", stages=("queued", "nap"))
    app.extensions["enlight"] = service
    service.start()
    return app


class SlowToStop(WorkerService):
    """A service whose stop can be made to take its time, as one does that waits for a checkpoint."""

    def end_slowly_into(self, file: Path) -> None:
        stop_worker = self.stop._stop

        def stop() -> None:
            time.sleep(5.0)  # longer than gunicorn waits for kept-alive connections
            stop_worker()
            file.write_text("stopped in order")

        self.stop._stop = stop


def main(channel: ChildChannel, argument: object) -> None:
    """The worker."""
    answered = 0

    def handle(task: RunningTask) -> object:
        nonlocal answered
        answered += 1
        return COMMANDS[str(task.payload)](task)

    def state() -> dict[str, object]:
        return {"answered": answered, "pid": os.getpid(), "device": "cpu", "loaded": ["some-network"]}

    serve_tasks(channel, handle, threads=THREADS, state=state)


def _nap(task: RunningTask) -> None:
    with task.stage("nap"):
        time.sleep(1.0)


def _work(task: RunningTask) -> str:
    while True:
        task.check()
        time.sleep(0.01)


def _work_silently(task: RunningTask) -> None:
    time.sleep(60)


def _refuse(task: RunningTask) -> None:
    raise InvalidField.of("picture", "is not to my taste")


def _fail(task: RunningTask) -> None:
    raise RuntimeError("a bug")


def _break(task: RunningTask) -> None:
    raise WorkerBroken("the GPU failed: for the test")


COMMANDS = {
    "pid": lambda task: os.getpid(),
    "nap": _nap,
    "work": _work,
    "work-silently": _work_silently,
    "refuse": _refuse,
    "fail": _fail,
    "break": _break,
}
