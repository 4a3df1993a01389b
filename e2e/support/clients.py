"""What the end-to-end tests say over HTTP, and to the processes behind it."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import requests
from PIL import Image

from enlight.servicekit.local_service import LocalService

ROOT = Path(__file__).resolve().parents[2]
PHOTOS = [base64.b64encode(path.read_bytes()).decode() for path in sorted((ROOT / "demo/photos").glob("*.png"))]
POCKET = "enlight/pocket"


@contextmanager
def running_service(folder: Path, **settings: object) -> Iterator[LocalService]:
    """dreambooth-api with the pocket base as default, everything below ``folder``."""
    service = service_in(folder, **settings)
    service.start()
    try:
        yield service
    finally:
        service.stop()


def service_in(folder: Path, **settings: object) -> LocalService:
    """The same, not started yet."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen: dict[str, object] = {
        "DATA_FOLDER": folder / "data",
        "MODELS_FOLDER": ROOT / "models",
        "DEFAULT_BASE_MODEL": POCKET,
        "CPU_THREADS": 1,
        "PROGRESS_EVERY_S": 0.05,
        **{name.upper(): value for name, value in settings.items()},
    }
    return LocalService(
        "enlight.dreambooth_api.app:create_app()",
        gunicorn_config=ROOT / "dreambooth-api/gunicorn.conf.py",
        env_prefix="DREAMBOOTH_API_",
        settings={name: str(value) for name, value in chosen.items()},
        log=folder / "service.log",
    )


def train_body(**changes: Any) -> dict[str, Any]:
    """A valid body of /train, small enough for a test."""
    body = {
        "INSTANCE_PROMPT": "a sks toy",
        "OUTPUT_DIR": "toy",
        "IMAGE_LIST": PHOTOS,
        "MAX_TRAINING_STEPS": 4,
        "LR": 1e-5,
    }
    return body | changes


def training_body(**changes: Any) -> dict[str, Any]:
    """A valid body of /v1/trainings, small enough for a test."""
    body = {
        "model_id": "toy",
        "instance_prompt": "a sks toy",
        "photos": PHOTOS,
        "max_training_steps": 4,
        "learning_rate": 1e-5,
    }
    return body | changes


def generation_body(**changes: Any) -> dict[str, Any]:
    """A valid body of /v1/generations, small enough for a test."""
    return {
        "model_id": POCKET,
        "prompt": "a pizza on the beach",
        "num_inference_steps": 4,
        "seed": 3,
    } | changes


def post(service: LocalService, path: str, body: object, *, timeout_s: float = 120) -> requests.Response:
    """POST as JSON."""
    return requests.post(f"{service.url}{path}", json=body, timeout=timeout_s)


def get(service: LocalService, path: str) -> requests.Response:
    """GET."""
    return requests.get(f"{service.url}{path}", timeout=30)


def pixels(image: str) -> np.ndarray:
    """(H, W, 3) uint8 of a base64 picture in an answer."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB"))


def assert_error(response: requests.Response, status: int, code: str, field: str | None = None) -> dict[str, Any]:
    """The answer is the one error body with this status and code; the named field is in the message and details."""
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["error"]["code"]) == (status, code), body
    assert set(body) == {"message", "error"}
    assert set(body["error"]) == {"code", "details", "request_id"}
    assert body["error"]["request_id"] == response.headers["X-Request-ID"]
    assert "Traceback" not in response.text
    if status == 503:
        assert int(response.headers["Retry-After"]) > 0
    if field is not None:
        assert field in body["message"]
        assert field in str(body["error"]["details"])
    return body


def child_pid(service: LocalService, target: str) -> int:
    """Process id of the service's engine or trainer, by the target in its command line."""
    pid: int = eventually(lambda: next(iter(_children(service, target)), None), f"a process {target}")
    return pid


def _children(service: LocalService, target: str) -> list[int]:
    found = []
    for child in psutil.Process(service.pid).children(recursive=True):
        try:
            if any(target in argument for argument in child.cmdline()) and not _has_same_child(child, target):
                found.append(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def _has_same_child(process: psutil.Process, target: str) -> bool:
    return any(any(target in argument for argument in child.cmdline()) for child in process.children())


def service_processes(folder: Path) -> list[psutil.Process]:
    """Every process that has ``folder`` in its command line or environment: what a service left behind."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in process.environ().get("DREAMBOOTH_API_DATA_FOLDER", ""):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def eventually(get_value: Callable[[], Any], what: str, *, timeout_s: float = 30) -> Any:
    """Waits until ``get_value`` gives something true, and returns it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = get_value()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {timeout_s} s for {what}")


def trainings(service: LocalService) -> list[dict[str, Any]]:
    """Every training, newest first."""
    listed: list[dict[str, Any]] = get(service, "/v1/trainings").json()["trainings"]
    return listed
