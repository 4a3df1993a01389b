"""How much the process takes on at once: a bound on its threads and its memory, whatever many clients send.

Nobody waits for room: what does not fit is refused, and may come again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from enlight.servicekit.errors import QueueFull


class Places:
    """Requests that may be under way at once."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = threading.BoundedSemaphore(count)

    @contextmanager
    def place(self) -> Iterator[None]:
        """One request's place. Raises QueueFull."""
        if not self._free.acquire(blocking=False):
            raise QueueFull(
                f"The gateway has {self._count} requests under way, as many as it may.",
                details={"limit": self._count},
            )
        try:
            yield
        finally:
            self._free.release()


class ByteBudget:
    """Bytes of bodies and answers that requests share."""

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._lock = threading.Lock()
        self._taken_bytes = 0

    @property
    def taken_bytes(self) -> int:
        """Held now."""
        return self._taken_bytes

    @contextmanager
    def share(self) -> Iterator[BudgetShare]:
        """One request's part, empty at first; given back at the end, whatever happened."""
        share = BudgetShare(self)
        try:
            yield share
        finally:
            self.change(-share.taken_bytes)

    def change(self, by_bytes: int) -> None:
        """Takes bytes, or gives them back when negative. Raises QueueFull."""
        with self._lock:
            if by_bytes > 0 and self._taken_bytes + by_bytes > self._total_bytes:
                raise QueueFull(
                    "The gateway holds as many bytes of pictures as it may; come again when it is less busy.",
                    details={"limit_bytes": self._total_bytes},
                )
            self._taken_bytes += by_bytes


class BudgetShare:
    """What one request holds of the budget."""

    def __init__(self, budget: ByteBudget) -> None:
        self._budget = budget
        self.taken_bytes = 0
        """Held now."""

    def take(self, more_bytes: int) -> None:
        """Takes more. Raises QueueFull."""
        self._budget.change(more_bytes)
        self.taken_bytes += more_bytes

    def give_back(self) -> None:
        """Holds nothing any more; may take again."""
        self._budget.change(-self.taken_bytes)
        self.taken_bytes = 0
