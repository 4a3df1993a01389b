"""What is known of each picture that was kept: whose it is, how it was made, what its file is.

Collection ``pictures``: ``_id``, ``tenant``, ``kind``, ``model`` (the tenant's name of it, or none), ``source_id`` (the
picture that it was made of, or none), ``parameters``, ``width_px``, ``height_px``, ``content_type``, ``size_bytes``,
``sha256``, ``created_at``. To a tenant the pictures of others do not exist.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from enlight.jobkit.database import Documents, database_errors
from enlight.servicekit.errors import NotFound

COLLECTION = "pictures"

PictureKind = Literal["generation", "cutout", "upscale"]
"""How a picture came to be."""


@dataclass(frozen=True)
class KeptPicture:
    """One picture."""

    id: str
    tenant: str
    kind: PictureKind
    model: str | None
    source_id: str | None
    parameters: Mapping[str, Any]
    """What it was made with: all that it takes to make it again."""
    width_px: int
    height_px: int
    content_type: str
    size_bytes: int
    sha256: str
    created_at: datetime


class PictureRecords:
    """The collection ``pictures``. Methods raise DatabaseUnavailable."""

    def __init__(self, database: Documents) -> None:
        self._pictures = database[COLLECTION]

    def make_indexes(self) -> None:
        """The indexes by tenant; safe to call again."""
        with database_errors():
            self._pictures.create_index([("tenant", 1), ("_id", -1)])
            self._pictures.create_index([("tenant", 1), ("model", 1), ("_id", -1)])
            self._pictures.create_index([("tenant", 1), ("source_id", 1), ("_id", -1)])

    def add(self, picture: KeptPicture) -> None:
        """Writes a new picture down."""
        document = asdict(picture)
        document["_id"] = document.pop("id")
        with database_errors():
            self._pictures.insert_one(document)

    def get(self, tenant: str, picture_id: str) -> KeptPicture:
        """One picture. Raises: NotFound, for another tenant's too."""
        with database_errors():
            document = self._pictures.find_one({"_id": picture_id, "tenant": tenant})
        if document is None:
            raise NotFound(f"There is no picture {picture_id[:100]!r}.")
        return _picture(document)

    def list(
        self,
        tenant: str,
        *,
        limit: int,
        before: str | None = None,
        after: str | None = None,
        model: str | None = None,
        kind: PictureKind | None = None,
        source_id: str | None = None,
    ) -> list[KeptPicture]:
        """At most ``limit`` pictures, the newest first.

        Args:
            tenant: Whose.
            limit: At least 1.
            before: Only those older than the one with this id.
            after: Only those newer than the one with this id; without ``before`` the ones next to it.
            model: Only those of this model.
            kind: Only those.
            source_id: Only those that were made of this picture.
        """
        between = {"$lt": before or None, "$gt": after or None}
        given: dict[str, object] = {
            "_id": _given(between) or None,
            "model": model,
            "kind": kind,
            "source_id": source_id,
        }
        order = 1 if after and not before else -1
        with database_errors():
            documents = self._pictures.find({"tenant": tenant, **_given(given)}).sort("_id", order).limit(limit)
            return [_picture(document) for document in documents][::-order]

    def count(self, tenant: str, *, up_to: int) -> int:
        """How many pictures the tenant has; more than ``up_to`` are not counted."""
        with database_errors():
            return self._pictures.count_documents({"tenant": tenant}, limit=up_to)

    def exists(self, picture_id: str) -> bool:
        """Whether anybody has this picture."""
        with database_errors():
            return self._pictures.find_one({"_id": picture_id}, ["_id"]) is not None

    def find(self, picture_id: str) -> KeptPicture | None:
        """The picture, whoever has it: for those who prove otherwise that they may see it."""
        with database_errors():
            document = self._pictures.find_one({"_id": picture_id})
        return None if document is None else _picture(document)

    def remove(self, tenant: str, picture_id: str) -> None:
        """Removes one. Raises: NotFound, for another tenant's too."""
        with database_errors():
            removed = self._pictures.delete_one({"_id": picture_id, "tenant": tenant}).deleted_count
        if not removed:
            raise NotFound(f"There is no picture {picture_id[:100]!r}.")


def new_picture_id() -> str:
    """A new id; ids sort by time, and nobody guesses one."""
    return f"pic-{time.time_ns() // 1_000_000:013d}-{secrets.token_hex(10)}"


def _given(values: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in values.items() if value is not None}


def _picture(document: Mapping[str, Any]) -> KeptPicture:
    return KeptPicture(id=document["_id"], **{name: value for name, value in document.items() if name != "_id"})
