"""Answers that were errors, read from the usage records, the newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from enlight.jobkit.database import Documents, database_errors
from enlight.main_api.usage.records import COLLECTION, ERROR_MARK

CURSOR_PATTERN = r"[0-9]{13}-[0-9a-f]{24}"
"""Of `ERROR_MARK`."""
_INDEX_OF_ALL, _INDEX_OF_A_TENANT = "errors", "errors_of_a_tenant"


@dataclass(frozen=True)
class LoggedErrors:
    """Answers to requests of one kind that came together, or one answer."""

    at: datetime
    """Of the first."""
    request_id: str
    """Of the first."""
    requests: int
    """How many they are."""
    tenant: str
    method: str
    route: str
    status: int
    code: str | None
    message: str | None
    cursor: str
    """Where a page ends with it."""


class ErrorLog:
    """Reads the collection ``usage``. Methods raise DatabaseUnavailable."""

    def __init__(self, database: Documents) -> None:
        self._usage = database[COLLECTION]

    def make_indexes(self) -> None:
        """Indexes of the errors alone; safe to call again."""
        have_the_mark = {ERROR_MARK: {"$type": "string"}}
        with database_errors():
            for name, whose in ((_INDEX_OF_ALL, []), (_INDEX_OF_A_TENANT, [("tenant", 1)])):
                self._usage.create_index([*whose, (ERROR_MARK, -1)], name=name, partialFilterExpression=have_the_mark)

    def list(self, tenant: str | None, *, limit: int, before: str | None = None) -> list[LoggedErrors]:
        """A tenant's errors, or everybody's.

        Args:
            tenant: None: everybody's.
            limit: At least 1.
            before: Only what is older than the one with this cursor.
        """
        condition: dict[str, Any] = {ERROR_MARK: {"$gt": ""} if before is None else {"$gt": "", "$lt": before}}
        if tenant is not None:
            condition["tenant"] = tenant
        # Named: the embedded database would not take them, and look at every record.
        index = _INDEX_OF_ALL if tenant is None else _INDEX_OF_A_TENANT
        with database_errors():
            found = self._usage.find(condition).sort(ERROR_MARK, -1).limit(limit).hint(index)
            return [_logged(document) for document in found]


def _logged(document: dict[str, Any]) -> LoggedErrors:
    return LoggedErrors(
        at=document["at"],
        request_id=document["request_id"],
        requests=document.get("requests", 1),
        tenant=document["tenant"],
        method=document["method"],
        route=document["route"],
        status=document["status"],
        code=document.get("code"),
        message=document.get("message"),
        cursor=document[ERROR_MARK],
    )
