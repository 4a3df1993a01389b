"""Answers of the services behind, kept so that the same request is not computed twice.

A small answer lies in the cache server itself; of a large one only a reference does, and the bytes lie in a bucket
under their SHA-256. Whatever goes wrong on the way, of whatever part, is a miss.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import random
import struct
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from enlight.main_api.cache.client import CacheClient
from enlight.main_api.cache.sealed_values import Sealer
from enlight.servicekit.errors import ServiceError
from enlight.servicekit.object_store import SMALL_OBJECT_BYTES, ObjectStore

INLINE_BYTES = 256 * 1024
OBJECTS_PREFIX = "responses/"
TTL_JITTER = 0.1
"""Answers that were made together do not all end together: a ttl is up to this share shorter."""
BUCKET_PAUSE_S = 10.0
"""A bucket that failed is left alone this long: each try may take its whole timeout."""

_LENGTH = struct.Struct(">I")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedResponse:
    """An answer as the client gets it."""

    status: int
    content_type: str
    headers: dict[str, str]
    """Further headers that belong to the answer itself, such as its seed; never cookies or a request's id."""
    body: bytes | bytearray
    """Never changed, by anybody."""


@dataclass(frozen=True)
class _Head:
    status: int
    content_type: str
    headers: dict[str, str] = field(default_factory=dict)
    object_sha256: str = ""
    """Name of the body in the bucket; empty: the body follows."""
    object_bytes: int = 0


class _ObjectTooLargeError(Exception):
    """The object is not the one that was put."""


class ResponseCache:
    """Kept answers. No method raises because of the cache server or the bucket."""

    def __init__(
        self,
        client: CacheClient,
        objects: ObjectStore | None,
        *,
        secret: bytes,
        ttl_s: float,
        inline_bytes: int = INLINE_BYTES,
        max_bytes: int,
    ) -> None:
        """``inline_bytes``: larger bodies go to ``objects`` (None: are not kept). ``max_bytes``: larger ones nowhere.

        ``objects`` should have short timeouts: a request waits for it. Raises: ValueError for a short secret.
        """
        self._client = client
        self._objects = objects
        self._sealer = Sealer(secret)
        self._ttl_s = ttl_s
        self._inline_bytes = inline_bytes
        self._max_bytes = max_bytes
        self._bucket_paused_until_s = 0.0

    def get(self, key: str) -> CachedResponse | None:
        """The answer; None when there is none that is whole, genuine and fresh."""
        payload = self._sealer.open(key, self._client.get(key))
        if payload is None:
            return None
        head, inline = _unpack(payload)
        body = self._read_object(head) if head.object_sha256 else inline
        return None if body is None else CachedResponse(head.status, head.content_type, head.headers, body)

    def put(self, key: str, response: CachedResponse) -> bool:
        """Keeps an answer of status 200; others, and those that are too large, are not kept. True when it is."""
        size = len(response.body)
        if response.status != 200 or size > self._max_bytes or self._client.is_away(key):
            return False
        head = _Head(response.status, response.content_type, response.headers)
        body = response.body
        if size > self._inline_bytes:
            sha256 = hashlib.sha256(body).hexdigest()
            if not self._write_object(sha256, body):
                return False
            head = _Head(response.status, response.content_type, response.headers, sha256, size)
            body = b""
        ttl_s = self._ttl_s * random.uniform(1 - TTL_JITTER, 1)
        return self._client.set(key, self._sealer.seal(key, _pack(head, body), ttl_s=ttl_s), ttl_s=ttl_s)

    def _write_object(self, sha256: str, body: bytes | bytearray) -> bool:
        if self._objects is None or time.monotonic() < self._bucket_paused_until_s:
            return False
        try:
            # Over whatever is there: it may be damaged, and its age begins anew for the sweep.
            if len(body) <= SMALL_OBJECT_BYTES:
                self._objects.put_bytes(_object_key(sha256), bytes(body))
            else:
                # A file in memory: the store reads files, and this one is nobody else's business.
                with os.fdopen(os.memfd_create("enlight-response"), "wb") as file:
                    file.write(body)
                    file.flush()
                    self._objects.put_file(_object_key(sha256), Path(f"/proc/self/fd/{file.fileno()}"))
        except (ServiceError, OSError) as error:
            self._pause_bucket(error)
            return False
        return True

    def _read_object(self, head: _Head) -> bytearray | None:
        if self._objects is None or time.monotonic() < self._bucket_paused_until_s:
            return None
        body = bytearray(head.object_bytes)
        filled = 0

        def take(chunk: bytes) -> None:
            nonlocal filled
            if filled + len(chunk) > head.object_bytes:
                raise _ObjectTooLargeError
            body[filled : filled + len(chunk)] = chunk
            filled += len(chunk)

        try:
            self._objects.download(_object_key(head.object_sha256), take)
        except _ObjectTooLargeError:
            return None
        except (ServiceError, OSError) as error:
            if getattr(error, "status", 500) >= 500:  # one that is missing is simply a miss
                self._pause_bucket(error)
            return None
        whole = filled == head.object_bytes and hashlib.sha256(body).hexdigest() == head.object_sha256
        return body if whole else None

    def _pause_bucket(self, error: Exception) -> None:
        self._bucket_paused_until_s = time.monotonic() + BUCKET_PAUSE_S
        _log.warning("the bucket of cached answers failed, and is left alone for %g s: %s", BUCKET_PAUSE_S, error)


def sweep_response_objects(objects: ObjectStore, *, older_than_s: float) -> int:
    """Deletes bodies written longer ago than that (the cache's ttl or more), and gives their number.

    A reference that is younger than its body cannot be: each ``put`` writes the body again.

    Raises: StorageUnavailable.
    """
    old = [row.key for row in objects.list(OBJECTS_PREFIX) if time.time() - row.updated_s > older_than_s]
    for key in old:
        objects.delete(key)
    return len(old)


def _object_key(sha256: str) -> str:
    return f"{OBJECTS_PREFIX}{sha256[:2]}/{sha256}"


def _pack(head: _Head, body: bytes | bytearray) -> bytes:
    text = json.dumps(asdict(head), separators=(",", ":")).encode()
    return b"".join((_LENGTH.pack(len(text)), text, body))


def _unpack(payload: bytes) -> tuple[_Head, bytes]:
    # Signed by this code, of this format's number: nothing here can be of another shape.
    (length,) = _LENGTH.unpack_from(payload)
    start = _LENGTH.size + length
    values: Mapping[str, object] = json.loads(payload[_LENGTH.size : start])
    return _Head(**values), payload[start:]  # type: ignore[arg-type]
