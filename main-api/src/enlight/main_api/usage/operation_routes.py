"""``/v1/stats`` and ``/v1/errors``: how much was asked lately, how long it took, what went wrong."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from flask_openapi import APIBlueprint, Tag
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from enlight.jobkit.job_statistics import JobStatistics
from enlight.main_api.keys.authentication import current_caller
from enlight.main_api.keys.tenants import TenantName
from enlight.main_api.usage.durations import percentile_s
from enlight.main_api.usage.error_log import CURSOR_PATTERN, ErrorLog, LoggedErrors
from enlight.main_api.usage.reach import tenants_asked_for
from enlight.main_api.usage.traffic import TrafficSums
from enlight.main_api.usage.traffic_stats import MAX_HOURS, TrafficHistory
from enlight.servicekit.schemas import Answer, ErrorBody

_OPERATION = Tag(name="operation", description="For who runs the machines.")


class _OfTenants(BaseModel):
    """Whose."""

    model_config = ConfigDict(extra="forbid")

    tenant: TenantName | None = Field(None, description="Another tenant than the caller's: for admins only.")
    all_tenants: bool = Field(default=False, description="All of them together: for admins only.")


class StatsQuery(_OfTenants):
    """Query of the statistics."""

    hours: Annotated[int, Field(ge=1, le=MAX_HOURS)] = Field(24, description="The last ones.")


class ErrorsQuery(_OfTenants):
    """Query of the errors, which are read page by page."""

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    before: Annotated[str, StringConstraints(pattern=f"^{CURSOR_PATTERN}$")] | None = Field(
        None, description="Only earlier ones. The last page's `next`."
    )


class TrafficView(Answer):
    """Requests."""

    requests: int
    errors: int = Field(description="Answers of 400 and above.")
    p50_s: float | None = Field(
        description="Half of the answers took no longer, right within 5 %; null: there were none. Of a stream of "
        "events the time to its beginning counts."
    )
    p95_s: float | None = Field(description="The same of 95 in 100.")


class SpanView(TrafficView):
    """Requests of one span of time."""

    at: datetime = Field(description="When it begins.")


class RouteView(TrafficView):
    """Requests of one route."""

    route: str = Field(description="Empty: no such route.")
    cache_hits: int = Field(description="Answers that had been computed before.")
    cache_misses: int = Field(description="Answers that were computed, and may be kept.")


class TrainingCountsView(Answer):
    """Trainings."""

    queued: int = Field(description="Now.")
    running: int = Field(description="Now.")
    succeeded: int = Field(description="In this time, as the others.")
    failed: int
    cancelled: int


class StatsView(Answer):
    """What was asked."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, serialize_by_alias=True)

    begin: datetime = Field(alias="from")
    end: datetime = Field(alias="to")
    step_s: int = Field(description="Length of a span.")
    series: list[SpanView] = Field(description="Every span from `from` to `to`, at most 200.")
    routes: list[RouteView] = Field(description="The most asked one first.")
    trainings: TrainingCountsView


class ErrorView(Answer):
    """An answer of 400 or above."""

    at: datetime
    request_id: str = Field(description="As in the header `X-Request-ID` and in the services' logs.")
    method: str
    route: str = Field(description="Empty: no such route.")
    status: int
    code: str | None
    message: str | None = Field(description="What the client was told, its first 500 characters.")
    requests: int = Field(description="How many equal ones came together; `at` and `request_id` are the first one's.")
    tenant: str | None = Field(description="Whose request it was; null for a caller who is no admin.")


class ErrorPage(Answer):
    """Errors, the newest first."""

    errors: list[ErrorView]
    next: str | None = Field(description="What to send as `before` for the next page; null: this is the last one.")


def operation_routes(history: TrafficHistory, jobs: JobStatistics, errors: ErrorLog) -> APIBlueprint:
    """``/v1/stats`` and ``/v1/errors``."""
    routes = APIBlueprint("operation", __name__, abp_tags=[_OPERATION])

    @routes.get("/v1/stats", summary="Show how much was asked lately", responses={"200": StatsView, "403": ErrorBody})
    def show_stats(query: StatsQuery) -> dict[str, Any]:
        """Requests, errors, durations and cache hits of the caller's tenant over the last hours, as a chart and by
        route; trainings by state. A request is in it within seconds. Requests without a valid key are nobody's."""
        tenant = tenants_asked_for(query.tenant, all_tenants=query.all_tenants)
        stats = history.last(query.hours, tenant)
        return StatsView(
            begin=stats.begin,
            end=stats.end,
            step_s=stats.step_s,
            series=[SpanView(at=at, **_traffic(sums)) for at, sums in stats.series.items()],
            routes=[
                RouteView(route=route, cache_hits=sums.cache_hits, cache_misses=sums.cache_misses, **_traffic(sums))
                for route, sums in stats.routes.items()
            ],
            trainings=TrainingCountsView(**jobs.counts(tenant, ended_since=stats.begin)),
        ).model_dump(mode="json")

    @routes.get("/v1/errors", summary="List errors", responses={"200": ErrorPage, "403": ErrorBody})
    def list_errors(query: ErrorsQuery) -> dict[str, Any]:
        """Answers of 400 and above to the caller's tenant, the newest first, with what the client was told. Requests
        without a valid key are nobody's."""
        tenant = tenants_asked_for(query.tenant, all_tenants=query.all_tenants)
        found = errors.list(tenant, limit=query.limit + 1, before=query.before)
        page = found[: query.limit]
        is_admin = current_caller().scope == "admin"
        return ErrorPage(
            errors=[_error_view(each, is_admin=is_admin) for each in page],
            next=page[-1].cursor if len(found) > query.limit else None,
        ).model_dump(mode="json")

    return routes


def _traffic(sums: TrafficSums) -> dict[str, Any]:
    return {
        "requests": sums.requests,
        "errors": sums.errors,
        "p50_s": percentile_s(sums.durations, 0.5),
        "p95_s": percentile_s(sums.durations, 0.95),
    }


def _error_view(error: LoggedErrors, *, is_admin: bool) -> ErrorView:
    return ErrorView(
        at=error.at,
        request_id=error.request_id,
        method=error.method,
        route=error.route,
        status=error.status,
        code=error.code,
        message=error.message,
        requests=error.requests,
        tenant=error.tenant if is_admin else None,
    )
