"""Ranges and defaults of a body's fields, as main-api's description states them: they are written down nowhere here."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from enlight.dashboard.main_api.client import current_api
from enlight.servicekit.errors import UpstreamFailed

KEPT_S = 300.0
"""main-api may be replaced by another release while the page runs."""


@dataclass(frozen=True)
class FieldLimits:
    """Of one field; what is None is not limited, or not said."""

    minimum: float | None = None
    maximum: float | None = None
    default: Any = None
    max_length: int | None = None


class ApiLimits:
    """Asks main-api once in a while."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._schemas: Mapping[str, Any] = {}
        self._asked_at_s = float("-inf")

    def of(self, body: str) -> dict[str, FieldLimits]:
        """By field. Raises UpstreamFailed: main-api describes no such body; and what main-api answers."""
        try:
            properties = self._described()[body]["properties"]
            return {name: limits_of(schema) for name, schema in properties.items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise UpstreamFailed(f"main-api does not say what a {body} is. Is it of another release?") from error

    def _described(self) -> Mapping[str, Any]:
        with self._lock:
            if time.monotonic() > self._asked_at_s + KEPT_S:
                self._schemas = current_api().get("/openapi.json")["components"]["schemas"]
                self._asked_at_s = time.monotonic()
            return self._schemas


def limits_of(schema: Mapping[str, Any]) -> FieldLimits:
    """What a field's JSON schema says."""
    # A field that may be null has its range in the other of two forms.
    forms = [schema, *schema.get("anyOf", ())]
    said = {name: value for form in forms for name, value in form.items()}
    return FieldLimits(
        minimum=said.get("minimum"),
        maximum=said["exclusiveMaximum"] - 1 if "exclusiveMaximum" in said else said.get("maximum"),
        default=schema.get("default"),
        max_length=said.get("maxLength"),
    )
