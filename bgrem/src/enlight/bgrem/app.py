"""The service: `create_app` names its parts in the order in which they start."""

from __future__ import annotations

from importlib.metadata import version

from flask_openapi import OpenAPI

from enlight.bgrem.requests import OPERATION
from enlight.bgrem.routes import cutout_routes, model_routes, seed_routes
from enlight.bgrem.settings import Settings
from enlight.bgrem.weights import SETTING, available
from enlight.servicekit.http import Readiness, create_service_app
from enlight.servicekit.logs import configure_logging
from enlight.servicekit.service_status import status_routes
from enlight.servicekit.settings import load_settings
from enlight.servicekit.weight_files import WeightFolder
from enlight.servicekit.worker_service import picture_worker

WORKER = "enlight.bgrem.worker:main"


def create_app(settings: Settings | None = None, *, start: bool = True) -> OpenAPI:
    """The WSGI application, with its worker.

    Args:
        settings: None: those of the environment.
        start: Whether its worker is started; False for an application that only describes itself.

    Raises:
        SettingsError: a setting is unknown, misspelt or out of range.
    """
    settings = settings or load_settings(Settings)
    configure_logging("bgrem", settings.log_level)

    service = picture_worker(WORKER, settings.worker_config(), settings)
    weights = WeightFolder(settings.weights_folder, setting=SETTING)

    def readiness() -> Readiness:
        now = service.readiness()
        return Readiness(now.state, {**now.details, "models_with_weights": available(weights)})

    app = create_service_app(
        service="bgrem",
        version=version("enlight-bgrem"),
        description="Cuts the subject out of a picture.",
        readiness=readiness,
        default_body_limit_bytes=settings.max_body_bytes,
    )
    app.register_api(seed_routes(service))
    app.register_api(cutout_routes(service))
    app.register_api(model_routes(weights))
    app.register_api(status_routes("bgrem", service.status))
    service.add_metrics(app.extensions["metrics"], OPERATION, tells_memory=False)
    app.extensions["enlight"] = service
    if start:
        service.start()
    return app
