"""What the tabs answer alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from flask import Response, make_response, render_template

from enlight.servicekit.errors import CapacityError, DependencyError

CHANGED = "changed"
"""The event upon which what is followed on a page asks for itself at once."""


def shown_or_away(load: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
    """What a page shows, and ``away``: None, or why there is nothing. The page is there without main-api, too, and
    fills itself as soon as that is back."""
    try:
        return {**load(), "away": None}
    except (CapacityError, DependencyError) as error:
        return {"away": error.message}


def done(message: str) -> Response:
    """Closes the dialog, says ``message``, and has the page ask for what changed."""
    return _with_events(Response(status=204), {CHANGED: None, "done": {"message": message}})


def dialog(template: str, **shown: object) -> Response:
    """Another content of the open dialog, after something was done."""
    return _with_events(make_response(render_template(template, **shown)), {CHANGED: None})


def _with_events(response: Response, events: Mapping[str, object]) -> Response:
    response.headers["HX-Trigger"] = json.dumps(events)  # in ASCII, whatever a model is called
    return response
