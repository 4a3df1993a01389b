"""The page's table of limits and times, read from the settings' defaults and the code's constants."""

from __future__ import annotations

from dataclasses import dataclass

from enlight.bgrem.settings import Settings as Bgrem
from enlight.dreambooth_api.bases import CATALOGUE, SIZE_MULTIPLE_PX
from enlight.dreambooth_api.schemas import MAX_PHOTOS
from enlight.dreambooth_api.settings import Settings as DreamboothApi
from enlight.dreambooth_api.training_events import KEEP_ALIVE_S
from enlight.dreambooth_api.training_records import ENDED_KEPT
from enlight.jobkit.job_histories import LINES_KEPT
from enlight.main_api.settings import Settings as MainApi
from enlight.main_api.trainings.leftovers import UNTOUCHED_S
from enlight.main_api.trainings.samples import MAX_SAMPLES
from enlight.main_api.usage.routes import MAX_DAYS
from enlight.main_api.usage.traffic_stats import MAX_HOURS
from enlight.main_api.webhooks.addresses import MAX_URL_CHARS
from enlight.main_api.webhooks.deliveries import KEPT_S
from enlight.realesrgan.schemas import LEAST_RESOLUTION_PX, MOST_RESOLUTION_PX
from enlight.realesrgan.settings import Settings as Realesrgan
from enlight.servicekit.errors import RETRY_AFTER_S
from enlight.servicekit.images import MAX_PIXELS, MAX_SIDE_PX
from enlight.servicekit.settings import ServiceSettings
from enlight.servicekit.strict_json import MAX_DEPTH, MAX_VALUES
from enlight.upsampler.schemas import SIZE_LIMIT_BYTES
from enlight.upsampler.settings import Settings as Upsampler

KIB, MIB, GIB = 1024, 1024**2, 1024**3


def _bytes(count: int) -> str:
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count:,} bytes"


def _duration(seconds: float) -> str:
    for unit_s, name in ((24 * 3600, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit_s and seconds % unit_s == 0:
            return _counted(seconds / unit_s, name)
    return _counted(seconds, "second")


def _counted(count: float, name: str) -> str:
    return f"{count:g} {name}" + ("" if count == 1 else "s")


def _base_sizes() -> dict[tuple[int, int], str]:
    """The base models that make pictures of these sizes, smallest to largest in pixels."""
    names: dict[tuple[int, int], list[str]] = {}
    for base in CATALOGUE:
        names.setdefault((base.min_size_px, base.max_size_px), []).append(f"`{base.name}`")
    return {sizes: ", ".join(named) for sizes, named in names.items()}


@dataclass(frozen=True)
class _Set:
    """A limit that is a setting; the same field may be one of several services."""

    what: str
    field: str
    services: tuple[type[ServiceSettings], ...]

    def row(self) -> str:
        values = {_written(self.field, service.model_fields[self.field].default) for service in self.services}
        names = [f"`{service.model_config['env_prefix']}{self.field.upper()}`" for service in self.services]
        return f"| {self.what} | {', '.join(sorted(values))} | {', '.join(names)} |\n"


@dataclass(frozen=True)
class _Fixed:
    """A limit that is part of the interface."""

    what: str
    value: str

    def row(self) -> str:
        return f"| {self.what} | {self.value} | |\n"


_PICTURE_SERVICES = (Bgrem, Upsampler, Realesrgan)

_GROUPS: tuple[tuple[str, tuple[_Set | _Fixed, ...]], ...] = (
    (
        "Sizes",
        (
            _Set(
                "body of `/train`, `/v1/trainings`, `/v1/photos/check`",
                "max_train_body_bytes",
                (MainApi, DreamboothApi),
            ),
            _Set("body of a route that takes a picture", "max_body_bytes", (MainApi, *_PICTURE_SERVICES)),
            _Set("any other body of dreambooth-api", "max_body_bytes", (DreamboothApi,)),
            _Set("any other body of main-api", "max_small_body_bytes", (MainApi,)),
            _Set("file of an imported model", "max_import_bytes", (MainApi,)),
            _Fixed("picture that is sent", f"{MAX_PIXELS // 10**6} megapixels, {MAX_SIDE_PX:,} pixels a side"),
            _Set("picture for alpha matting, in pixels", "max_matting_pixels", (Bgrem,)),
            _Fixed("long side that realesrgan makes", f"{LEAST_RESOLUTION_PX:,} to {MOST_RESOLUTION_PX:,} pixels"),
            _Fixed("long side that upsampler makes", "1,024 or 2,048 pixels"),
            _Fixed('its file with `"mblimit": "true"`', f"{SIZE_LIMIT_BYTES:,} bytes"),
            *(
                _Fixed(
                    f"width, height and resolution with {names}",
                    f"{least_px} to {most_px} pixels, multiples of {SIZE_MULTIPLE_PX}",
                )
                for (least_px, most_px), names in _base_sizes().items()
            ),
            _Fixed("JSON of a body", f"{MAX_DEPTH} levels, {MAX_VALUES:,} values"),
            _Set("prompt, in characters", "max_prompt_chars", (MainApi, DreamboothApi, Upsampler)),
            _Fixed("name of a model", "1 to 64 letters, digits, `.`, `_`, `-`; first a letter or digit"),
            _Fixed("name of a tenant", "1 to 63 lower-case letters, digits, `-`; first a letter or digit"),
            _Fixed("`Idempotency-Key`", "1 to 255 visible ASCII characters"),
            _Fixed("`X-Webhook-URL`", f"{MAX_URL_CHARS:,} characters"),
        ),
    ),
    (
        "Numbers",
        (
            _Fixed("photos of a training", f"1 to {MAX_PHOTOS}, 5 to 20 are best"),
            _Fixed("samples of a training", f"{MAX_SAMPLES}"),
            _Fixed("lines of a training's log", f"the last {LINES_KEPT}"),
            _Set("pictures of one generation", "max_images_per_request", (DreamboothApi,)),
            _Set("requests that main-api hands on at once", "max_requests", (MainApi,)),
            _Set("requests at once, running and waiting", "max_requests", _PICTURE_SERVICES),
            _Set("generations at once, running and waiting", "max_inference_requests", (DreamboothApi,)),
            _Set("requests of one tenant in a minute", "requests_per_minute", (MainApi,)),
            _Set("GPU seconds of one tenant in an hour", "gpu_seconds_per_hour", (MainApi,)),
            _Set("trainings of one tenant, running and waiting", "max_queued_trainings", (MainApi,)),
            _Set("trainings of all tenants that wait", "max_all_queued_trainings", (MainApi,)),
            _Set("trainings of dreambooth-api itself that run", "training_slots", (DreamboothApi,)),
            _Set("that wait", "max_waiting_trainings", (DreamboothApi,)),
            _Set("clients of `/train` that wait", "max_training_waiters", (MainApi, DreamboothApi)),
            _Set("followed trainings: main-api", "max_event_streams", (MainApi,)),
            _Set("followed trainings: dreambooth-api", "max_event_streams", (DreamboothApi,)),
            _Set("exports and imports at once", "max_model_transfers", (MainApi,)),
            _Set(
                "workers, or trainers, that may die of one training", "max_training_attempts", (MainApi, DreamboothApi)
            ),
            _Fixed("days of `GET /v1/usage` at once", f"{MAX_DAYS}"),
            _Fixed("hours of `GET /v1/stats` at once", f"{MAX_HOURS}"),
            _Set("tries of a webhook, over about a day", "webhook_attempts", (MainApi,)),
        ),
    ),
    (
        "Times",
        (
            _Set("a cut-out or an enlarged picture, waiting included", "request_timeout_s", _PICTURE_SERVICES),
            _Set("a generation, waiting included", "inference_timeout_s", (DreamboothApi,)),
            _Set("a picture service's silence behind main-api", "image_timeout_s", (MainApi,)),
            _Set("dreambooth-api's silence behind main-api", "inference_timeout_s", (MainApi,)),
            _Fixed("silence on a stream of events, then a comment", _duration(KEEP_ALIVE_S)),
            _Set("a worker's silence, then another goes on with its training", "lease_s", (MainApi,)),
            _Set("one try of a webhook", "webhook_timeout_s", (MainApi,)),
            _Set("until every gateway knows that a key was revoked", "key_cache_s", (MainApi,)),
            _Set("until every gateway knows that a model was renamed", "metadata_ttl_s", (MainApi,)),
            _Set("until dreambooth-api knows a model's new version", "model_alias_ttl_s", (DreamboothApi,)),
            _Fixed("`Retry-After`, where nothing better is known", _duration(RETRY_AFTER_S)),
        ),
    ),
    (
        "What is kept",
        (
            _Fixed("models", "until they are deleted"),
            _Fixed("main-api's trainings, their logs and samples", "until they are deleted"),
            _Fixed("ended trainings of dreambooth-api", f"the last {ENDED_KEPT:,}"),
            _Fixed(
                "photos and checkpoints of a training",
                f"to its end; what a crash leaves, {_duration(UNTOUCHED_S)} more",
            ),
            _Set("photos of one that ended without a model, for another try", "ended_photos_kept_s", (MainApi,)),
            _Set("those of an interrupted `/train` of dreambooth-api", "checkpoint_retention_s", (DreamboothApi,)),
            _Set("answers that are computed once", "cache_ttl_s", (MainApi,)),
            _Fixed("webhooks that were delivered or given up", _duration(KEPT_S)),
            _Fixed("keys, revoked ones too, and records of use", "for good"),
        ),
    ),
)


def limits() -> str:
    """The table, as Markdown."""
    groups = (f"| **{title}** | | |\n" + "".join(row.row() for row in rows) for title, rows in _GROUPS)
    return "| what | limit | setting |\n| --- | --- | --- |\n" + "".join(groups)


def _written(field: str, value: float) -> str:
    if value == 0:
        return "none"
    if field.endswith("_bytes"):
        return _bytes(int(value))
    return _duration(value) if field.endswith("_s") else f"{value:,}"
