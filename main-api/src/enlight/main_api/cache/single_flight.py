"""One computation per key at a time in this process: whoever asks for the same meanwhile waits for its result."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from enlight.servicekit.errors import ClientGone, ServiceError, error_from_wire, error_to_wire

LOOK_EVERY_S = 0.25
"""How soon a waiting caller notices that its own client left."""

Result = TypeVar("Result")


class SingleFlight(Generic[Result]):
    """Joins equal computations. Results are shared, not copied, and forgotten when the last caller has them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._flights: dict[str, _Flight[Result]] = {}

    @property
    def in_progress(self) -> int:
        """Computations that run now."""
        with self._lock:
            return len(self._flights)

    def run(
        self,
        key: str,
        work: Callable[[], Result],
        *,
        wait_s: float,
        gone: Callable[[], bool] | None = None,
    ) -> tuple[Result, bool]:
        """The result, and whether this call computed it itself (and should keep it).

        A ServiceError of the one that computes reaches all, so that a service that is down is asked once. When that
        one ends for a reason of its own (its client left, a bug), one of the others computes. Who waited ``wait_s``
        computes as well, beside the first. ``gone`` says whether this caller's client left.

        Raises: what ``work`` raises; ClientGone when ``gone`` became true while waiting.
        """
        gives_up_at_s = time.monotonic() + wait_s
        while True:
            with self._lock:
                flight = self._flights.get(key)
                if flight is None:
                    flight = self._flights[key] = _Flight()
                    break
            if not flight.wait(gives_up_at_s, gone):
                return work(), True
            if flight.error is not None:
                raise error_from_wire(error_to_wire(flight.error))  # one of its own: a trace belongs to one thread
            if flight.results:
                return flight.results[0], False
        try:
            result = work()
            flight.results.append(result)
        except ClientGone:
            raise
        except ServiceError as error:
            flight.error = error
            raise
        finally:
            with self._lock:
                del self._flights[key]
            flight.ended.set()
        return result, True


class _Flight(Generic[Result]):
    def __init__(self) -> None:
        self.ended = threading.Event()
        self.results: list[Result] = []
        self.error: ServiceError | None = None

    def wait(self, gives_up_at_s: float, gone: Callable[[], bool] | None) -> bool:
        """True when the computation ended; False when it did not in time. Raises: ClientGone."""
        while not self.ended.is_set():
            left_s = gives_up_at_s - time.monotonic()
            if left_s <= 0:
                return False
            self.ended.wait(min(left_s, LOOK_EVERY_S))
            if gone is not None and not self.ended.is_set() and gone():
                raise ClientGone("The client left while an equal request was computed.")
        return True
