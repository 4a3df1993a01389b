"""What is known of each uploaded file: whose it is, what is in it, how long it stays.

Collection ``uploaded_files``: ``_id``, ``tenant``, ``filename``, ``size_bytes``, ``sha256``, ``photos``,
``photos_bytes``, ``created_at``, ``expires_at``. To a tenant the files of others do not exist, and to nobody those that
expired.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from enlight.jobkit.database import Documents, database_errors
from enlight.servicekit.errors import NotFound

COLLECTION = "uploaded_files"


@dataclass(frozen=True)
class UploadedFile:
    """One file."""

    id: str
    tenant: str
    filename: str
    size_bytes: int
    sha256: str
    photos: int
    """How many are in it."""
    photos_bytes: int
    """Their size out of the zip."""
    created_at: datetime
    expires_at: datetime


class UploadedFileRecords:
    """The collection ``uploaded_files``. Methods raise DatabaseUnavailable."""

    def __init__(self, database: Documents) -> None:
        self._files = database[COLLECTION]

    def make_indexes(self) -> None:
        """The indexes by tenant and by end; safe to call again."""
        with database_errors():
            self._files.create_index([("tenant", 1), ("_id", -1)])
            self._files.create_index([("expires_at", 1)])

    def add(self, file: UploadedFile) -> None:
        """Writes a new file down."""
        document = asdict(file)
        document["_id"] = document.pop("id")
        with database_errors():
            self._files.insert_one(document)

    def get(self, tenant: str, file_id: str) -> UploadedFile:
        """One file. Raises: NotFound, for another tenant's too."""
        with database_errors():
            document = self._files.find_one({"_id": file_id, "tenant": tenant, **_not_expired()})
        if document is None:
            raise _no_file(file_id)
        return _file(document)

    def list(self, tenant: str, *, limit: int, after: str | None, ascending: bool) -> list[UploadedFile]:
        """At most ``limit`` files, newest first or oldest first; only those that come after the one with this id."""
        order = 1 if ascending else -1
        behind = {"_id": {"$gt" if ascending else "$lt": after}} if after else {}
        with database_errors():
            found = self._files.find({"tenant": tenant, **_not_expired(), **behind}).sort("_id", order).limit(limit)
            return [_file(document) for document in found]

    def total_bytes(self, tenant: str) -> int:
        """How much the tenant has."""
        added_up: list[dict[str, Any]] = [
            {"$match": {"tenant": tenant, **_not_expired()}},
            {"$group": {"_id": "all", "bytes": {"$sum": "$size_bytes"}}},
        ]
        with database_errors():
            return sum(int(row["bytes"]) for row in self._files.aggregate(added_up))

    def exists(self, file_id: str) -> bool:
        """Whether anybody has this file."""
        with database_errors():
            return self._files.find_one({"_id": file_id, **_not_expired()}, ["_id"]) is not None

    def remove(self, tenant: str, file_id: str) -> None:
        """Removes one. Raises: NotFound, for another tenant's too."""
        with database_errors():
            removed = self._files.delete_one({"_id": file_id, "tenant": tenant, **_not_expired()}).deleted_count
        if not removed:
            raise _no_file(file_id)

    def remove_expired(self) -> int:
        """Removes the records whose time is over, and tells how many there were."""
        with database_errors():
            return self._files.delete_many({"expires_at": {"$lte": datetime.now(UTC)}}).deleted_count


def new_file_id() -> str:
    """A new id; ids sort by time, and nobody guesses one."""
    return f"file-{time.time_ns() // 1_000_000:013d}-{secrets.token_hex(10)}"


def _no_file(file_id: str) -> NotFound:
    return NotFound(f"There is no file {file_id[:100]!r}.")


def _not_expired() -> dict[str, object]:
    return {"expires_at": {"$gt": datetime.now(UTC)}}


def _file(document: Mapping[str, Any]) -> UploadedFile:
    return UploadedFile(id=document["_id"], **{name: value for name, value in document.items() if name != "_id"})
