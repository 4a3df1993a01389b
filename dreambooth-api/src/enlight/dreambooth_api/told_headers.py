"""Headers of good answers, here and behind the gateway, as ``/openapi.json`` says it."""

from __future__ import annotations

from collections.abc import Mapping

WHERE_IT_IS: Mapping[str, str] = {"Location": "The path of what was made."}
_WHAT_RAN: Mapping[str, str] = {
    "X-Model-Version": "The model's version, or the base model's name.",
    "X-Seed": "Of the first picture.",
    "X-Scheduler": "The sampler.",
    "X-Steps": "Denoising steps.",
    "X-Batch-Images": "Pictures in the largest batch that this request took part in.",
    "X-Cache-Tier": "Where the weights were found: `resident`, `gpu`, `host`, `disk` or `bucket`.",
    "X-Queued-Seconds": "Time that the request waited.",
    "X-Run-Seconds": "Time that it was worked on.",
}
TOLD_HEADERS: Mapping[str, Mapping[str, str]] = {
    "start_training": WHERE_IT_IS,
    "inference": _WHAT_RAN,
    "generate": _WHAT_RAN,
}
"""By operation."""
