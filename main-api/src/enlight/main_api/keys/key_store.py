"""The keys' records in MongoDB, collection ``keys``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pymongo import ReturnDocument

from enlight.jobkit.database import Documents, database_errors
from enlight.main_api.keys.key_format import GivenKey, new_key, secret_digest
from enlight.main_api.keys.tenants import Scope, check_tenant
from enlight.servicekit.errors import NotFound

MAX_LISTED = 1000


@dataclass(frozen=True)
class KeyRecord:
    """A key without its secret."""

    id: str
    tenant: str
    scope: Scope
    name: str
    """For people: what the key is used for."""
    secret_sha256: str
    created_at: datetime
    revoked_at: datetime | None


class KeyStore:
    """Makes, finds, renews and revokes keys. Every method raises DatabaseUnavailable when MongoDB is away.

    ``tenant`` and ``scope``, where they may be left out, narrow what is found: a key outside of them is NotFound, as
    if it were not there.
    """

    def __init__(self, database: Documents) -> None:
        self._keys = database["keys"]

    def make_indexes(self) -> None:
        """The index by tenant; safe to call again."""
        with database_errors():
            self._keys.create_index([("tenant", 1), ("created_at", -1)])

    def create(self, tenant: str, scope: Scope, name: str = "") -> tuple[KeyRecord, GivenKey]:
        """A new key; its secret is nowhere else. Raises ValueError for a text that is no tenant's name."""
        key = new_key()
        record = KeyRecord(
            id=key.id,
            tenant=check_tenant(tenant),
            scope=scope,
            name=name,
            secret_sha256=secret_digest(key.secret),
            created_at=datetime.now(UTC),
            revoked_at=None,
        )
        with database_errors():
            self._keys.insert_one(
                {
                    "_id": record.id,
                    "tenant": record.tenant,
                    "scope": record.scope,
                    "name": record.name,
                    "secret_sha256": record.secret_sha256,
                    "created_at": record.created_at,
                    "revoked_at": None,
                }
            )
        return record, key

    def find(self, key_id: str) -> KeyRecord | None:
        """The record of a key, revoked or not."""
        with database_errors():
            document = self._keys.find_one({"_id": key_id})
        return None if document is None else _record(document)

    def list(self, tenant: str | None = None) -> list[KeyRecord]:
        """The keys of one tenant, or of all; newest first, at most 1,000, revoked ones included."""
        with database_errors():
            found = self._keys.find(_within(tenant)).sort("created_at", -1).limit(MAX_LISTED)
            return [_record(document) for document in found]

    def rotate(
        self, key_id: str, *, tenant: str | None = None, scope: Scope | None = None
    ) -> tuple[KeyRecord, GivenKey]:
        """The same key with a new secret; the old one is worth nothing from then on. Raises NotFound, also for a
        revoked key: it stays revoked."""
        key = new_key(key_id)
        changes = {"secret_sha256": secret_digest(key.secret)}
        return self._change({"_id": key_id, "revoked_at": None, **_within(tenant, scope)}, changes), key

    def revoke(self, key_id: str, *, tenant: str | None = None, scope: Scope | None = None) -> KeyRecord:
        """Ends a key for good. Raises NotFound, also for one that was revoked before."""
        wanted = {"_id": key_id, "revoked_at": None, **_within(tenant, scope)}
        return self._change(wanted, {"revoked_at": datetime.now(UTC)})

    def _change(self, wanted: dict[str, Any], changes: dict[str, Any]) -> KeyRecord:
        with database_errors():
            document = self._keys.find_one_and_update(wanted, {"$set": changes}, return_document=ReturnDocument.AFTER)
        if document is None:
            raise NotFound("There is no such key, or it is revoked.")
        return _record(document)


def _within(tenant: str | None, scope: Scope | None = None) -> dict[str, Any]:
    return {name: value for name, value in (("tenant", tenant), ("scope", scope)) if value is not None}


def _record(document: Mapping[str, Any]) -> KeyRecord:
    return KeyRecord(
        id=document["_id"],
        tenant=document["tenant"],
        scope=document["scope"],
        name=document["name"],
        secret_sha256=document["secret_sha256"],
        created_at=document["created_at"],
        revoked_at=document["revoked_at"],
    )
