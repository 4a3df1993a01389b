"""Names of everything in the cache. All begin with ``enlight:v1:``; a new format of values needs a new number.

Nothing that a client chose stands in a name as it is, except within a hash or at the end.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

PREFIX = "enlight:v1"


def response_key(
    *,
    tenant: str,
    route: str,
    query: Iterable[tuple[str, str]],
    model_version: str,
    body_sha256: str,
    code_version: str,
    content_type: str = "",
    accept: str = "",
) -> str:
    """The key of an answer: equal if and only if everything that the answer depends on is.

    ``query`` is every parameter with its value, repeated ones in their order; ``model_version`` is empty where no
    model takes part; ``code_version`` names the services' code and base weights, so that an update begins anew.
    ``content_type`` and ``accept`` are the request's headers: the same bytes mean something else as a form and as a
    picture, and the same picture may be asked for in another format.
    """
    parts = {
        "tenant": tenant,
        "route": route,
        "query": sorted(query, key=lambda pair: pair[0]),
        "model_version": model_version,
        "body_sha256": body_sha256,
        "code_version": code_version,
        "content_type": content_type,
        "accept": accept,
    }
    return f"{PREFIX}:response:{_digest(parts)}"


def metadata_key(*, tenant: str, kind: str, name: str) -> str:
    """The key of a looked-up record, such as the ``model`` that a tenant calls ``name``."""
    return f"{PREFIX}:metadata:{kind}:{_digest([tenant, name])}"


def rate_key(*, tenant: str, what: str, window_s: int) -> str:
    """The key of what a tenant used of ``what`` in windows of this length."""
    return f"{PREFIX}:rate:{what}:{window_s}:{_digest(tenant)}"


def _digest(value: object) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()
