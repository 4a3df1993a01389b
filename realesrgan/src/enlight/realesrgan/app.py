"""The service: `create_app` names its parts in the order in which they start. No torch in this process."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version

from flask_openapi import OpenAPI

from enlight.realesrgan.requests import OPERATION, WorkerConfig
from enlight.realesrgan.routes import WHAT_RAN, upscaling_routes
from enlight.realesrgan.settings import Settings
from enlight.realesrgan.upscales import Upscales
from enlight.servicekit.child_metrics import OUT_OF_MEMORY
from enlight.servicekit.http import create_service_app
from enlight.servicekit.http_docs import add_answer_headers
from enlight.servicekit.logs import configure_logging
from enlight.servicekit.service_status import status_routes
from enlight.servicekit.settings import load_settings, variable_name
from enlight.servicekit.weight_files import WeightFolder
from enlight.servicekit.worker_service import picture_worker

WORKER = "enlight.realesrgan.worker:main"


def create_app(settings: Settings | None = None, *, start: bool = True) -> OpenAPI:
    """The WSGI application, with its worker.

    Args:
        settings: None: those of the environment.
        start: Whether its worker is started; False for an application that only describes itself.

    Raises:
        SettingsError: a setting is unknown, misspelt or out of range.
    """
    settings = settings or load_settings(Settings)
    configure_logging("realesrgan", settings.log_level)

    folder = WeightFolder(settings.weights_folder, setting=variable_name(Settings, "weights_folder"))
    service = picture_worker(WORKER, _worker_config(settings), settings)

    app = create_service_app(
        service="realesrgan",
        version=version("enlight-realesrgan"),
        description="Enlarges pictures with the Real-ESRGAN family, up to 8192 pixels.",
        readiness=service.readiness,
        default_body_limit_bytes=settings.max_body_bytes,
        error_fields={"status": "false"},
        finish_document=partial(add_answer_headers, headers={"upsampler": WHAT_RAN}),
    )
    app.register_api(upscaling_routes(Upscales(service, folder)))
    app.register_api(status_routes("realesrgan", service.status))
    service.add_metrics(app.extensions["metrics"], OPERATION, totals=OUT_OF_MEMORY)
    app.extensions["enlight"] = service
    if start:
        service.start()
    return app


def _worker_config(settings: Settings) -> WorkerConfig:
    return WorkerConfig(
        device=settings.device,
        cpu_threads=settings.cpu_threads,
        weights_folder=settings.weights_folder.absolute(),
        weights_sha256=settings.weights_sha256,
        memory_bytes=settings.memory_bytes,
        resident_networks=settings.resident_networks,
        fused_kernels=settings.fused_kernels,
    )
