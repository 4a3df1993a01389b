"""API keys as texts: ``enl_<id>_<secret>``.

The id finds the key's record; of the secret only the SHA-256 is kept. A secret is 256 random bits, so that there is
nothing to guess and a slow or salted hash would add nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass

_KEY = re.compile(r"enl_([0-9a-f]{16})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class GivenKey:
    """A key as a client sent it: well-formed, not yet known to be right."""

    id: str
    secret: str

    @property
    def text(self) -> str:
        """What a client sends."""
        return f"enl_{self.id}_{self.secret}"

    def __repr__(self) -> str:
        return f"GivenKey({self.id})"  # the secret must not reach a log


def new_key(key_id: str | None = None) -> GivenKey:
    """A key with a new secret; without ``key_id`` with a new id as well."""
    return GivenKey(key_id or secrets.token_hex(8), secrets.token_urlsafe(32))


def parse_key(text: str) -> GivenKey | None:
    """The parts of a key; None for a text that cannot be one."""
    match = _KEY.fullmatch(text)
    return GivenKey(match[1], match[2]) if match else None


def secret_digest(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()


def is_secret(secret: str, digest: str) -> bool:
    """Whether ``digest`` is of this secret; takes as long for a wrong one as for the right one."""
    return hmac.compare_digest(secret_digest(secret), digest)
