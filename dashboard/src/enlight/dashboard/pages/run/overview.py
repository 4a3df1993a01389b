"""``/run``: who computes, what waits, how much is asked and how long it takes."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, render_template, request

from enlight.dashboard.main_api.client import current_api
from enlight.dashboard.pages.run.answers import shown_or_away
from enlight.dashboard.pages.run.traffic_charts import duration_chart, request_chart
from enlight.dashboard.security.sessions import current_session
from enlight.servicekit.errors import InvalidField

PERIODS = {1: "1 hour", 24: "24 hours", 168: "7 days"}
BUSIEST_ROUTES = 12
"""So many are shown."""


def add_overview(pages: Blueprint) -> None:
    """``/run`` and what it shows now."""

    @pages.get("")
    def overview() -> str:
        hours = _hours()
        return render_template("run/overview.html", hours=hours, periods=PERIODS, **shown_or_away(lambda: _now(hours)))

    @pages.get("/now")
    def overview_now() -> str:
        hours = _hours()
        return render_template("run/overview_now.html", hours=hours, periods=PERIODS, away=None, **_now(hours))


def _hours() -> int:
    given = request.args.get("hours", "24")
    if given not in map(str, PERIODS):
        raise InvalidField.of("hours", f"must be one of {', '.join(map(str, PERIODS))}")
    return int(given)


def _now(hours: int) -> dict[str, Any]:
    api, is_admin = current_api(), current_session().is_admin
    stats = api.get("/v1/stats", {"hours": hours, "all_tenants": is_admin or None})
    told = api.get("/v1/workers") if is_admin else None
    return {
        "stats": stats,
        "requests": sum(span["requests"] for span in stats["series"]),
        "errors": sum(span["errors"] for span in stats["series"]),
        "cached": [route for route in stats["routes"] if route["cache_hits"] + route["cache_misses"]],
        "busiest": stats["routes"][:BUSIEST_ROUTES],
        "more_routes": max(0, len(stats["routes"]) - BUSIEST_ROUTES),
        "charts": [request_chart(stats["series"], hours), duration_chart(stats["series"], hours)],
        "workers": told["workers"] if told else None,
        "queue": told["queue"] if told else None,
        "own_trainings": _own_trainings() if told and any(each["training_id"] for each in told["workers"]) else set(),
    }


def _own_trainings() -> set[str]:
    """Ids of those that run; another tenant's training cannot be looked at."""
    return {each["id"] for each in current_api().get("/v1/trainings", {"state": "running"})["trainings"]}
