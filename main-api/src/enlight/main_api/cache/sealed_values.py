"""Values in a cache that others can write to: signed, bound to their key, with an end.

A value that was changed, cut, put under another key, written by somebody without the secret, or kept beyond its end is
no value. So the worst that a wrong cache can do is to be of no use.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
import time

_MAGIC = b"enl1"
_MAC_BYTES = 32
_EXPIRY = struct.Struct(">d")
_HEAD_BYTES = len(_MAGIC) + _MAC_BYTES + _EXPIRY.size
MIN_SECRET_BYTES = 32


class Sealer:
    """Seals and opens values with one secret."""

    def __init__(self, secret: bytes) -> None:
        """Raises: ValueError for a secret of fewer than ``MIN_SECRET_BYTES``."""
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"the secret of the cache has {len(secret)} bytes; {MIN_SECRET_BYTES} are needed")
        self._secret = secret

    def seal(self, key: str, payload: bytes, *, ttl_s: float) -> bytes:
        """What to write under ``key``."""
        expiry = _EXPIRY.pack(time.time() + ttl_s)
        return b"".join((_MAGIC, self._mac(key, expiry, payload), expiry, payload))

    def open(self, key: str, value: bytes | None) -> bytes | None:
        """The payload; None when this is no value of this key, or an old one."""
        if value is None or len(value) < _HEAD_BYTES or not value.startswith(_MAGIC):
            return None
        mac = value[len(_MAGIC) : len(_MAGIC) + _MAC_BYTES]
        expiry = value[_HEAD_BYTES - _EXPIRY.size : _HEAD_BYTES]
        payload = value[_HEAD_BYTES:]
        if not hmac.compare_digest(mac, self._mac(key, expiry, payload)):
            return None
        (expires_at_s,) = _EXPIRY.unpack(expiry)
        return payload if time.time() < expires_at_s else None

    def _mac(self, key: str, expiry: bytes, payload: bytes) -> bytes:
        mac = hmac.new(self._secret, digestmod=hashlib.sha256)
        for part in (key.encode(), b"\0", expiry, payload):  # no key of this suite holds a NUL
            mac.update(part)
        return mac.digest()
