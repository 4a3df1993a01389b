"""The engine's child process as its parent starts it. No torch."""

from __future__ import annotations

from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.dreambooth_api.process_environment import PROCESS_ENVIRONMENT
from enlight.dreambooth_api.requests import EngineConfig
from enlight.dreambooth_api.settings import Settings
from enlight.servicekit.process import Supervisor

ENGINE = "enlight.dreambooth_api.engine:main"


def supervise_engine(settings: Settings, catalogue: BaseCatalogue) -> Supervisor:
    """The supervisor of an engine; not started."""
    return Supervisor(
        ENGINE,
        _engine_config(settings, catalogue),
        name="engine",
        max_pending=settings.max_inference_requests,
        start_timeout_s=settings.engine_start_timeout_s,
        hang_timeout_s=settings.engine_hang_timeout_s,
        env=PROCESS_ENVIRONMENT,
    )


def _engine_config(settings: Settings, catalogue: BaseCatalogue) -> EngineConfig:
    return EngineConfig(
        device=settings.device,
        bases=catalogue.bases(),
        store=settings.store_config(),
        max_batch_images=settings.max_batch_images,
        batch_window_s=settings.batch_window_s,
        gpu_cache_bytes=settings.gpu_cache_bytes,
        host_cache_bytes=settings.host_cache_bytes,
        max_bases=settings.max_resident_bases,
        encoder_threads=settings.encoder_threads,
        cpu_threads=settings.cpu_threads,
    )
