"""The charts of what was asked: requests with their errors, and how long they took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from enlight.dashboard.charts import Chart, axis_up_to, counted, line, seconds, stack, words

Spans = Sequence[Mapping[str, Any]]
"""``series`` of main-api's statistics: one after the other, all equally long."""

_BELOW = {
    1: ("60 min ago", "45", "30", "15", "now"),
    24: ("24 h ago", "18", "12", "6", "now"),
    168: ("7 days ago", "", "", "", "now"),
}
_NOTHING = "Nothing was asked in this time."


def request_chart(spans: Spans, hours: int) -> Chart:
    """Requests, and how many of them failed."""
    axis = axis_up_to(max((span["requests"] for span in spans), default=0), whole=True)
    requests, errors = sum(span["requests"] for span in spans), sum(span["errors"] for span in spans)
    busiest = max(spans, key=lambda span: span["requests"], default=None)
    return Chart(
        name="Requests",
        summary=f"{requests:,} in all, {errors:,} of them failed; at most {busiest['requests']:,} in one bar, from "
        f"{_clock(busiest)}."
        if busiest and requests
        else _NOTHING,
        axis=axis,
        marks=words(axis, counted),
        below=_BELOW[hours],
        legend=(("", "answered"), ("bad", "failed")),
        columns=("From", "Requests", "Failed"),
        rows=tuple((_clock(span), counted(span["requests"]), counted(span["errors"])) for span in _busy(spans)),
        stacks=tuple(
            stack(
                place,
                len(spans),
                [("", span["requests"] - span["errors"]), ("bad", span["errors"])],
                axis,
                f"{_clock(span)}: {span['requests']:,} requests, {span['errors']:,} failed",
            )
            for place, span in enumerate(spans)
            if span["requests"]
        ),
    )


def duration_chart(spans: Spans, hours: int) -> Chart:
    """How long answers took: half of them, and all but the slowest twentieth."""
    slowest = max((span["p95_s"] or 0 for span in spans), default=0)
    axis = axis_up_to(slowest)
    return Chart(
        name="Time to answer",
        summary=f"95 of 100 answers took at most {seconds(slowest)}, in the slowest part of this time."
        if slowest
        else _NOTHING,
        axis=axis,
        marks=words(axis, seconds),
        below=_BELOW[hours],
        legend=(("", "half of the answers (p50)"), ("second", "95 of 100 (p95)")),
        columns=("From", "p50", "p95"),
        rows=tuple((_clock(span), seconds(span["p50_s"]), seconds(span["p95_s"])) for span in _busy(spans)),
        lines=tuple(
            line(kind, [((place + 0.5) / len(spans), span[field]) for place, span in enumerate(spans)], axis)
            for kind, field in (("", "p50_s"), ("second", "p95_s"))
        ),
    )


def _busy(spans: Spans) -> list[Mapping[str, Any]]:
    return [span for span in reversed(spans) if span["requests"]]


def _clock(span: Mapping[str, Any]) -> str:
    return datetime.fromisoformat(span["at"]).strftime("%a %H:%M UTC")
