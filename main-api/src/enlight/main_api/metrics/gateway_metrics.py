"""The gateway's own counters. Its parts count into them as they work; whoever is built without them counts nothing."""

from __future__ import annotations

from typing import get_args

from enlight.jobkit.jobs import EndedAttempt, Outcome
from enlight.main_api.gallery.records import PictureKind
from enlight.servicekit.metrics import LONG_BUCKETS_S, ServiceMetrics

ATTEMPT_OUTCOMES: tuple[Outcome, ...] = ("succeeded", "failed", "cancelled", "released", "lost")
WEBHOOK_OUTCOMES = ("delivered", "failed", "given_up")
"""Of a try: ``failed``: there will be another, ``given_up``: it was the last."""


class GatewayMetrics:
    """Counters, each with the values of its labels from the start, so that the first of them is seen as growth.

    Args:
        metrics: Of the service.
    """

    def __init__(self, metrics: ServiceMetrics) -> None:
        self._lookups = metrics.counter(
            "response_cache_lookups_total",
            "Requests whose answer may be kept, by how they got it.",
            ["route", "result"],
        )
        self._kept = metrics.counter("pictures_kept_total", "Pictures that were kept.", ["kind"])
        self._webhooks = metrics.counter("webhook_attempts_total", "Tries to deliver a webhook.", ["outcome"])
        self._attempts = metrics.histogram(
            "job_attempt_duration_seconds",
            "Time that workers had a job, of attempts that ended; each is counted by one gateway.",
            ["outcome"],
            buckets=LONG_BUCKETS_S,
        )
        for kind in get_args(PictureKind):
            self._kept.labels(kind)
        for outcome in WEBHOOK_OUTCOMES:
            self._webhooks.labels(outcome)
        for outcome in ATTEMPT_OUTCOMES:
            self._attempts.labels(outcome)

    def looked_up(self, route: str, result: str) -> None:
        """A kept answer was looked for: ``hit``, ``miss``, ``coalesced`` or ``unkept``."""
        self._lookups.labels(route, result).inc()

    def picture_kept(self, kind: PictureKind) -> None:
        """A picture is in the gallery."""
        self._kept.labels(kind).inc()

    def webhook_tried(self, outcome: str) -> None:
        """One of `WEBHOOK_OUTCOMES`."""
        self._webhooks.labels(outcome).inc()

    def attempt_ended(self, ended: EndedAttempt) -> None:
        """A worker's attempt at a job is over and recorded."""
        self._attempts.labels(ended.outcome).observe(ended.gpu_seconds)
