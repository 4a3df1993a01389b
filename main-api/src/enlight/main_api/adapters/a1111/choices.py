"""Which model a key's later requests use: what ``POST /sdapi/v1/options`` sets.

Collection ``a1111_options``: ``_id`` (the key's id), ``tenant``, ``checkpoint``, ``set_at``. A1111 has one set of
options for its server; here each key has its own, so that clients do not change each other's pictures.
"""

from __future__ import annotations

from datetime import UTC, datetime

from enlight.jobkit.database import Documents, database_errors
from enlight.main_api.keys.tenants import Caller

COLLECTION = "a1111_options"


class Choices:
    """The collection. Methods raise DatabaseUnavailable."""

    def __init__(self, database: Documents) -> None:
        self._options = database[COLLECTION]

    def of(self, caller: Caller) -> str | None:
        """The model that the key chose, by its name; None: none yet."""
        with database_errors():
            found = self._options.find_one({"_id": caller.key_id, "tenant": caller.tenant})
        return None if found is None else str(found["checkpoint"])

    def choose(self, caller: Caller, checkpoint: str) -> None:
        """From now on this one."""
        chosen = {"tenant": caller.tenant, "checkpoint": checkpoint, "set_at": datetime.now(UTC)}
        with database_errors():
            self._options.update_one({"_id": caller.key_id}, {"$set": chosen}, upsert=True)
