"""Threads that use the cache all the time, and what they saw of it."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Uses:
    """What became of the calls; grows while they are made."""

    took_s: list[float] = field(default_factory=list)
    wrong: list[object] = field(default_factory=list)

    def slower_than(self, limit_s: float) -> int:
        """How many calls took longer."""
        return sum(took_s > limit_s for took_s in self.took_s)


@contextmanager
def used_all_the_time(use: Callable[[str], object], keys: Sequence[str], *, threads: int) -> Iterator[Uses]:
    """Calls ``use`` with one key after another in each of the threads, for as long as the block lasts.

    What ``use`` gives is wrong, unless it gives None; what it raises is raised at the end.
    """
    uses, over = Uses(), threading.Event()

    def go_on(first: int) -> None:
        for number in itertools.count(first):
            if over.is_set():
                return
            began_s = time.monotonic()
            wrong = use(keys[number % len(keys)])
            uses.took_s.append(time.monotonic() - began_s)
            if wrong is not None:
                uses.wrong.append(wrong)

    with ThreadPoolExecutor(threads) as pool:
        using = [pool.submit(go_on, number * len(keys) // threads) for number in range(threads)]
        try:
            yield uses
        finally:
            over.set()
        for each in using:
            each.result()
