"""Who asks: a tenant owns models, trainings and keys, and never sees another tenant's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

Scope = Literal["user", "admin"]
"""``user``: everything of its own tenant. ``admin``: the keys and the usage of all tenants as well."""

_TENANT = r"[a-z0-9][a-z0-9-]{0,62}"


@dataclass(frozen=True)
class Caller:
    """Who a request comes from, as its key says."""

    tenant: str
    scope: Scope
    key_id: str


LOCAL_CALLER = Caller(tenant="local", scope="admin", key_id="none")
"""Whoever asks a gateway that asks for no keys: only programs of the same machine can."""


def check_tenant(name: str) -> str:
    """The name, when it is one. Raises PydanticCustomError, which is a ValueError."""
    # fullmatch, because `$` would let a trailing newline through.
    if not re.fullmatch(_TENANT, name):
        raise PydanticCustomError(
            "tenant", "must be 1 to 63 lower-case letters, digits or '-', and start with a letter or digit"
        )
    return name


TenantName = Annotated[
    str,
    AfterValidator(check_tenant),
    Field(examples=["studio-anna"], json_schema_extra={"pattern": f"^{_TENANT}$"}),
]
