"""``/v1/workers``: who runs the machines sees who computes."""

from __future__ import annotations

from typing import Any

from flask_openapi import APIBlueprint, Tag

from enlight.main_api.keys.authentication import require_admin
from enlight.main_api.workers.views import WorkersView
from enlight.main_api.workers.workers_service import WorkersService
from enlight.servicekit.schemas import ErrorBody

_WORKERS = Tag(name="operation", description="For who runs the machines.")


def worker_routes(workers: WorkersService) -> APIBlueprint:
    """``/v1/workers``."""
    routes = APIBlueprint("workers", __name__, abp_tags=[_WORKERS])

    @routes.get("/v1/workers", summary="Show who computes", responses={"200": WorkersView, "403": ErrorBody})
    def show_workers() -> dict[str, Any]:
        """Every process of the services behind and every training worker: state, device, memory, models at hand, what
        waits. Asked now, but each process once in two seconds at most; one that is silent is `unreachable`. Needs the
        scope `admin`."""
        require_admin()
        return workers.view().model_dump(mode="json")

    return routes
