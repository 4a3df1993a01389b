"""``/v1/keys``: an admin makes keys; a tenant sees, renews and revokes its own."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from flask_openapi import APIBlueprint, Tag
from flask_openapi.types import ResponseDict
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from enlight.main_api.keys.authentication import Authenticator, current_caller, require_admin
from enlight.main_api.keys.key_format import GivenKey
from enlight.main_api.keys.key_store import KeyRecord, KeyStore
from enlight.main_api.keys.tenants import Scope, TenantName
from enlight.servicekit.schemas import Answer, ErrorBody, StrictModel

_NO_KEY: ResponseDict = {"404": ErrorBody}
_KEYS = Tag(name="keys", description="Who may ask.")


class KeyBody(StrictModel):
    """``POST /v1/keys``."""

    tenant: TenantName
    scope: Scope = "user"
    name: Annotated[str, StringConstraints(max_length=100)] = Field("", description="What it is used for.")


class KeyView(Answer):
    """A key without its secret."""

    id: str
    tenant: str
    scope: Scope
    name: str
    created_at: datetime
    revoked_at: datetime | None


class NewKeyView(KeyView):
    """A key with its secret, which is shown this once."""

    key: str = Field(description="What a client sends; kept nowhere.")


class KeyList(Answer):
    """Keys, newest first."""

    keys: list[KeyView]


class LimitsView(Answer):
    """What a tenant may do; null: as much as it likes."""

    requests_per_minute: int | None
    gpu_seconds_per_hour: int | None
    pictures: int


class MeView(Answer):
    """Who a request comes from."""

    tenant: str
    scope: Scope
    key_id: str | None = Field(description="Null where no keys are asked for.")
    limits: LimitsView


class KeyPath(BaseModel):
    """Path of one key."""

    key_id: Annotated[str, StringConstraints(max_length=64)]


class KeyListQuery(BaseModel):
    """Query of the list of keys."""

    model_config = ConfigDict(extra="forbid")

    tenant: TenantName | None = Field(None, description="An admin's choice; omitted: all tenants.")


def key_routes(store: KeyStore, authenticator: Authenticator | None, limits: LimitsView) -> APIBlueprint:
    """The routes; ``authenticator`` is told what changed, None: no keys are asked for. ``limits``: of each tenant."""
    routes = APIBlueprint("keys", __name__, abp_tags=[_KEYS])

    @routes.get("/v1/me", summary="Who asks", responses={"200": MeView})
    def show_caller() -> dict[str, Any]:
        """Whose key the request came with, what it allows, and the limits of its tenant."""
        caller = current_caller()
        key_id = None if authenticator is None else caller.key_id
        return MeView(tenant=caller.tenant, scope=caller.scope, key_id=key_id, limits=limits).model_dump(mode="json")

    def forget(key_id: str) -> None:
        if authenticator is not None:
            authenticator.forget(key_id)

    @routes.post("/v1/keys", summary="Make a key", responses={"201": NewKeyView, "403": ErrorBody})
    def create_key(body: KeyBody) -> tuple[dict[str, Any], int]:
        """Makes a key for any tenant; the tenant begins to exist with it. Needs the scope `admin`."""
        require_admin()
        record, key = store.create(body.tenant, body.scope, body.name)
        return _new_view(record, key), 201

    @routes.get("/v1/keys", summary="List keys", responses={"200": KeyList})
    def list_keys(query: KeyListQuery) -> dict[str, Any]:
        """The keys of the caller's tenant, without secrets; an admin sees those of all tenants, or of one."""
        caller = current_caller()
        tenant = query.tenant if caller.scope == "admin" else caller.tenant
        return {"keys": [_view(record) for record in store.list(tenant)]}

    @routes.post("/v1/keys/<key_id>/rotate", summary="Renew a key", responses={"200": NewKeyView, **_NO_KEY})
    def rotate_key(path: KeyPath) -> dict[str, Any]:
        """Gives the key a new secret. The old one ends: here at once, in other gateways within 5 seconds."""
        record, key = store.rotate(path.key_id, **_reach())
        forget(record.id)
        return _new_view(record, key)

    @routes.delete("/v1/keys/<key_id>", summary="Revoke a key", responses={"200": KeyView, **_NO_KEY})
    def revoke_key(path: KeyPath) -> dict[str, Any]:
        """Ends the key for good: here at once, in other gateways within 5 seconds."""
        record = store.revoke(path.key_id, **_reach())
        forget(record.id)
        return _view(record)

    return routes


def _reach() -> dict[str, Any]:
    """Which keys the caller may change: an admin all, a user those of its tenant that are no more than its own."""
    caller = current_caller()
    return {} if caller.scope == "admin" else {"tenant": caller.tenant, "scope": "user"}


def _view(record: KeyRecord) -> dict[str, Any]:
    return KeyView(
        id=record.id,
        tenant=record.tenant,
        scope=record.scope,
        name=record.name,
        created_at=record.created_at,
        revoked_at=record.revoked_at,
    ).model_dump(mode="json")


def _new_view(record: KeyRecord, key: GivenKey) -> dict[str, Any]:
    return {**_view(record), "key": key.text}
