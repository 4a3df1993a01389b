"""Small records looked up in the cache before the database: look-aside, as JSON.

A reader that found nothing loads the record and writes it into the cache. Between these two somebody may change the
record and delete the key, and the reader would then write the old record over it. So a reader first leaves a mark of
its own under the key, and its write counts only while that mark is there; a delete takes the mark away.
"""

from __future__ import annotations

import json
import random
import secrets
import threading
from collections.abc import Callable

from enlight.main_api.cache.client import CacheClient
from enlight.main_api.cache.sealed_values import Sealer

TTL_JITTER = 0.1
MARK_TTL_S = 5.0
"""How long a reader may take to load a record and still have it kept."""
MAX_OWED_DELETES = 10_000

_MARK = b"loading:"
_WRITE_WHILE_MARKED = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
"""
_READ_OR_MARK = """
local value = redis.call('GET', KEYS[1])
if not value then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
return value
"""


class MetadataCache:
    """Records as JSON values. The cache server's failures are not seen: the record is loaded instead."""

    def __init__(self, client: CacheClient, *, secret: bytes) -> None:
        """Raises: ValueError for a short secret."""
        self._client = client
        self._sealer = Sealer(secret)
        self._lock = threading.Lock()
        self._owed: set[str] = set()

    def get_or_load(self, key: str, load: Callable[[], object], ttl_s: float) -> object:
        """The record, at most ``ttl_s`` old. What ``load`` gives must be JSON; what it raises passes through."""
        if self._owes_delete(key):
            return load()
        mark = _MARK + secrets.token_hex(16).encode()
        found = self._client.run_script(_READ_OR_MARK, key, [mark, round(MARK_TTL_S * 1000)])
        if isinstance(found, bytes):
            payload = self._sealer.open(key, found)
            if payload is not None:
                value: object = json.loads(payload)
                return value
            if not found.startswith(_MARK):  # not ours, or damaged: the next reader finds nothing
                self._client.delete(key)
            return load()  # somebody else is loading it, and will keep it
        value = load()
        if ttl_s > 0 and not self._client.is_away(key):
            kept_s = ttl_s * random.uniform(1 - TTL_JITTER, 1)
            sealed = self._sealer.seal(key, json.dumps(value).encode(), ttl_s=kept_s)
            self._client.run_script(_WRITE_WHILE_MARKED, key, [mark, sealed, max(1, round(kept_s * 1000))])
        return value

    def delete(self, key: str) -> bool:
        """Forgets the record, after it was changed in the database. True when the cache confirmed it.

        False when the cache server is away: this process then asks the database until the delete came through; other
        processes may see the old record until its ttl ends.
        """
        if self._client.delete(key):
            with self._lock:
                self._owed.discard(key)
            return True
        with self._lock:
            if len(self._owed) < MAX_OWED_DELETES:
                self._owed.add(key)
        return False

    def _owes_delete(self, key: str) -> bool:
        with self._lock:
            owes = key in self._owed
        return owes and not self.delete(key)
