"""The services behind the gateway with all of their HTTP side, and workers that have the answer at once.

Bodies are read, checked and refused by the services' own code, and pictures are decoded; but none is computed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
from flask_openapi import OpenAPI
from werkzeug.serving import WSGIRequestHandler, make_server

from enlight.bgrem import routes as bgrem_routes
from enlight.bgrem.requests import CutoutRequest, CutoutResult
from enlight.dreambooth_api import routes as dreambooth_routes
from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.dreambooth_api.generations import Generations
from enlight.dreambooth_api.requests import GenerationRequest, GenerationResult
from enlight.dreambooth_api.settings import Settings as DreamboothSettings
from enlight.dreambooth_api.training_events import EventStreams
from enlight.dreambooth_api.training_queue import TrainingQueue
from enlight.dreambooth_api.training_requests import TrainingChecker
from enlight.realesrgan.requests import UpscaleRequest as RealesrganRequest
from enlight.realesrgan.requests import UpscaleResult as RealesrganResult
from enlight.realesrgan.routes import upscaling_routes as realesrgan_routes
from enlight.realesrgan.upscales import Upscales
from enlight.servicekit.errors import ServiceError
from enlight.servicekit.http import Readiness, create_service_app
from enlight.servicekit.images import decode_picture, encode_jpeg, encode_png, encode_webp
from enlight.servicekit.process import Supervisor
from enlight.servicekit.service_settings import MIB
from enlight.servicekit.weight_files import WeightFolder
from enlight.servicekit.worker_service import WorkerService
from enlight.upsampler.requests import UpscaleRequest as UpsamplerRequest
from enlight.upsampler.requests import UpscaleResult as UpsamplerResult
from enlight.upsampler.routes import upscaling_routes as upsampler_routes
from enlight.upsampler.upscale_requests import UpscaleRequests
from enlight.upsampler.weights import ModelFolder

SIDE_PX = 8
_PIXELS = np.full((SIDE_PX, SIDE_PX, 3), 200, np.uint8)
_ENCODERS: dict[str, Callable[[Any], bytes]] = {"png": encode_png, "jpeg": encode_jpeg, "webp": encode_webp}


class QuickWorker:
    """In the place of a supervised child process."""

    def __init__(self, answer: Callable[[Any], object]) -> None:
        self._answer = answer

    def submit(self, payload: object) -> EndedTask:
        return EndedTask(self._answer, payload)


class EndedTask:
    """What a worker's ticket is once its answer is there."""

    def __init__(self, answer: Callable[[Any], object], payload: object) -> None:
        self._error: ServiceError | None = None
        self._value: object = None
        try:
            self._value = answer(payload)
        except ServiceError as error:
            self._error = error

    def wait(self, timeout_s: float) -> bool:
        return True

    def result(self) -> object:
        if self._error is not None:
            raise self._error
        return self._value


def dreambooth(models_folder: Path, data_folder: Path) -> OpenAPI:
    """dreambooth-api, but for its trainings: the gateway has its own."""
    settings = DreamboothSettings(
        models_folder=models_folder, data_folder=data_folder, default_base_model="enlight/pocket"
    )
    catalogue = BaseCatalogue(models_folder)
    generations = Generations(settings, catalogue, _supervisor(_generation))
    app = _app("dreambooth-api", body_limit_bytes=settings.max_train_body_bytes)
    app.register_api(dreambooth_routes.inference_routes(generations))
    app.register_api(dreambooth_routes.base_model_routes(catalogue, default="enlight/pocket"))
    no_queue = cast(TrainingQueue, None)
    checker = TrainingChecker(settings, catalogue)
    app.register_api(dreambooth_routes.training_routes(checker, no_queue, EventStreams(1)))
    return app


def bgrem() -> OpenAPI:
    """bgrem."""
    app = _app("bgrem")
    service = _service(_cut_out)
    app.register_api(bgrem_routes.seed_routes(service))
    app.register_api(bgrem_routes.cutout_routes(service))
    return app


def upsampler(weights_folder: Path) -> OpenAPI:
    """The upsampler."""
    app = _app("upsampler", error_fields={"status": "false"})
    requests = UpscaleRequests(max_prompt_chars=2000, default_steps=10)
    app.register_api(upsampler_routes(requests, _service(_upsampled), ModelFolder(weights_folder)))
    return app


def realesrgan(weights_folder: Path) -> OpenAPI:
    """realesrgan."""
    app = _app("realesrgan", error_fields={"status": "false"})
    app.register_api(realesrgan_routes(Upscales(_service(_enlarged), WeightFolder(weights_folder, setting="WEIGHTS"))))
    return app


@contextmanager
def served(app: OpenAPI, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """The application on a loopback port, by default a free one; its address."""
    server = make_server(host, port, app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        """The application has a log of its own."""


def _app(name: str, *, body_limit_bytes: int = 40 * MIB, error_fields: dict[str, object] | None = None) -> OpenAPI:
    return create_service_app(
        service=name,
        version="quick",
        description="",
        readiness=lambda: Readiness("ready"),
        default_body_limit_bytes=body_limit_bytes,
        error_fields=error_fields,
    )


def _supervisor(answer: Callable[[Any], object]) -> Supervisor:
    return cast(Supervisor, QuickWorker(answer))


def _service(answer: Callable[[Any], object]) -> WorkerService:
    return WorkerService(_supervisor(answer), timeout_s=10)


def _generation(asked: GenerationRequest) -> GenerationResult:
    return GenerationResult(
        images=(_ENCODERS[asked.image_format](_PIXELS),) * asked.count,
        model_id=asked.model_id,
        model_version=None if "/" in asked.model_id else "01ABC",
        base_name="enlight/pocket",
        seed=asked.seed,
        steps=asked.steps or 25,
        strength=None if asked.init_image is None else asked.init_image.strength,
        guidance_scale=asked.guidance_scale,
        scheduler="DDIMScheduler",
        width_px=SIDE_PX,
        height_px=SIDE_PX,
        image_format=asked.image_format,
        batch_images=asked.count,
        cache_tier="resident",
        queued_s=0,
        run_s=0.01,
    )


def _cut_out(asked: CutoutRequest) -> CutoutResult:
    decode_picture(asked.data, asked.field)
    data = _ENCODERS[asked.image_format](_PIXELS)
    return CutoutResult(data, f"image/{asked.image_format}", SIDE_PX, SIDE_PX)


def _upsampled(asked: UpsamplerRequest) -> UpsamplerResult:
    decode_picture(asked.image, asked.image_field)
    data = _ENCODERS[asked.image_format](_PIXELS)
    return UpsamplerResult(data, asked.image_format, SIDE_PX, SIDE_PX, windows=(1, 1), run_s=0.01)


def _enlarged(asked: RealesrganRequest) -> RealesrganResult:
    decode_picture(asked.data, asked.field)
    data = _ENCODERS[asked.image_format](_PIXELS)
    return RealesrganResult(data, asked.image_format, SIDE_PX, SIDE_PX, 1, 0, 0.0, 0.01, 0.0)
