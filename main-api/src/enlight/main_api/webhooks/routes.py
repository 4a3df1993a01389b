"""``/v1/webhook-deliveries``: what became of the webhooks."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from flask_openapi import APIBlueprint, Tag
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from enlight.main_api.keys.authentication import current_caller
from enlight.main_api.webhooks.delivery_log import DeliveryLog
from enlight.servicekit.schemas import Answer, ErrorBody

_WEBHOOKS = Tag(name="webhooks", description="What is told when a training ends.")
_Id = Annotated[str, StringConstraints(max_length=80)]


class DeliveryPath(BaseModel):
    """Path of one delivery."""

    delivery_id: _Id


class DeliveryPageQuery(BaseModel):
    """Query of the list of deliveries."""

    model_config = ConfigDict(extra="forbid")

    training_id: _Id | None = Field(None, description="Only those of this training.")
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    before: _Id | None = Field(None, description="Id of a delivery: only earlier ones. The last page's `next`.")


class DeliveryView(Answer):
    """A delivery."""

    id: str = Field(description="The event's id, as its receiver reads it in `X-Enlight-Event-Id`.")
    type: str | None = Field(description="The event's, such as `training.succeeded`; null before the training's end.")
    training_id: str
    url: str
    state: Literal["waiting", "due", "delivered", "given_up"] = Field(
        description="`waiting` for the training's end; `due`: tried until it is `delivered` or `given_up`."
    )
    attempts: int = Field(description="Tries so far.")
    last_status: int | None = Field(description="What the receiver answered to the last try; null: nothing.")
    last_error: str | None = Field(description="What was wrong with the last try.")
    next_attempt_at: datetime | None = Field(description="While it is `due`: when it is tried next.")
    created_at: datetime
    finished_at: datetime | None


class DeliveryPage(Answer):
    """Deliveries, those of the newest trainings first."""

    deliveries: list[DeliveryView]
    next: str | None = Field(description="What to send as `before` for the next page; null: this is the last one.")


def webhook_routes(log: DeliveryLog) -> APIBlueprint:
    """``/v1/webhook-deliveries``."""
    routes = APIBlueprint("webhooks", __name__, abp_tags=[_WEBHOOKS])

    @routes.get("/v1/webhook-deliveries", summary="List deliveries of webhooks", responses={"200": DeliveryPage})
    def list_webhook_deliveries(query: DeliveryPageQuery) -> dict[str, Any]:
        """What became of the webhooks that were asked for. Those that ended are kept for a week, or until their
        training is forgotten."""
        rows = log.list(
            current_caller().tenant, training_id=query.training_id, limit=query.limit + 1, before=query.before
        )
        shown = rows[: query.limit]
        page = DeliveryPage(
            deliveries=[_view(row) for row in shown], next=shown[-1]["_id"] if len(rows) > len(shown) else None
        )
        return page.model_dump(mode="json")

    @routes.post(
        "/v1/webhook-deliveries/<delivery_id>/retry",
        summary="Deliver a webhook again",
        responses={"202": DeliveryView, "404": ErrorBody, "409": ErrorBody},
    )
    def retry_webhook_delivery(path: DeliveryPath) -> tuple[dict[str, Any], int]:
        """Tries a delivery that was given up once more, within seconds, with the event's first id."""
        return _view(log.retry(current_caller().tenant, path.delivery_id)).model_dump(mode="json"), 202

    return routes


def _view(row: dict[str, Any]) -> DeliveryView:
    return DeliveryView(
        id=row["_id"],
        type=row.get("type"),
        training_id=row["job_id"],
        url=row["url"],
        state=row["state"],
        attempts=row["attempts"],
        last_status=row.get("last_status"),
        last_error=row["last_error"],
        next_attempt_at=row["next_attempt_at"] if row["state"] == "due" else None,
        created_at=row["created_at"],
        finished_at=row["finished_at"],
    )
