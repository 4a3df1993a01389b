"""What runs beside the gateway's routes, started and stopped together."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from enlight.jobkit.reaper import Reaper
from enlight.main_api.adapters.openai.files.store import UploadedFiles
from enlight.main_api.background import Repeating
from enlight.main_api.cache.response_cache import sweep_response_objects
from enlight.main_api.dependencies import DependencyWatch
from enlight.main_api.gallery.gallery import Gallery
from enlight.main_api.metrics.dependency_figures import dependencies_up
from enlight.main_api.metrics.job_figures import JobFigures
from enlight.main_api.models.service import ModelsService
from enlight.main_api.settings import Settings
from enlight.main_api.stores import Stores
from enlight.main_api.trainings.service import TrainingService
from enlight.main_api.upstreams.client_watch import ClientWatch
from enlight.main_api.upstreams.services_behind import ServicesBehind
from enlight.main_api.usage.error_log import ErrorLog
from enlight.main_api.usage.records import UsageRecorder
from enlight.main_api.usage.traffic import Traffic
from enlight.servicekit.http import Readiness
from enlight.servicekit.metrics import ServiceMetrics
from enlight.servicekit.worker_service import StopOnce

SWEEP_EVERY_S = 3600.0
PREPARE_EVERY_S = 0.2


class Gateway:
    """The threads of the gateway, and its state as ``/ready`` tells it."""

    def __init__(
        self,
        settings: Settings,
        *,
        stores: Stores,
        behind: ServicesBehind,
        clients: ClientWatch,
        dependencies: DependencyWatch,
        usage: UsageRecorder,
        traffic: Traffic,
        errors: ErrorLog,
        trainings: TrainingService,
        models: ModelsService,
        gallery: Gallery,
        figures: JobFigures,
        files: UploadedFiles,
    ) -> None:
        self._stores = stores
        self._behind = behind
        self._usage = usage
        self._traffic = traffic
        self._errors = errors
        self._models = models
        self._gallery = gallery
        self._files = files
        self._dependencies = dependencies
        self._figures = figures
        self._trainings = trainings
        self._cache_ttl_s = settings.cache_ttl_s
        self._prepared = False
        reaper = Reaper(stores.jobs, stores.dispatcher, interval_s=settings.reap_every_s)
        self._parts: list[
            Repeating | ClientWatch | DependencyWatch | UsageRecorder | Traffic | TrainingService | Reaper | JobFigures
        ] = [
            Repeating(self._prepare, every_s=PREPARE_EVERY_S, name="prepare"),
            clients,
            dependencies,
            usage,
            traffic,
            trainings,
            reaper,
            figures,
            Repeating(self._sweep, every_s=SWEEP_EVERY_S, name="cached-answers-sweep"),
            Repeating(gallery.sweep, every_s=SWEEP_EVERY_S, name="pictures-sweep"),
            Repeating(files.sweep, every_s=SWEEP_EVERY_S, name="uploaded-files-sweep"),
        ]
        self.stop = StopOnce(self._stop)
        """Not ready from now on; trainings go on without the gateway."""

    def start(self) -> None:
        """Starts everything; nothing is waited for."""
        for part in self._parts:
            part.start()

    def readiness(self) -> Readiness:
        """Ready once the database has its indexes; the details say how each dependency was seen last."""
        state = "defunct" if self.stop.begun else "ready" if self._prepared else "starting"
        return Readiness(state, {"dependencies": {name: _told(seen) for name, seen in self._dependencies.seen.items()}})

    def add_metrics(self, metrics: ServiceMetrics) -> None:
        """What is read when Prometheus asks."""
        metrics.watch("usage_records_waiting", "Usage records not written yet.", lambda: self._usage.waiting)
        metrics.watch_total("usage_records_dropped_total", "Usage records that were lost.", lambda: self._usage.dropped)
        metrics.watch_each(
            "dependency_up",
            "1 while it answers: database, queue, cache, and each service at one of its addresses.",
            "dependency",
            lambda: dependencies_up(self._dependencies.seen),
        )
        self._figures.add_metrics(metrics)

    def _stop(self) -> None:
        # Side by side: each may be in a call to something that is away.
        with ThreadPoolExecutor(len(self._parts)) as pool:
            for part in self._parts:
                pool.submit(part.stop)
        self._traffic.stop()  # once more: of what the usage records' end has told
        self._models.close()
        self._behind.close()
        self._stores.close()

    def _prepare(self) -> None:
        if not self._prepared:
            self._stores.make_indexes()
            self._usage.make_indexes()
            self._traffic.make_indexes()
            self._errors.make_indexes()
            self._trainings.make_indexes()
            self._gallery.records.make_indexes()
            self._files.records.make_indexes()
            self._prepared = True

    def _sweep(self) -> None:
        sweep_response_objects(self._stores.cached_answers, older_than_s=self._cache_ttl_s)


def _told(seen: object) -> object:
    """What anybody may know: of a service's addresses how many are in which state, but not which they are."""
    return dict(Counter(look["state"] for look in seen)) if isinstance(seen, list) else seen
