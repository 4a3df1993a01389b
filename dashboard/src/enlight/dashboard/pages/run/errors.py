"""``/run/errors``: requests that failed lately, and webhooks that did not arrive."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, render_template, request

from enlight.dashboard.main_api.client import current_api
from enlight.dashboard.pages.run.answers import done, shown_or_away
from enlight.dashboard.security.sessions import current_session

_PER_PAGE = 50
_DELIVERIES = 200
"""So many of the newest are looked through for those that failed: as many as main-api gives at once."""


def add_errors(pages: Blueprint) -> None:
    """The two lists, and another try of a webhook."""

    @pages.get("/errors")
    def errors() -> str:
        before = request.args.get("before", "")
        return render_template("run/errors.html", before=before, **shown_or_away(lambda: _list(before)))

    @pages.get("/now/errors")
    def errors_now() -> str:
        before = request.args.get("before", "")
        return render_template("run/errors_now.html", before=before, away=None, **_list(before))

    @pages.post("/webhook-deliveries/<delivery_id>/retry")
    def retry_delivery(delivery_id: str) -> Response:
        current_api().post(f"/v1/webhook-deliveries/{quote(delivery_id, safe='')}/retry")
        return done("It is tried again within seconds.")


def _list(before: str) -> dict[str, Any]:
    api = current_api()
    everybody = current_session().is_admin or None
    page = api.get("/v1/errors", {"limit": _PER_PAGE, "before": before, "all_tenants": everybody})
    deliveries = [] if before else api.get("/v1/webhook-deliveries", {"limit": _DELIVERIES})["deliveries"]
    return {
        "errors": page["errors"],
        "next": page["next"],
        "deliveries": [each for each in deliveries if each["state"] == "given_up" or each["last_error"]],
    }
