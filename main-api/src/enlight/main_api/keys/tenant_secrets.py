"""Secrets of tenants in the database, one for each purpose: what is signed for one tenant proves nothing to another."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from enlight.jobkit.database import Documents, database_errors


class TenantSecrets:
    """A collection with one secret for each tenant, made when it is first asked for.

    Args:
        database: Has the collection.
        collection: One for each purpose.
        prefix: Tells whoever finds a secret what it is.

    Methods raise DatabaseUnavailable when the database does not answer in time.
    """

    def __init__(self, database: Documents, collection: str, *, prefix: str) -> None:
        self._secrets = database[collection]
        self._prefix = prefix

    def secret_of(self, tenant: str) -> str:
        """The secret; the same one for every caller, also for two first ones at once."""
        fresh = {"secret": f"{self._prefix}{secrets.token_urlsafe(32)}", "created_at": datetime.now(UTC)}
        with database_errors():
            known = self._secrets.find_one({"_id": tenant})
        while known is None:
            try:
                with database_errors():
                    known = self._secrets.find_one_and_update(
                        {"_id": tenant}, {"$setOnInsert": fresh}, upsert=True, return_document=ReturnDocument.AFTER
                    )
            except DuplicateKeyError:  # another first caller was faster; its secret is there now
                continue
        return str(known["secret"])
