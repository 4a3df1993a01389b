"""Watches from outside, all the time, that a cache stays within its quota."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from model_samples import cache_bytes


class QuotaWatch:
    """A context in which a thread counts the cache's bytes again and again; its end asserts that all was well."""

    def __init__(self, cache: Path, quota_bytes: int) -> None:
        self._cache = cache
        self._quota_bytes = quota_bytes
        self.most_bytes = 0
        self.looks = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._done.is_set():
            self.most_bytes = max(self.most_bytes, cache_bytes(self._cache))
            self.looks += 1
            time.sleep(0.001)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        if error is None:
            assert self.most_bytes <= self._quota_bytes, f"{self.most_bytes} bytes of {self._quota_bytes}"
            assert self.looks > 0
