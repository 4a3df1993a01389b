"""Work on a picture's rows or columns, spread over the cores.

Threads do: Pillow, numpy, OpenCV and zlib compute outside of Python's lock.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


class Strips:
    """A pool of threads that requests share.

    Args:
        threads: At least 1.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="strip")

    def map(self, work: Callable[[int, int], T], lines: int, *, per_thread: int = 1, least_lines: int = 1) -> list[T]:
        """``work(first, end)`` of strips that together are ``lines`` rows or columns, in their order.

        ``per_thread`` is how many strips there are for each thread: more where some may cost more than others.
        ``least_lines`` keeps strips from being too short; a single one is done in the caller's thread.
        """
        count = max(1, min(self.threads * per_thread, lines // least_lines))
        if count == 1:
            return [work(0, lines)]
        edges = [lines * number // count for number in range(count + 1)]
        return list(self._pool.map(work, edges[:-1], edges[1:]))


@functools.cache
def shared_strips() -> Strips:
    """The strips of whoever needs no threads of their own: as many as there are cores."""
    return Strips(core_count())
