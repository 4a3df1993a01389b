"""What the routes of trainings answer besides their views, here and behind the gateway, for ``/openapi.json``."""

from __future__ import annotations

from flask_openapi.types import ResponseDict

from enlight.dreambooth_api.training_events import KEEP_ALIVE_S
from enlight.servicekit.schemas import ErrorBody


def event_answers(*events: str) -> ResponseDict:
    """Answers to whoever follows a training, and is told these events."""
    event = {
        "description": "One event of the stream.",
        "type": "object",
        "properties": {
            "id": {"type": "string", "pattern": "^[0-9]+$", "description": "What `Last-Event-ID` takes."},
            "event": {"type": "string", "enum": list(events)},
            "data": {"type": "string", "contentMediaType": "application/json", "description": "A JSON object."},
        },
        "required": ["id", "event", "data"],
        "additionalProperties": False,
    }
    return {
        "200": {
            "description": "Server-sent events; the last one is the `state` of the training's end. A comment is sent "
            f"after {KEEP_ALIVE_S:g} s without an event.",
            "content": {"text/event-stream": {"schema": event}},
        },
        "400": ErrorBody,
        "404": ErrorBody,
    }


NO_MODEL_MADE: ResponseDict = {"409": ErrorBody, "500": ErrorBody}
"""What whoever waits for a training may get in the model's place: it was cancelled, or it failed."""
