"""The one eviction policy of everything that is kept in memory: by bytes, the least recently used first."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")


class LruCache(Generic[ValueT]):
    """Values up to a quota of bytes; the least recently used go first. Any thread may use it."""

    def __init__(self, quota_bytes: int) -> None:
        self.quota_bytes = quota_bytes
        self.evictions = 0
        """How many values had to make room."""
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, tuple[ValueT, int]] = OrderedDict()
        self._used_bytes = 0

    @property
    def used_bytes(self) -> int:
        """Sum of the sizes of what is kept; never above the quota."""
        with self._lock:
            return self._used_bytes

    def keys(self) -> list[str]:
        """What is kept, least recently used first."""
        with self._lock:
            return list(self._entries)

    def get(self, key: str) -> ValueT | None:
        """The value, which is now the most recently used; None when it is not kept."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def make_room(self, size_bytes: int) -> bool:
        """Lets go of the least recently used until ``size_bytes`` fit; False if they never can."""
        with self._lock:
            return self._make_room(size_bytes)

    def put(self, key: str, value: ValueT, size_bytes: int) -> bool:
        """Keeps a value in place of an older one of its key; False when it is larger than the whole quota."""
        with self._lock:
            self._drop(key)
            if not self._make_room(size_bytes):
                return False
            self._entries[key] = (value, size_bytes)
            self._used_bytes += size_bytes
            return True

    def remove(self, key: str) -> None:
        """Lets go of a value, if it is kept."""
        with self._lock:
            self._drop(key)

    def clear(self) -> None:
        """Lets go of everything."""
        with self._lock:
            self._entries.clear()
            self._used_bytes = 0

    def _make_room(self, size_bytes: int) -> bool:
        if size_bytes > self.quota_bytes:
            return False
        while self._used_bytes + size_bytes > self.quota_bytes:
            self._drop(next(iter(self._entries)))
            self.evictions += 1
        return True

    def _drop(self, key: str) -> None:
        _, size_bytes = self._entries.pop(key, (None, 0))
        self._used_bytes -= size_bytes
