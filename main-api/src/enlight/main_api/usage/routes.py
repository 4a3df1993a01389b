"""``/v1/usage``: a tenant sees what it used."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any

from flask_openapi import APIBlueprint, Tag
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from enlight.main_api.keys.tenants import TenantName
from enlight.main_api.usage.reach import tenant_asked_for
from enlight.main_api.usage.sums import UsageSum, UsageSums
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.schemas import Answer, ErrorBody

MAX_DAYS = 92
"""Three months: what can be added up in the time of a call."""
DAYS = 30
"""How many are shown when the request does not say."""

_USAGE = Tag(name="usage", description="What was used.")


def _iso_day(value: object) -> object:
    # Pydantic alone would also take a number of seconds, or a time at midnight.
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value):
        raise PydanticCustomError("day", "must be a day such as 2026-11-26")
    return value


Day = Annotated[date, BeforeValidator(_iso_day), Field(ge=date(2000, 1, 1), le=date(2099, 12, 31))]


class UsageQuery(BaseModel):
    """Query of the usage."""

    model_config = ConfigDict(extra="forbid")

    first_day: Day | None = Field(None, description=f"Of UTC; by default {DAYS - 1} days before the last one.")
    last_day: Day | None = Field(None, description="The last one that counts; by default today.")
    tenant: TenantName | None = Field(None, description="Another tenant than the caller's: for admins only.")


class UsageAmounts(Answer):
    """What was used."""

    requests: int
    gpu_seconds: float = Field(description="As the services behind say; of `training` the workers' time.")
    received_bytes: int
    sent_bytes: int


class UsageRow(UsageAmounts):
    """One day's use of one route."""

    day: date
    route: str = Field(description="`training`: workers' time on trainings, without requests; empty: no such route.")


class UsageView(Answer):
    """What a tenant used."""

    tenant: str
    first_day: date
    last_day: date
    total: UsageAmounts
    usage: list[UsageRow] = Field(description="The newest day first.")


def usage_routes(sums: UsageSums) -> APIBlueprint:
    """``/v1/usage``."""
    routes = APIBlueprint("usage", __name__, abp_tags=[_USAGE])

    @routes.get("/v1/usage", summary="Show what was used", responses={"200": UsageView, "403": ErrorBody})
    def show_usage(query: UsageQuery) -> dict[str, Any]:
        """Requests, GPU seconds and bytes of the caller's tenant by day and route, over three months at most. An admin
        may ask for another tenant's. A request is in it about a second later, a training's attempt when it has
        ended."""
        tenant = tenant_asked_for(query.tenant)
        first_day, last_day = _days(query)
        rows = sums.of(tenant, first_day, last_day)
        return UsageView(
            tenant=tenant,
            first_day=first_day,
            last_day=last_day,
            total=UsageAmounts(**_amounts(rows)),
            usage=[UsageRow(day=row.day, route=row.route, **_amounts([row])) for row in rows],
        ).model_dump(mode="json")

    return routes


def _days(query: UsageQuery) -> tuple[date, date]:
    last_day = query.last_day or datetime.now(UTC).date()
    first_day = query.first_day or last_day - timedelta(days=DAYS - 1)
    if not 0 <= (last_day - first_day).days < MAX_DAYS:
        raise InvalidField.of("first_day", f"must be at most {MAX_DAYS - 1} days before last_day, and not after it")
    return first_day, last_day


def _amounts(rows: list[UsageSum]) -> dict[str, Any]:
    return {
        "requests": sum(row.requests for row in rows),
        "gpu_seconds": round(sum(row.gpu_seconds for row in rows), 3),
        "received_bytes": sum(row.received_bytes for row in rows),
        "sent_bytes": sum(row.sent_bytes for row in rows),
    }
