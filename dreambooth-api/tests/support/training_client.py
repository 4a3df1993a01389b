"""A client of the training routes: the application is real, the trainer is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flask.testing import FlaskClient
from training_samples import catalogue_in, settings_in

from enlight.dreambooth_api.requests import TrainerConfig, TrainingOutcome
from enlight.dreambooth_api.routes import base_model_routes, training_routes
from enlight.dreambooth_api.training_events import EventStreams
from enlight.dreambooth_api.training_queue import TrainingQueue
from enlight.dreambooth_api.training_records import TrainingRecords
from enlight.dreambooth_api.training_requests import TrainingChecker
from enlight.servicekit.http import Readiness, create_service_app


@contextmanager
def client_in(folder: Path) -> Iterator[FlaskClient]:
    """A client of the training and base model routes over ``folder``, whose trainings end at once."""
    settings, catalogue = settings_in(folder), catalogue_in(folder)

    def run(job: object, config: TrainerConfig, on_progress: Callable[..., None], closing: object) -> TrainingOutcome:
        return TrainingOutcome(config.request.model_id, "v1", 1, 0, 0.1, 0.1, 0.1, None, 1)

    records = TrainingRecords(settings.trainings_folder, settings.jobs_folder)
    queue = TrainingQueue(settings, catalogue, records, run=run)
    app = create_service_app(
        service="test",
        version="0",
        description="",
        readiness=lambda: Readiness("ready"),
        default_body_limit_bytes=10**7,
    )
    app.register_api(training_routes(TrainingChecker(settings, catalogue), queue, EventStreams(1)))
    app.register_api(base_model_routes(catalogue, default=settings.default_base_model))
    queue.start()
    try:
        yield app.test_client()
    finally:
        queue.stop()
