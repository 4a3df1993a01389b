"""The requests of each key that are under way in this process: how far they are, and a word to end them."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from enlight.main_api.adapters.a1111.schemas import ProgressAnswer, ProgressState

MAX_REMEMBERED = 1000
ALMOST = 0.95
"""Of a batch that takes longer than the one before."""
BEGUN = 0.01
"""A1111's clients take 0 for: nothing runs."""


@dataclass(frozen=True)
class Batch:
    """What a batch's time depends on."""

    model: str
    pictures: int
    steps: int | None
    size_px: tuple[int | None, int | None]


@dataclass(eq=False)
class Running:
    """One request."""

    route: str
    batch: Batch
    count: int
    """Batches."""
    done: int = 0
    interrupted: bool = False
    began_at: float = field(default_factory=time.time)
    batch_began_s: float = field(default_factory=time.monotonic)


class RunningRequests:
    """Knows them while they run, and for how long batches of their kind took."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, list[Running]] = {}
        self._batch_s: OrderedDict[tuple[str, Batch], float] = OrderedDict()

    @contextmanager
    def request(self, key_id: str, route: str, batch: Batch, count: int) -> Iterator[Running]:
        """One request, of so many batches."""
        running = Running(route, batch, count)
        with self._lock:
            self._running.setdefault(key_id, []).append(running)
        try:
            yield running
        finally:
            with self._lock:
                self._running[key_id].remove(running)
                if not self._running[key_id]:
                    del self._running[key_id]

    def batch_done(self, key_id: str, running: Running) -> None:
        """One batch more is there."""
        with self._lock:
            now_s = time.monotonic()
            kind = key_id, running.batch
            self._batch_s[kind] = now_s - running.batch_began_s
            self._batch_s.move_to_end(kind)
            while len(self._batch_s) > MAX_REMEMBERED:
                self._batch_s.popitem(last=False)
            running.done += 1
            running.batch_began_s = now_s

    def interrupt(self, key_id: str) -> None:
        """No further batch of the key's requests is begun; what is being made is finished, and answered."""
        with self._lock:
            for running in self._running.get(key_id, ()):
                running.interrupted = True

    def progress(self, key_id: str) -> ProgressAnswer:
        """How far the key's requests are, all together."""
        with self._lock:
            running = list(self._running.get(key_id, ()))
            known_s = [self._batch_s.get((key_id, each.batch)) for each in running]
            parts = [_part(each, batch_s) for each, batch_s in zip(running, known_s, strict=True)]
            count, done = sum(each.count for each in running), sum(each.done for each in running)
        left_s = [
            (each.count - each.done - part) * batch_s
            for each, batch_s, part in zip(running, known_s, parts, strict=True)
            if batch_s is not None
        ]
        return ProgressAnswer(
            progress=min(1.0, max(BEGUN, (done + sum(parts)) / count)) if running else 0.0,
            eta_relative=max(left_s, default=0.0),
            state=ProgressState(
                skipped=False,
                interrupted=any(each.interrupted for each in running),
                stopping_generation=any(each.interrupted for each in running),
                job=running[0].route if running else "",
                job_count=count,
                job_timestamp=time.strftime("%Y%m%d%H%M%S", time.gmtime(running[0].began_at)) if running else "0",
                job_no=done,
                sampling_steps=(running[0].batch.steps or 0) if running else 0,
            ),
        )


def _part(running: Running, batch_s: float | None) -> float:
    """How much of the batch that is being made is there, by the time that one took."""
    if batch_s is None or running.done >= running.count:
        return 0.0
    return min(ALMOST, (time.monotonic() - running.batch_began_s) / max(batch_s, 1e-3))
