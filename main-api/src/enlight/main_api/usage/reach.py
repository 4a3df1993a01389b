"""Whose use a caller may look at."""

from __future__ import annotations

from enlight.main_api.keys.authentication import current_caller, require_admin
from enlight.servicekit.errors import InvalidField


def tenant_asked_for(tenant: str | None) -> str:
    """The caller's own tenant, or for an admin the one that is named. Raises: Forbidden."""
    own = current_caller().tenant
    if tenant not in (None, own):
        require_admin()
    return tenant or own


def tenants_asked_for(tenant: str | None, *, all_tenants: bool) -> str | None:
    """The same; None: an admin asks for all together. Raises: Forbidden, InvalidField naming ``tenant``."""
    if not all_tenants:
        return tenant_asked_for(tenant)
    require_admin()
    if tenant is not None:
        raise InvalidField.of("tenant", "says something else than all_tenants")
    return None
