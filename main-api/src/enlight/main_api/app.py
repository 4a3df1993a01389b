"""The gateway: `create_app` names its parts in the order in which they depend on each other."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version

from flask_openapi import OpenAPI

from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.jobkit.job_statistics import JobStatistics
from enlight.jobkit.worker_registry import WorkerRegistry
from enlight.main_api.adapters.a1111.checkpoints import Checkpoints
from enlight.main_api.adapters.a1111.choices import Choices
from enlight.main_api.adapters.a1111.errors import a1111_error_body
from enlight.main_api.adapters.a1111.generations import A1111Generations
from enlight.main_api.adapters.a1111.routes import PICTURE_RULES as A1111_PICTURE_RULES
from enlight.main_api.adapters.a1111.routes import PREFIX as A1111_PREFIX
from enlight.main_api.adapters.a1111.routes import a1111_picture_routes, a1111_routes
from enlight.main_api.adapters.a1111.running import RunningRequests
from enlight.main_api.adapters.a1111.upscales import A1111Upscales
from enlight.main_api.adapters.no_such_route import answer_no_such_route
from enlight.main_api.adapters.openai.document import MODELS_PREFIX, OPENAI_PREFIXES
from enlight.main_api.adapters.openai.errors import answer_models_error, no_such_model_body, openai_error_body
from enlight.main_api.adapters.openai.files.archive import ArchiveLimits
from enlight.main_api.adapters.openai.files.records import UploadedFileRecords
from enlight.main_api.adapters.openai.files.routes import UPLOAD_RULE, file_routes
from enlight.main_api.adapters.openai.files.store import UploadedFiles
from enlight.main_api.adapters.openai.fine_tuning.routes import fine_tuning_routes
from enlight.main_api.adapters.openai.images.images import Images
from enlight.main_api.adapters.openai.images.picture_links import PictureLinks
from enlight.main_api.adapters.openai.images.routes import EDITS_RULE, openai_image_routes
from enlight.main_api.adapters.rembg.errors import rembg_error_body
from enlight.main_api.adapters.rembg.routes import rembg_routes
from enlight.main_api.cache.kept_answers import KeptAnswers
from enlight.main_api.dependencies import DependencyWatch
from enlight.main_api.document import finish_document
from enlight.main_api.gallery.files import PictureFiles
from enlight.main_api.gallery.gallery import Gallery
from enlight.main_api.gallery.generation_stream import GenerationStreams
from enlight.main_api.gallery.records import PictureRecords
from enlight.main_api.gallery.routes import gallery_routes
from enlight.main_api.gateway import Gateway
from enlight.main_api.keys.authentication import Authenticator, add_challenge, authenticate
from enlight.main_api.keys.routes import LimitsView, key_routes
from enlight.main_api.limits import quotas
from enlight.main_api.limits.admission import ByteBudget, Places
from enlight.main_api.limits.rate_limits import RateLimiter
from enlight.main_api.metrics.gateway_metrics import GatewayMetrics
from enlight.main_api.metrics.job_figures import JobFigures
from enlight.main_api.models.lookup import ModelLookup
from enlight.main_api.models.routes import IMPORT_RULE, model_routes
from enlight.main_api.models.served_versions import ServedVersions
from enlight.main_api.models.service import ModelsService
from enlight.main_api.models.transfers import ModelTransfers
from enlight.main_api.settings import Settings
from enlight.main_api.stores import Stores, open_stores
from enlight.main_api.trainings.routes import training_routes
from enlight.main_api.trainings.service import TrainingService
from enlight.main_api.upstreams.client_watch import ClientWatch
from enlight.main_api.upstreams.forwarding import Forwarder
from enlight.main_api.upstreams.generator import Generator
from enlight.main_api.upstreams.own_requests import OwnRequests
from enlight.main_api.upstreams.routes_images import PICTURE_ROUTES, REMBG_ROUTE, image_routes
from enlight.main_api.upstreams.routes_inference import inference_routes
from enlight.main_api.upstreams.services_behind import instance_urls, services_behind, version_of
from enlight.main_api.usage import records as usage
from enlight.main_api.usage.error_log import ErrorLog
from enlight.main_api.usage.operation_routes import operation_routes
from enlight.main_api.usage.records import UsageRecorder
from enlight.main_api.usage.routes import usage_routes
from enlight.main_api.usage.sums import UsageSums
from enlight.main_api.usage.traffic import Traffic
from enlight.main_api.usage.traffic_stats import TrafficHistory
from enlight.main_api.webhooks.routes import webhook_routes
from enlight.main_api.workers.instance_looks import InstanceLooks
from enlight.main_api.workers.routes import worker_routes
from enlight.main_api.workers.training_workers import TrainingWorkers
from enlight.main_api.workers.workers_service import WorkersService
from enlight.servicekit.freed_memory import keep_freed_memory
from enlight.servicekit.gunicorn_quick_reads import EXTENSION as QUICK_READS
from enlight.servicekit.gunicorn_quick_reads import QuickRead
from enlight.servicekit.http import create_service_app
from enlight.servicekit.logs import configure_logging
from enlight.servicekit.metrics import ServiceMetrics
from enlight.servicekit.settings import load_settings


def create_app(settings: Settings | None = None, *, start: bool = True) -> OpenAPI:
    """The WSGI application, with what runs beside it.

    Args:
        settings: None: those of the environment.
        start: Whether what runs beside it is started; False for an application that only describes itself.

    Raises:
        SettingsError: a setting is unknown, misspelt or out of range.
        InvalidField, StorageUnavailable: a URL among the settings is none, a bucket's folder cannot be made.
    """
    settings = settings or load_settings(Settings)
    configure_logging("main-api", settings.log_level)
    keep_freed_memory()

    catalogue = BaseCatalogue(settings.models_folder, revisions=settings.base_revisions, aliases=settings.base_aliases)
    catalogue.resolve(settings.default_base_model, field="MAIN_API_DEFAULT_BASE_MODEL")
    stores = open_stores(settings)
    clients = ClientWatch()
    behind = services_behind(settings, clients)
    dependencies = DependencyWatch(
        {
            "database": stores.check_database,
            "queue": stores.check_queue,
            "cache": stores.check_cache,
            **{upstream.name: upstream.looks for upstream in behind.all()},
        },
        every_s=settings.upstream_check_every_s,
    )
    metrics = ServiceMetrics()
    measured = GatewayMetrics(metrics)
    traffic, errors = Traffic(stores.database), ErrorLog(stores.database)
    recorder = UsageRecorder(stores.database, max_waiting=settings.max_usage_records_waiting, taken=traffic.count)
    limiter = RateLimiter(
        stores.cache,
        limits=quotas.tenant_limits(
            requests_per_minute=settings.requests_per_minute, gpu_seconds_per_hour=settings.gpu_seconds_per_hour
        ),
    )
    lookup = ModelLookup(stores.names, stores.metadata, ttl_s=settings.metadata_ttl_s)
    trainings = TrainingService(
        settings,
        database=stores.database,
        store=stores.jobs,
        objects=stores.job_objects,
        names=stores.names,
        dispatcher=stores.dispatcher,
        catalogue=catalogue,
        limiter=limiter,
        measured=measured,
    )
    models = ModelsService(
        stores.names,
        stores.model_objects,
        stores.models,
        stores.model_copies,
        stores.jobs,
        forget_name=lookup.forget,
    )
    gallery = Gallery(
        PictureRecords(stores.database),
        PictureFiles(stores.pictures),
        max_pictures=settings.max_pictures,
        kept=measured.picture_kept,
    )
    jobs = JobStatistics(stores.database)
    training_workers = TrainingWorkers(WorkerRegistry(stores.queue), jobs)
    files = UploadedFiles(
        UploadedFileRecords(stores.database),
        stores.uploaded_files,
        limits=ArchiveLimits(settings.max_body_bytes, settings.max_train_body_bytes),
        max_bytes=settings.max_files_bytes,
    )
    gateway = Gateway(
        settings,
        stores=stores,
        behind=behind,
        clients=clients,
        dependencies=dependencies,
        usage=recorder,
        traffic=traffic,
        errors=errors,
        trainings=trainings,
        models=models,
        gallery=gallery,
        figures=JobFigures(jobs, training_workers, stores.queue),
        files=files,
    )

    workers = WorkersService(
        InstanceLooks(instance_urls(settings)),
        training_workers,
        stores.names,
        stores.jobs,
    )

    authenticator = _authenticator(settings, stores)
    app = create_service_app(
        service="main-api",
        version=version("enlight-main-api"),
        description="The whole suite under one roof: keys, trainings, models, pictures.",
        readiness=gateway.readiness,
        default_body_limit_bytes=settings.max_small_body_bytes,
        body_limits={
            **{route.rule: settings.max_body_bytes for route in (*PICTURE_ROUTES, REMBG_ROUTE)},
            **dict.fromkeys(A1111_PICTURE_RULES, settings.max_body_bytes),
            "/train": settings.max_train_body_bytes,
            "/v1/trainings": settings.max_train_body_bytes,
            "/v1/photos/check": settings.max_train_body_bytes,
            EDITS_RULE: settings.max_body_bytes,
            "/v1/generations": settings.max_body_bytes,
            "/v1/pictures": settings.max_body_bytes,
            UPLOAD_RULE: settings.max_train_body_bytes,
            IMPORT_RULE: settings.max_import_bytes,
        },
        metrics=metrics,
        authenticate=partial(authenticate, authenticator),
        finish_document=partial(finish_document, keys_asked=authenticator is not None),
    )
    add_challenge(app)
    usage.install(app, recorder)
    quotas.install(app, limiter)
    places, budget = Places(settings.max_requests), ByteBudget(settings.max_buffered_bytes)
    metrics.watch("buffered_bytes", "Bodies and answers in memory.", lambda: budget.taken_bytes)
    metrics.watch("buffered_limit_bytes", "What of them may be in memory.", lambda: settings.max_buffered_bytes)
    forwarder = Forwarder(
        places=places,
        budget=budget,
        kept=KeptAnswers(stores.answers, wait_s=settings.image_timeout_s, looked_up=measured.looked_up),
        code_version=lambda service: version_of(dependencies.seen, service),
    )
    transfers = ModelTransfers(
        stores.names,
        stores.models,
        stores.model_copies,
        catalogue,
        work_folder=settings.data_folder.absolute() / "imports",
        limit_bytes=settings.max_import_bytes,
        slots=settings.max_model_transfers,
    )
    app.register_api(image_routes(behind, forwarder))
    generator = Generator(behind.dreambooth, forwarder, lookup, ServedVersions(stores.models, catalogue))
    app.register_api(inference_routes(behind.dreambooth, forwarder, generator))
    images = Images(generator, forwarder, behind.bgrem, gallery)
    links = PictureLinks(stores.database, gallery.records)
    app.register_api(openai_image_routes(images, links, gallery, budget, public_url=settings.public_url))
    own_requests = OwnRequests(places=places, budget=budget)
    streams = GenerationStreams(behind.dreambooth, lookup, gallery)
    app.register_api(gallery_routes(gallery, streams, behind, own_requests, budget))
    app.register_api(training_routes(trainings, budget))
    app.register_api(file_routes(files, budget))
    app.register_api(fine_tuning_routes(trainings, files, budget))
    app.register_api(webhook_routes(trainings.delivery_log))
    about_models = model_routes(models, transfers, workers.copies)
    about_models.register_error_handler(Exception, answer_models_error)
    app.register_api(about_models)
    app.register_api(worker_routes(workers))
    app.register_api(usage_routes(UsageSums(stores.database)))
    app.register_api(operation_routes(TrafficHistory(stores.database), jobs, errors))
    app.register_api(key_routes(stores.keys, authenticator, _limits_of_a_tenant(settings)))
    checkpoints = Checkpoints(catalogue, models, lookup, Choices(stores.database), default=settings.default_base_model)
    running = RunningRequests()
    generations = A1111Generations(generator, checkpoints, running, budget)
    app.register_api(a1111_picture_routes(generations, A1111Upscales(behind.realesrgan, forwarder, budget)))
    app.register_api(a1111_routes(checkpoints, running))
    app.register_api(rembg_routes(behind.bgrem, forwarder))
    answer_no_such_route(
        app,
        {
            f"{A1111_PREFIX}/": a1111_error_body,
            REMBG_ROUTE.rule: rembg_error_body,
            **dict.fromkeys(OPENAI_PREFIXES, openai_error_body),
            f"{MODELS_PREFIX}/": no_such_model_body,
        },
    )
    gateway.add_metrics(metrics)
    app.extensions["enlight"] = gateway
    app.extensions[QUICK_READS] = QuickRead(r"/v1/trainings/([\w.-]{1,100})", trainings.reads_together)
    if start:
        gateway.start()
    return app


def _authenticator(settings: Settings, stores: Stores) -> Authenticator | None:
    return None if settings.keys == "off" else Authenticator(stores.keys.find, remember_s=settings.key_cache_s)


def _limits_of_a_tenant(settings: Settings) -> LimitsView:
    return LimitsView(
        requests_per_minute=settings.requests_per_minute or None,
        gpu_seconds_per_hour=settings.gpu_seconds_per_hour or None,
        pictures=settings.max_pictures,
    )
