"""What is known of the engine and of where trained models are kept, for ``/metrics``. No torch."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import get_args

from prometheus_client import Histogram

from enlight.dreambooth_api import cache_layout
from enlight.dreambooth_api.requests import CacheTier
from enlight.dreambooth_api.settings import Settings
from enlight.servicekit.child_metrics import OUT_OF_MEMORY, watch_child
from enlight.servicekit.metrics import ServiceMetrics
from enlight.servicekit.process import Supervisor

GENERATION = "generation"
STAGES = ("fetch", "queued", "run", "encode")
"""``fetch``: the model's files to this machine; ``queued``: from the request to its first batch, ``fetch`` included;
``run``: a batch, which may hold pictures of several requests; ``encode``: a picture."""
BATCH_IMAGES = "batch_images"
LOOKUPS = "model_lookups_total"
EVICTIONS = "model_cache_evictions_total"
DAMAGED = "model_cache_damaged_total"

_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64)
_LOOK_EVERY_S = 30.0


def watch_engine(metrics: ServiceMetrics, engine: Supervisor, settings: Settings, durations: Histogram) -> None:
    """Adds what the engine measures and holds; to be called before it is started."""
    watch_child(metrics, engine, "engine", durations, {GENERATION: STAGES}, OUT_OF_MEMORY)
    metrics.histogram(BATCH_IMAGES, "Pictures that began a batch together.", buckets=_BATCH_BUCKETS)
    metrics.watch("waiting_images", "Pictures that wait for a batch.", lambda: _number(engine, "waiting_images"))
    lookups = metrics.counter(LOOKUPS, "Generations, by where the model's weights were found.", ["tier"])
    evictions = metrics.counter(EVICTIONS, "Models that had to make room.", ["tier"])
    metrics.counter(DAMAGED, "Copies on the disk that did not match their manifest.")
    store = settings.store_config()
    quotas = {"gpu": settings.gpu_cache_bytes, "host": settings.host_cache_bytes, "disk": store.cache_quota_bytes}
    for tier in get_args(CacheTier):
        lookups.labels(tier)
    for tier in quotas:
        evictions.labels(tier)
    folder = FolderSize(store.cache_folder)

    def held() -> Mapping[str, float]:
        known = {tier: _number(engine, f"{tier}_cache_bytes") for tier in ("gpu", "host")}
        known["disk"] = folder.used_bytes()
        return {tier: number for tier, number in known.items() if number is not None}

    metrics.watch_each("model_cache_bytes", "What is kept of trained models.", "tier", held)
    metrics.watch_each("model_cache_quota_bytes", "What may be kept of trained models.", "tier", lambda: quotas)


class FolderSize:
    """How full the cache's folder is: looked at once in a while, for it may hold thousands of files.

    One thread at a time looks; whoever comes meanwhile gets what was seen last: a folder that hangs costs one thread.
    """

    def __init__(self, root: Path, *, look_every_s: float = _LOOK_EVERY_S) -> None:
        self._root = root
        self._look_every_s = look_every_s
        self._looking = threading.Lock()
        self._next_s = 0.0
        self._seen: float | None = None

    def used_bytes(self) -> float | None:
        """All that counts against its quota; None: not known."""
        if time.monotonic() >= self._next_s and self._looking.acquire(blocking=False):
            try:
                self._seen = _used_bytes(self._root)
                self._next_s = time.monotonic() + self._look_every_s
            finally:
                self._looking.release()
        return self._seen


def _used_bytes(root: Path) -> float | None:
    try:
        return float(cache_layout.used_bytes(root))
    except OSError:
        return None


def _number(engine: Supervisor, key: str) -> float | None:
    value = engine.status.get(key)
    return float(value) if isinstance(value, int | float) else None
