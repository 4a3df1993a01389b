"""The three services that turn pictures into pictures, each under gunicorn on networks of a few weights, and every
route of theirs that takes a picture, said in one way."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests
from bgrem_stand_ins import write_stand_ins
from clients import child_pid, get
from PIL import Image
from realesrgan_stand_ins import weights_folder
from upsampler_tiny_model import build_tiny_upscaler

from enlight.servicekit.local_service import LocalService

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024**2
UPSCALERS = ("upsampler", "realesrgan")


def _bgrem_weights(folder: Path) -> dict[str, str]:
    folder.mkdir(parents=True)
    return write_stand_ins(folder)


def _upsampler_weights(folder: Path) -> dict[str, str]:
    build_tiny_upscaler(folder)
    return {}


_WEIGHTS: dict[str, Callable[[Path], dict[str, str]]] = {
    "bgrem": _bgrem_weights,
    "realesrgan": weights_folder,
    "upsampler": _upsampler_weights,
}
_SETTINGS: dict[str, dict[str, object]] = {
    # One step, and windows in which the attention costs next to nothing.
    "upsampler": {"DEFAULT_STEPS": 1, "UNET_WINDOW_PX": 128, "VAE_WINDOW_PX": 64},
}
SERVICES = tuple(_WEIGHTS)


@dataclass(frozen=True)
class PictureService:
    """A running service.

    Attributes:
        name: Of the distribution.
        local: Its processes.
        worker_pid: The worker as it was when the service was ready for the first time.
    """

    name: str
    local: LocalService
    worker_pid: int

    def assert_unharmed(self) -> None:
        """The worker is the one that was started at first, and takes requests."""
        ready = get(self.local, "/ready")
        worker = ready.json()["details"]["worker"]
        assert (ready.status_code, worker["restarts"], worker["last_error"]) == (200, 0, None), ready.text
        assert worker["pending"] == 0
        assert child_pid(self.local, f"enlight.{self.name}.worker") == self.worker_pid

    def memory_mib(self) -> float:
        """Resident memory of the HTTP process and the worker."""
        children = psutil.Process(self.local.pid).children(recursive=True)
        return sum(process.memory_info().rss for process in children) / MIB


@contextmanager
def running_picture_services(folder: Path, **settings: object) -> Iterator[dict[str, PictureService]]:
    """All three, everything below ``folder``; ``settings`` go to each of them."""
    with ExitStack() as stack:
        locals_ = {name: _started(name, folder / name, settings) for name in SERVICES}
        for local in locals_.values():
            stack.callback(local.stop)
        services = {}
        for name, local in locals_.items():
            local.wait_ready()
            services[name] = PictureService(name, local, child_pid(local, f"enlight.{name}.worker"))
        yield services


def _started(name: str, folder: Path, settings: Mapping[str, object]) -> LocalService:
    sha256 = _WEIGHTS[name](folder / "weights")
    chosen: dict[str, object] = {
        "WEIGHTS_FOLDER": folder / "weights",
        "WEIGHTS_SHA256": json.dumps(sha256),
        "DEVICE": "cpu",
        "CPU_THREADS": 1,
        **_SETTINGS.get(name, {}),
        **{key.upper(): value for key, value in settings.items()},
    }
    service = LocalService(
        f"enlight.{name}.app:create_app()",
        gunicorn_config=ROOT / name / "gunicorn.conf.py",
        env_prefix=f"{name.upper()}_",
        settings={key: str(value) for key, value in chosen.items()},
        log=folder / "service.log",
    )
    service.start(wait=False)
    return service


@dataclass(frozen=True)
class PictureRoute:
    """A route that takes a picture and answers with one.

    Attributes:
        service: Name of its service.
        path: With a query, where it takes parameters there.
        body: A JSON body but for the picture; None where the picture comes as bytes.
        takes: Field of the body or the form that holds the picture; None: the picture is the body.
        gives: Field of the answer that holds the picture; None: the answer is the picture.
        long_side_px: Of what comes back; None: as large as what went in.
    """

    service: str
    path: str
    takes: str | None
    gives: str | None = None
    body: Mapping[str, object] | None = None
    long_side_px: int | None = None
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def rule(self) -> str:
        """The path without its query."""
        return self.path.partition("?")[0]

    @property
    def field_named(self) -> str:
        """What messages call the picture."""
        return self.takes or "body"

    def json_body(self, data: bytes, **changes: object) -> dict[str, Any]:
        """A valid body with this picture, for a route that takes JSON."""
        assert self.body is not None
        assert self.takes is not None
        return {self.takes: base64.b64encode(data).decode(), **self.body, **changes}

    def post(self, service: PictureService, data: bytes, *, timeout_s: float = 120) -> requests.Response:
        """Sends the picture as this route takes it."""
        url = service.local.url + self.path
        if self.body is not None:
            return requests.post(url, json=self.json_body(data), timeout=timeout_s)
        if self.takes is not None:
            return requests.post(url, files={self.takes: ("p", data)}, data=self.form, timeout=timeout_s)
        return requests.post(url, data=data, headers={"Content-Type": "image/png"}, timeout=timeout_s)

    def picture(self, response: requests.Response) -> Image.Image:
        """The picture in an answer, decoded to its end."""
        data = response.content
        if self.gives is not None:
            data = base64.b64decode(response.json()[self.gives], validate=True)
        picture = Image.open(io.BytesIO(data))
        picture.load()
        return picture

    def size(self, width_px: int, height_px: int) -> tuple[int, int]:
        """Width and height of what comes back for a picture of this size."""
        if self.long_side_px is None:
            return width_px, height_px
        factor = self.long_side_px / max(width_px, height_px)
        return max(1, round(width_px * factor)), max(1, round(height_px * factor))


ROUTES = (
    PictureRoute("bgrem", "/remove", "input_image", "output_image", {"model": "u2netp"}),
    PictureRoute("bgrem", "/remove-opacity", "input_image", "output_image", {}),
    PictureRoute("bgrem", "/v1/cutout", None),
    PictureRoute("bgrem", "/api/remove", "file", form={"model": "silueta"}),
    PictureRoute("realesrgan", "/upsampler", "input_string", "image", {"out_resolution": 1024}, long_side_px=1024),
    PictureRoute("realesrgan", "/v1/upscale?out_resolution=1024", None, long_side_px=1024),
    PictureRoute(
        "upsampler", "/upsampler", "image", "image", {"prompt": "a test", "resolution": 1024}, long_side_px=1024
    ),
    PictureRoute("upsampler", "/v1/upscale?prompt=a%20test&resolution=1024", "image", long_side_px=1024),
)
JSON_ROUTES = tuple(route for route in ROUTES if route.body is not None)
BYTES_ROUTES = tuple(route for route in ROUTES if route.body is None)


def route_name(route: object) -> str:
    """For the names of tests."""
    return f"{route.service}{route.rule}" if isinstance(route, PictureRoute) else str(route)[:40]


def assert_refused(
    service: PictureService, response: requests.Response, status: int, code: str, named: str | None = None
) -> None:
    """The answer is the one error body, with the status, the code and the field that is to blame."""
    text = f"{response.status_code} {response.text[:600]}"
    assert response.status_code == status, text
    body = response.json()
    assert body["error"]["code"] == code, text
    expected = {"message", "error"} | ({"status"} if service.name in UPSCALERS else set())
    assert set(body) == expected, text
    assert body.get("status", "false") == "false", text
    assert set(body["error"]) == {"code", "details", "request_id"}, text
    assert body["error"]["request_id"] == response.headers["X-Request-ID"], text
    assert "Traceback" not in response.text, text
    if named is not None:
        assert named in body["message"], text
        assert named in json.dumps(body["error"]["details"]), text
