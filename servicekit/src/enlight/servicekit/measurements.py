"""What a child process measures, on its way to the metrics of its parent, which is the one that is asked for them.

A child sends what came since it sent last, with its status; the parent adds it up. So no figure goes backwards when a
child is started again, and of one that dies only what it did not send is lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

MEASURED = "measured"
"""Where in a worker's status they are; the parent takes them out."""
STAGE_DURATION = "stage_duration_seconds"
"""Name of the histogram of stages, labelled with operation and stage."""
PICTURES = "pictures_total"
"""Name of the counter of pictures made, labelled with the operation."""

Stage = Callable[[str], AbstractContextManager[object]]
"""Measures the time within its block as that of the stage with this name."""


@dataclass(frozen=True)
class Measurement:
    """An amount for a counter, or an observation for a histogram."""

    name: str
    """As `ServiceMetrics` knows it, without the prefix."""
    value: float
    labels: tuple[str, ...]


class Measurements:
    """Collects until somebody takes them. Any thread may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._collected: list[Measurement] = []
        self._reached: dict[tuple[str, tuple[str, ...]], float] = {}

    def add(self, name: str, value: float = 1.0, *labels: str) -> None:
        """One more."""
        with self._lock:
            self._collected.append(Measurement(name, value, labels))

    def reach(self, name: str, total: float, *labels: str) -> None:
        """A count that is kept elsewhere stands at ``total`` now; what it grew by is added."""
        with self._lock:
            grown = total - self._reached.get((name, labels), 0.0)
            if grown > 0:
                self._reached[name, labels] = total
                self._collected.append(Measurement(name, grown, labels))

    @contextmanager
    def stage(self, operation: str, stage: str) -> Iterator[None]:
        """Measures the block, if it comes to its end, as a stage of an operation."""
        began_s = time.monotonic()
        yield
        self.add(STAGE_DURATION, time.monotonic() - began_s, operation, stage)

    def take(self) -> list[Measurement]:
        """What was collected; it begins anew."""
        with self._lock:
            taken, self._collected = self._collected, []
        return taken


def unmeasured(stage: str) -> AbstractContextManager[object]:
    """A `Stage` for whoever runs without a parent that asks."""
    return nullcontext()
