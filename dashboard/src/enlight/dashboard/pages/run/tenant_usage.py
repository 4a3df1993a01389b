"""What each tenant used, beside what it may use, and its keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from enlight.dashboard.charts import Chart, axis_up_to, stack, words
from enlight.dashboard.main_api.client import current_api
from enlight.dashboard.security.sessions import current_session

DAYS = 30
MAX_TENANTS = 20
"""So many are asked for their use, each with questions of its own; one more is found by its name."""


@dataclass(frozen=True)
class TenantUse:
    """One tenant's."""

    name: str
    requests: int
    """In the last days, as ``gpu_seconds``."""
    gpu_seconds: float
    requests_of_busiest_minute: int
    """In the last hour."""
    gpu_seconds_today: float


def keys_and_usage(tenant: str, revoked: str) -> dict[str, Any]:
    """The keys, all or one tenant's, with or without those that were revoked, and who used how much."""
    api, session = current_api(), current_session()
    me = api.get("/v1/me")
    found = api.get("/v1/keys", {"tenant": tenant if session.is_admin else None})["keys"]
    names = sorted({key["tenant"] for key in found} | ({me["tenant"]} if not tenant else set()))
    usages = {name: api.get("/v1/usage", {"tenant": name}) for name in names[:MAX_TENANTS]}
    uses = [_use(name, usage) for name, usage in usages.items()]
    return {
        "me": me,
        "keys": [key for key in found if revoked or not key["revoked_at"]],
        "hidden_keys": 0 if revoked else sum(1 for key in found if key["revoked_at"]),
        "uses": sorted(uses, key=lambda use: (-use.gpu_seconds, -use.requests, use.name)),
        "most_requests": max((use.requests for use in uses), default=0),
        "most_gpu_seconds": max((use.gpu_seconds for use in uses), default=0),
        "more_tenants": max(0, len(names) - MAX_TENANTS),
        "days": DAYS,
        "chart": _gpu_chart(list(usages.values())) if usages else None,
    }


def _use(name: str, usage: Mapping[str, Any]) -> TenantUse:
    minutes = current_api().get("/v1/stats", {"hours": 1, "tenant": name})["series"]
    return TenantUse(
        name=name,
        requests=usage["total"]["requests"],
        gpu_seconds=usage["total"]["gpu_seconds"],
        requests_of_busiest_minute=max((minute["requests"] for minute in minutes), default=0),
        gpu_seconds_today=sum(row["gpu_seconds"] for row in usage["usage"] if row["day"] == usage["last_day"]),
    )


def _gpu_chart(usages: Sequence[Mapping[str, Any]]) -> Chart:
    """GPU seconds by day, of all together."""
    last_day = date.fromisoformat(usages[0]["last_day"])
    by_day = {last_day - timedelta(days=back): 0.0 for back in reversed(range(DAYS))}
    for usage in usages:
        for row in usage["usage"]:
            by_day[date.fromisoformat(row["day"])] += row["gpu_seconds"]
    axis = axis_up_to(max(by_day.values()))
    spent = [(day, value) for day, value in by_day.items() if value]
    return Chart(
        name="GPU seconds by day",
        summary=f"{sum(by_day.values()):,.0f} in {DAYS} days; most on {max(spent, key=lambda each: each[1])[0]:%d %B}."
        if spent
        else "None were used.",
        axis=axis,
        marks=words(axis, "{:,g}".format),
        below=(f"{DAYS} days ago", "", "today"),
        legend=(),
        columns=("Day (UTC)", "GPU seconds"),
        rows=tuple((day.isoformat(), f"{value:,.1f}") for day, value in reversed(spent)),
        stacks=tuple(
            stack(place, DAYS, [("", value)], axis, f"{day:%d %B}: {value:,.1f} GPU seconds")
            for place, (day, value) in enumerate(by_day.items())
            if value
        ),
    )
