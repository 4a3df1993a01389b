"""Who is signed in: a cookie that only this service can read, so that any instance knows everybody.

The API key is in it, encrypted and authenticated (Fernet: AES-128-CBC with HMAC-SHA256). The browser's scripts cannot
read it, and other sites cannot send it with their requests but for plain links (SameSite=Lax).
"""

from __future__ import annotations

import base64
import hmac
import json
import secrets
from dataclasses import asdict, dataclass, field
from typing import cast

from cryptography.fernet import Fernet, InvalidToken
from flask import Request, Response, g

COOKIE = "enlight_session"


@dataclass(frozen=True)
class Session:
    """One browser's."""

    key: str | None = None
    """The API key; None: nobody is signed in, or nobody needs to be."""
    tenant: str = ""
    scope: str = ""
    """``user`` or ``admin``; empty: nobody is signed in."""
    csrf_token: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    """What a page's own requests send back, which another site's cannot know."""

    @property
    def signed_in(self) -> bool:
        """Whether the pages may be seen."""
        return bool(self.scope)

    @property
    def is_admin(self) -> bool:
        """Whether what concerns all tenants is shown; main-api asks for itself."""
        return self.scope == "admin"


class SessionCookies:
    """Sessions as cookies.

    Args:
        secret: Seals them; None: one that ends with the process.
        lifetime_s: Of a sign-in.
        https: Whether the cookie is for https only.
    """

    def __init__(self, secret: str | None, *, lifetime_s: float, https: bool) -> None:
        digest = hmac.digest((secret or secrets.token_urlsafe(32)).encode(), b"enlight dashboard session", "sha256")
        self._fernet = Fernet(base64.urlsafe_b64encode(digest))
        self._lifetime_s = round(lifetime_s)
        self._https = https
        self._name = f"__Host-{COOKIE}" if https else COOKIE

    def read(self, request: Request) -> Session | None:
        """The browser's session; None: it has none, or not any more."""
        sealed = request.cookies.get(self._name, "")
        try:
            return Session(**json.loads(self._fernet.decrypt(sealed, ttl=self._lifetime_s)))
        except (InvalidToken, ValueError, TypeError):  # a TypeError: one of another release
            return None

    def write(self, response: Response, session: Session) -> None:
        """Has the browser keep ``session``."""
        sealed = self._fernet.encrypt(json.dumps(asdict(session)).encode())
        response.set_cookie(
            self._name,
            sealed.decode(),
            max_age=self._lifetime_s,
            secure=self._https,
            httponly=True,
            samesite="Lax",
            path="/",
        )


def current_session() -> Session:
    """The session of the current request."""
    return cast(Session, g.session)


def same_token(given: str, session: Session) -> bool:
    """Whether ``given`` is the session's token, told in constant time."""
    return hmac.compare_digest(given.encode(), session.csrf_token.encode())
