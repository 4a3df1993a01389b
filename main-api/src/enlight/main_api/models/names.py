"""Tenants' names for models: which bucket id a name means, and whose it is.

A model's id in the bucket is made here and never changes; the name is the tenant's own and may be changed. So two
tenants can use one name, and nobody reaches another's model by guessing: an unknown name and another tenant's are
the same ``NotFound``. Names follow the rule of ``check_model_id``, so none looks like a base model's (which holds a
``/``).

Collection ``models``: ``_id`` (bucket id), ``tenant``, ``name``, ``created_at``, ``last_used_at`` (or none),
``removal_started_at`` (or none). Unique: tenant and name.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo.database import Database
from pymongo.errors import DuplicateKeyError

from enlight.dreambooth_api.manifest import check_model_id
from enlight.jobkit.database import database_errors
from enlight.servicekit.errors import Conflict, DatabaseUnavailable, InvalidField, NotFound

USE_NOTED_EVERY_S = 60.0
"""``last_used_at`` is at most this much too old."""

_ATTEMPTS = 5

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedModel:
    """One row: a tenant's name and the bucket id that it means."""

    bucket_id: str
    tenant: str
    name: str
    created_at: datetime
    last_used_at: datetime | None
    """Of the last request for pictures; exact to ``USE_NOTED_EVERY_S``."""


class ModelNames:
    """The collection ``models``. Every method raises DatabaseUnavailable when the database does not answer in time.

    A model that is being removed has no name any more, but its name is not free until the removal ended.
    """

    def __init__(self, database: Database[dict[str, Any]]) -> None:
        self._models = database["models"]
        self._indexed = False

    def make_indexes(self) -> None:
        """Makes the unique index of tenant and name, if it is not there; what needs it calls this first."""
        if self._indexed:
            return
        with database_errors():
            self._models.create_index([("tenant", 1), ("name", 1)], unique=True, name="tenant_name")
        self._indexed = True

    def reserve(self, tenant: str, name: str) -> str:
        """The bucket id that ``name`` means, made now if it means none; the same one for every caller.

        Raises: InvalidField naming ``model_id``; Conflict while a model of this name is being removed.
        """
        check_model_id(name)
        self.make_indexes()
        for _ in range(_ATTEMPTS):
            with database_errors():
                found = self._models.find_one({"tenant": tenant, "name": name})
            if found is not None:
                if found.get("removal_started_at") is not None:
                    raise Conflict(f"The model {name} is being removed. DELETE it again to finish that.")
                return str(found["_id"])
            bucket_id = new_bucket_id()
            row = {
                "_id": bucket_id,
                "tenant": tenant,
                "name": name,
                "created_at": datetime.now(UTC),
                "last_used_at": None,
                "removal_started_at": None,
            }
            try:
                with database_errors():
                    self._models.insert_one(row)
            except DuplicateKeyError:
                continue  # another request was faster, or it was this one, whose answer got lost and was sent again
            return bucket_id
        raise DatabaseUnavailable(f"The name {name} is made and removed again and again by others.")

    def bucket_id(self, tenant: str, name: str) -> str:
        """The bucket id that ``name`` means. Raises: NotFound, for another tenant's name too."""
        return self.get(tenant, name).bucket_id

    def get(self, tenant: str, name: str, *, in_removal_too: bool = False) -> NamedModel:
        """The row of ``name``; ``in_removal_too``: also while it is being removed.

        Raises: NotFound, for another tenant's name too.
        """
        wanted = {"tenant": tenant, "name": name} if in_removal_too else _live(tenant, name=name)
        with database_errors():
            found = self._models.find_one(wanted)
        return _row(found, name)

    def name_of(self, tenant: str, bucket_id: str) -> str:
        """The name that ``bucket_id`` has now. Raises: NotFound, for another tenant's model too."""
        with database_errors():
            found = self._models.find_one(_live(tenant, _id=bucket_id))
        return _row(found, bucket_id).name

    def owners(self, bucket_ids: Collection[str]) -> dict[str, NamedModel]:
        """Whose these models are, of all tenants; one that nobody has any more is left out."""
        if not bucket_ids:
            return {}
        with database_errors():
            found = list(self._models.find({"_id": {"$in": sorted(bucket_ids)}, "removal_started_at": None}))
        return {document["_id"]: _row(document, "") for document in found}

    def list(self, tenant: str, *, limit: int, after: str | None = None) -> list[NamedModel]:
        """At most ``limit`` models in order of their names, those that come after the name ``after``."""
        name: dict[str, object] = {} if after is None else {"name": {"$gt": after}}
        with database_errors():
            found = list(self._models.find(_live(tenant, **name)).sort("name", 1).limit(limit))
        return [_row(document, "") for document in found]

    def rename(self, tenant: str, name: str, new_name: str) -> NamedModel:
        """Gives the model another name; its bucket id, versions and trainings stay.

        Raises: NotFound; InvalidField naming ``name``; Conflict when the tenant has a model of that name.
        """
        try:
            check_model_id(new_name)
        except InvalidField as error:
            raise InvalidField.of("name", error.details["fields"][0]["message"]) from None  # type: ignore[index]
        self.make_indexes()
        try:
            with database_errors():
                found = self._models.find_one_and_update(
                    _live(tenant, name=name), {"$set": {"name": new_name}}, return_document=True
                )
        except DuplicateKeyError:
            raise Conflict(f"There is a model {new_name} already.") from None
        return _row(found, name)

    def note_use(self, bucket_id: str) -> None:
        """Writes down that the model was used now. Never raises: a picture is not refused for a time stamp."""
        now = datetime.now(UTC)
        noted_before = now - timedelta(seconds=USE_NOTED_EVERY_S)
        try:
            with database_errors():
                self._models.update_one(
                    {"_id": bucket_id, "$or": [{"last_used_at": None}, {"last_used_at": {"$lt": noted_before}}]},
                    {"$set": {"last_used_at": now}},
                )
        except DatabaseUnavailable:
            _logger.warning("The last use of model %s is not written down: the database is away.", bucket_id)

    def begin_removal(self, bucket_id: str) -> None:
        """Takes the name away from everybody, but does not free it. Again for a removal that did not end."""
        with database_errors():
            self._models.update_one({"_id": bucket_id}, {"$set": {"removal_started_at": datetime.now(UTC)}})

    def forget(self, bucket_id: str) -> bool:
        """Removes the row, which frees the name; True when it is seen to be gone."""
        with database_errors():
            self._models.delete_one({"_id": bucket_id})
            return self._models.find_one({"_id": bucket_id}) is None


def new_bucket_id() -> str:
    """32 lower-case hexadecimal digits: the time in milliseconds, then 80 random bits."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def _live(tenant: str, **more: object) -> dict[str, object]:
    return {"tenant": tenant, "removal_started_at": None, **more}


def _row(document: Mapping[str, Any] | None, name: str) -> NamedModel:
    if document is None:
        raise NotFound(f"There is no model {name[:100]}.")
    return NamedModel(
        bucket_id=document["_id"],
        tenant=document["tenant"],
        name=document["name"],
        created_at=document["created_at"],
        last_used_at=document.get("last_used_at"),
    )
