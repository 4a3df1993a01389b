"""The service: `create_app` names its parts in the order in which they start."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version

from flask_openapi import OpenAPI

from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.dreambooth_api.engine_metrics import watch_engine
from enlight.dreambooth_api.engine_process import supervise_engine
from enlight.dreambooth_api.generations import Generations
from enlight.dreambooth_api.held_models import VersionsOnDisk, held_models
from enlight.dreambooth_api.routes import base_model_routes, inference_routes, training_routes
from enlight.dreambooth_api.settings import Settings
from enlight.dreambooth_api.told_headers import TOLD_HEADERS
from enlight.dreambooth_api.training_events import EventStreams
from enlight.dreambooth_api.training_metrics import TrainingMetrics
from enlight.dreambooth_api.training_queue import TrainingQueue, run_trainer
from enlight.dreambooth_api.training_records import TrainingRecords
from enlight.dreambooth_api.training_requests import TrainingChecker
from enlight.servicekit.child_metrics import stage_durations
from enlight.servicekit.http import Readiness, create_service_app
from enlight.servicekit.http_docs import add_answer_headers
from enlight.servicekit.logs import configure_logging
from enlight.servicekit.metrics import ServiceMetrics
from enlight.servicekit.process import Supervisor
from enlight.servicekit.service_status import ServiceStatus, status_routes
from enlight.servicekit.settings import load_settings
from enlight.servicekit.worker_service import STOP_GRACE_S, StopOnce


def create_app(settings: Settings | None = None, *, start: bool = True) -> OpenAPI:
    """The WSGI application, with its engine and its training slots.

    Args:
        settings: None: those of the environment.
        start: Whether engine and training slots are started; False for an application that only describes itself.

    Raises:
        SettingsError: a setting is unknown, misspelt or out of range.
    """
    settings = settings or load_settings(Settings)
    configure_logging("dreambooth-api", settings.log_level)

    catalogue = BaseCatalogue(settings.models_folder, revisions=settings.base_revisions, aliases=settings.base_aliases)
    catalogue.resolve(settings.default_base_model, field="DREAMBOOTH_API_DEFAULT_BASE_MODEL")
    metrics = ServiceMetrics()
    durations = stage_durations(metrics)
    engine = supervise_engine(settings, catalogue)
    watch_engine(metrics, engine, settings, durations)
    queue = TrainingQueue(
        settings,
        catalogue,
        TrainingRecords(settings.trainings_folder, settings.jobs_folder),
        run=run_trainer(settings, TrainingMetrics(metrics, durations)),
    )
    service = Service(engine, queue, VersionsOnDisk(settings.store_config().cache_folder))

    for name in ("running", "waiting"):
        metrics.watch(f"trainings_{name}", f"Trainings that are {name}.", partial(_trainings, queue, name))
    app = create_service_app(
        service="dreambooth-api",
        version=version("enlight-dreambooth-api"),
        description="Teaches a diffusion model a subject from a few photos (DreamBooth), and makes pictures of it.",
        readiness=service.readiness,
        default_body_limit_bytes=settings.max_body_bytes,
        body_limits={
            "/train": settings.max_train_body_bytes,
            "/v1/trainings": settings.max_train_body_bytes,
            "/v1/photos/check": settings.max_train_body_bytes,
        },
        metrics=metrics,
        finish_document=partial(add_answer_headers, headers=TOLD_HEADERS),
    )
    app.register_api(
        training_routes(TrainingChecker(settings, catalogue), queue, EventStreams(settings.max_event_streams))
    )
    app.register_api(inference_routes(Generations(settings, catalogue, engine)))
    app.register_api(base_model_routes(catalogue, default=settings.default_base_model))
    app.register_api(status_routes("dreambooth-api", service.status))
    app.extensions["enlight"] = service
    if start:
        service.start()
    return app


def _trainings(queue: TrainingQueue, name: str) -> float:
    return float(queue.counts()[name])


class Service:
    """What runs beside the routes, started and stopped together."""

    def __init__(self, engine: Supervisor, queue: TrainingQueue, on_disk: VersionsOnDisk) -> None:
        self._engine = engine
        self._queue = queue
        self._on_disk = on_disk
        self.stop = StopOnce(self._stop)
        """Not ready from now on; trainings end with a checkpoint, then the engine."""

    def start(self) -> None:
        """Starts the engine, then takes up interrupted trainings."""
        self._engine.start()
        self._queue.start()

    def _stop(self) -> None:
        # The engine goes last, so that generations in flight can finish while trainings write their checkpoints.
        self._queue.stop()
        self._engine.stop(STOP_GRACE_S)

    def readiness(self) -> Readiness:
        """State of the engine, and how many trainings run and wait."""
        engine = {name: value for name, value in self._engine.status.items() if name != "models"}
        return Readiness(self._state, {"engine": engine, "trainings": self._queue.counts()})

    def status(self) -> ServiceStatus:
        """Of the engine, and of the trainings that this service runs itself."""
        engine, trainings = self._engine.status, self._queue.counts()
        return ServiceStatus(
            self._state,
            engine,
            held_models(engine, self._on_disk.names()),
            queued=trainings["waiting"],
            running=trainings["running"],
        )

    @property
    def _state(self) -> str:
        return "defunct" if self.stop.begun else self._engine.state.value
