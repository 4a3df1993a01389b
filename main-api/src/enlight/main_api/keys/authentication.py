"""Which caller a request comes from: checked before anything of its body is read."""

from __future__ import annotations

import binascii
import threading
import time
from base64 import b64decode
from collections import OrderedDict
from collections.abc import Callable
from typing import cast

from flask import Flask, Response, g, request
from werkzeug.datastructures import Headers

from enlight.main_api.keys.key_format import is_secret, parse_key, secret_digest
from enlight.main_api.keys.key_store import KeyRecord
from enlight.main_api.keys.tenants import LOCAL_CALLER, Caller
from enlight.servicekit.errors import Forbidden, Unauthorized

OPEN_RULES = frozenset(
    {"/", "/live", "/ready", "/metrics", "/docs", "/docs/page.css", "/docs/page.js", "/openapi.json"}
)
"""Routes that need no key: they tell nothing of any tenant."""
LINKS_PREFIX = "/v1/images/files/"
"""Below it an address itself is the proof, which the route checks."""
MAX_REMEMBERED_KEYS = 10_000
MAX_BASIC_CHARS = 1024
"""Of a user with a password, in base64. Nobody's name is that long, and a longer one is not decoded."""

_NOBODYS_DIGEST = secret_digest("")
_REFUSAL = "Send a valid API key: `Authorization: Bearer enl_...`, `X-API-Key: enl_...`, or Basic with it as password."
_CHALLENGE = 'Bearer realm="enlight", Basic realm="enlight", charset="UTF-8"'


class Authenticator:
    """Finds the caller of a key, and believes a record for a few seconds.

    Args:
        find: A key's record by its id; raises DatabaseUnavailable.
        remember_s: How long a record is believed, and so how long a key may live on after it was revoked elsewhere.
    """

    def __init__(self, find: Callable[[str], KeyRecord | None], *, remember_s: float) -> None:
        self._find = find
        self._remember_s = remember_s
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[KeyRecord | None, float]] = OrderedDict()
        self._changes = 0

    def caller(self, headers: Headers) -> Caller:
        """The caller that the headers prove. Raises Unauthorized, DatabaseUnavailable."""
        key = parse_key(_key_text(headers))
        if key is None:
            raise Unauthorized(_REFUSAL)
        record = self._record(key.id)
        # An unknown id takes as long as a wrong secret: nobody learns which ids there are.
        right = is_secret(key.secret, record.secret_sha256 if record else _NOBODYS_DIGEST)
        if record is None or not right or record.revoked_at is not None:
            raise Unauthorized(_REFUSAL)
        return Caller(record.tenant, record.scope, record.id)

    def forget(self, key_id: str) -> None:
        """Asks for the record again next time: after it was changed here."""
        with self._lock:
            self._changes += 1
            self._known.pop(key_id, None)

    def _record(self, key_id: str) -> KeyRecord | None:
        now_s = time.monotonic()
        with self._lock:
            known, changes = self._known.get(key_id), self._changes
        if known is not None and now_s < known[1]:
            return known[0]
        record = self._find(key_id)
        with self._lock:
            if self._changes == changes:  # else this record may be from before a change that `forget` told of
                self._known[key_id] = record, now_s + self._remember_s
                self._known.move_to_end(key_id)
                while len(self._known) > MAX_REMEMBERED_KEYS:
                    self._known.popitem(last=False)
        return record


def authenticate(authenticator: Authenticator | None) -> None:
    """Notes who the current request comes from, on every route but the open ones, known or not.

    Args:
        authenticator: None: no key is asked for.

    Raises: as `Authenticator.caller`.
    """
    # Whatever the method: one that it does not take is a 405, not a 401.
    if request.path in OPEN_RULES or request.path.startswith(LINKS_PREFIX):
        return
    g.caller = LOCAL_CALLER if authenticator is None else authenticator.caller(request.headers)


def add_challenge(app: Flask) -> None:
    """Every 401 says how to send a key."""

    @app.after_request
    def name_the_scheme(response: Response) -> Response:
        if response.status_code == 401:
            response.headers.setdefault("WWW-Authenticate", _CHALLENGE)
        return response


def current_caller() -> Caller:
    """The caller of the current request; only on routes that need a key."""
    return cast(Caller, g.caller)


def require_admin() -> Caller:
    """The caller, an admin. Raises Forbidden."""
    caller = current_caller()
    if caller.scope != "admin":
        raise Forbidden("Only a key of scope `admin` may do this.")
    return caller


def _key_text(headers: Headers) -> str:
    scheme, _, credentials = headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return credentials.strip()
    # A server in front may have a Basic user of its own: the header that is only ours comes first.
    key = headers.get("X-API-Key", "")
    if key or scheme.lower() != "basic" or _is_of_another_page(headers):
        return key
    return _password(credentials.strip())


def _is_of_another_page(headers: Headers) -> bool:
    """Whether a browser asks for another server's page: it remembers a password, and sends it whoever's page asks."""
    origin = headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != headers.get("Host"):
        return True
    return headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")


def _password(credentials: str) -> str:
    """The password of any user; empty for what is no user with a password."""
    if len(credentials) > MAX_BASIC_CHARS:
        return ""
    try:
        user_and_password = b64decode(credentials, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return user_and_password.partition(":")[2]
