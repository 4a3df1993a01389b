"""A training's events as they come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any, NamedTuple

from training_gateway import Gateway


class Event(NamedTuple):
    id: int
    name: str
    data: dict[str, Any]


def follow(gate: Gateway, job_id: str, last_event_id: int | None = None) -> Iterator[Event]:
    """The events as they come; closing the iterator closes the stream."""
    headers = {} if last_event_id is None else {"Last_Event_ID": str(last_event_id)}
    response = gate.get(f"/v1/trainings/{job_id}/events", **headers)
    assert (response.status_code, response.mimetype) == (200, "text/event-stream")
    with closing(response):
        for block in response.iter_encoded():
            text = block.decode()
            if not text.startswith(":"):
                lines = dict(line.split(": ", 1) for line in text.strip().splitlines())
                yield Event(int(lines["id"]), lines["event"], json.loads(lines["data"]))
