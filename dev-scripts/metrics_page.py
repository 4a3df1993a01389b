"""docs/metrics.md: what each service measures, from the services themselves."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from enlight.bgrem import app as bgrem
from enlight.bgrem.settings import Settings as BgremSettings
from enlight.dashboard import app as dashboard
from enlight.dashboard.settings import Settings as DashboardSettings
from enlight.dreambooth_api import app as dreambooth_api
from enlight.dreambooth_api.settings import Settings as DreamboothApiSettings
from enlight.dreambooth_api.worker_metrics import WorkerMetrics
from enlight.main_api import app as main_api
from enlight.main_api.settings import Settings as MainApiSettings
from enlight.realesrgan import app as realesrgan
from enlight.realesrgan.settings import Settings as RealesrganSettings
from enlight.servicekit.metrics import Declared, ServiceMetrics
from enlight.upsampler import app as upsampler
from enlight.upsampler.settings import Settings as UpsamplerSettings

PROCESS_METRICS = (
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
)
"""prometheus-client's own, of the process that is asked."""

_INTRODUCTION = """# Metrics

Each service answers Prometheus under `/metrics`, a worker at the port `DREAMBOOTH_WORKER_METRICS_PORT`. The job that
scrapes it is named like the service, so that a name here is one figure in several jobs.
[monitoring](../monitoring/README.md) has the configuration, alerts and a dashboard;
[operations.md](operations.md#alerts) says what to do when one fires.

No label has a value that a client can choose: `rule` is a route's pattern, `route` one of the routes whose answers are
kept. What a child process measures it tells its parent after each piece of work, an engine that waits every few
seconds: figures of it come that late, and do not go back when it is started again. Those that say "since the child
process was started" do. What is not known is not shown: memory of a GPU where there is none, jobs while the database is
away. All gateways of one suite show the same jobs, leases and workers; take the largest, not the sum. Besides, each
process has the usual `process_*` (memory, CPU seconds, start, open files).

This page is made from the services by `make docs`; a test compares it with what they answer.

| metric | kind | labels | services | meaning |
| --- | --- | --- | --- | --- |
"""


@cache
def declared() -> Mapping[str, Sequence[Declared]]:
    """By service: its metrics, but for those of the process."""
    with TemporaryDirectory() as scratch:
        data = Path(scratch)
        worker = ServiceMetrics(http=False)
        WorkerMetrics(worker)
        logging.disable()
        try:
            apps = {
                "main-api": main_api.create_app(MainApiSettings(data_folder=data), start=False),
                "dashboard": dashboard.create_app(DashboardSettings(auth="off")),
                "dreambooth-api": dreambooth_api.create_app(DreamboothApiSettings(data_folder=data), start=False),
                "bgrem": bgrem.create_app(BgremSettings(), start=False),
                "upsampler": upsampler.create_app(UpsamplerSettings(), start=False),
                "realesrgan": realesrgan.create_app(RealesrganSettings(), start=False),
            }
        finally:
            logging.disable(logging.NOTSET)
        found = {name: list(app.extensions["metrics"].declared) for name, app in apps.items()}
        return {**found, "dreambooth-worker": worker.declared}


def sample_names(metrics: Sequence[Declared]) -> set[str]:
    """The names under which they appear in the text, those of the process included."""
    names = set(PROCESS_METRICS)
    for metric in metrics:
        suffixes = ("_bucket", "_count", "_sum") if metric.kind == "histogram" else ("",)
        names |= {metric.name + suffix for suffix in suffixes}
    return names


def metrics_page() -> str:
    """The page."""
    services: dict[Declared, list[str]] = {}
    by_service = declared()
    for service, metrics in by_service.items():
        for metric in metrics:
            services.setdefault(metric, []).append(service)
    rows = [
        f"| `{metric.name}` | {metric.kind} | {', '.join(f'`{label}`' for label in metric.labels)} "
        f"| {_shown(of, by_service)} | {metric.text} |"
        for metric, of in sorted(services.items(), key=lambda item: item[0].name)
    ]
    return _INTRODUCTION + "\n".join(rows) + "\n"


def _shown(services: Sequence[str], by_service: Mapping[str, Sequence[Declared]]) -> str:
    with_http = [name for name in by_service if name != "dreambooth-worker"]
    return "all but dreambooth-worker" if services == with_http else ", ".join(services)
