"""The service: `create_app` names its parts in the order in which they start."""

from __future__ import annotations

from importlib.metadata import version

from flask_openapi import OpenAPI

from enlight.servicekit.child_metrics import OUT_OF_MEMORY
from enlight.servicekit.http import create_service_app
from enlight.servicekit.logs import configure_logging
from enlight.servicekit.service_status import status_routes
from enlight.servicekit.settings import load_settings
from enlight.servicekit.worker_service import picture_worker
from enlight.upsampler.requests import OPERATION, WorkerConfig
from enlight.upsampler.routes import upscaling_routes
from enlight.upsampler.settings import Settings
from enlight.upsampler.upscale_requests import UpscaleRequests
from enlight.upsampler.weights import ModelFolder

WORKER = "enlight.upsampler.worker:main"


def create_app(settings: Settings | None = None, *, start: bool = True) -> OpenAPI:
    """The WSGI application, with its worker.

    Args:
        settings: None: those of the environment.
        start: Whether its worker is started; False for an application that only describes itself.

    Raises:
        SettingsError: a setting is unknown, misspelt or out of range.
    """
    settings = settings or load_settings(Settings)
    configure_logging("upsampler", settings.log_level)

    # Nothing is to be looked up on the hub while a request waits, whatever a configuration names.
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    service = picture_worker(WORKER, _worker_config(settings), settings, env=offline)

    app = create_service_app(
        service="upsampler",
        version=version("enlight-upsampler"),
        description="Enlarges pictures with the Stable Diffusion x4 upscaler, guided by a prompt.",
        readiness=service.readiness,
        default_body_limit_bytes=settings.max_body_bytes,
        error_fields={"status": "false"},
    )
    requests = UpscaleRequests(max_prompt_chars=settings.max_prompt_chars, default_steps=settings.default_steps)
    app.register_api(upscaling_routes(requests, service, ModelFolder(settings.weights_folder)))
    app.register_api(status_routes("upsampler", service.status))
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
        unet_window=settings.unet_window_px,
        vae_window=settings.vae_window_px,
    )
