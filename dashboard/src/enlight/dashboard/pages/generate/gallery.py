"""Pages of the gallery, and what is beside one picture in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from enlight.dashboard.main_api.client import ApiOfSomebody
from enlight.dashboard.pages.generate.picture_words import KINDS
from enlight.servicekit.errors import NotFound

PER_PAGE = 24
MADE_OF_ONE = 20
_ANCESTORS = 5


@dataclass(frozen=True)
class Filter:
    """Which pictures are shown."""

    of: str = ""
    """A model's name; empty: all."""
    kind: str = ""
    """One of `KINDS`; empty: all."""

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> Filter:
        """As an address has it; what is no kind is left out."""
        kind = query.get("kind", "")
        return cls(query.get("of", ""), kind if kind in KINDS else "")

    @property
    def is_empty(self) -> bool:
        """Whether all pictures are shown."""
        return not (self.of or self.kind)

    def address(self, path: str, **more: str) -> str:
        """``path`` with the filter and ``more`` in its query."""
        given = {name: value for name, value in {"of": self.of, "kind": self.kind, **more}.items() if value}
        return f"{path}?{urlencode(given)}" if given else path

    def asked(self, **more: str | int) -> dict[str, str | int]:
        """As main-api's list takes it."""
        return {"model_id": self.of, "kind": self.kind, **more}


def page(api: ApiOfSomebody, shown: Filter, before: str = "") -> dict[str, Any]:
    """``pictures``, newest first, and ``next``."""
    return api.get("/v1/pictures", shown.asked(limit=PER_PAGE, before=before))


def picture(api: ApiOfSomebody, picture_id: str) -> dict[str, Any]:
    """One picture. Raises NotFound, of somebody else's, too."""
    return api.get(f"/v1/pictures/{quote(picture_id, safe='')}")


def made_of(api: ApiOfSomebody, picture_id: str, kind: str = "") -> list[dict[str, Any]]:
    """What was made of a picture, newest first."""
    found = api.get("/v1/pictures", {"source_id": picture_id, "kind": kind, "limit": MADE_OF_ONE})
    return list(found["pictures"])


@dataclass(frozen=True)
class Surroundings:
    """What belongs to a picture."""

    newer: str | None
    older: str | None
    """Ids of the pictures beside it in the gallery."""
    source: dict[str, Any] | None
    """What it was made of; None: nothing, or it is gone."""
    origin: dict[str, Any]
    """The generation that all began with, as far as it is there."""
    made_of_it: list[dict[str, Any]]


def surroundings(api: ApiOfSomebody, of: Mapping[str, Any], shown: Filter) -> Surroundings:
    """Of a picture that is shown under a filter."""
    newer = api.get("/v1/pictures", shown.asked(limit=1, after=of["id"]))["pictures"]
    older = api.get("/v1/pictures", shown.asked(limit=1, before=of["id"]))["pictures"]
    line = [dict(of)]
    while line[-1]["source_id"] and len(line) <= _ANCESTORS:
        try:
            line.append(picture(api, line[-1]["source_id"]))
        except NotFound:  # removed since
            break
    return Surroundings(
        newer=newer[0]["id"] if newer else None,
        older=older[0]["id"] if older else None,
        source=line[1] if len(line) > 1 else None,
        origin=line[-1],
        made_of_it=made_of(api, of["id"]),
    )
