"""Reads of single records that come at the same time, asked of the database together.

Many clients look at their trainings again and again. Each look is answered by a question that began after it came, so
nobody sees an older state than by a question of his own; but whoever comes while a question is under way shares the
next one. After a question that was shared there is a moment's pause, so that the next one is shared by more: a busy
gateway asks a few larger questions instead of a thousand small ones.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from enlight.servicekit.errors import ServiceError, error_from_wire, error_to_wire

PAUSE_S = 0.008
"""About eight questions take as long."""

Record = TypeVar("Record")


class SharedReads(Generic[Record]):
    """Records by id.

    Args:
        find_many: The records with these ids, as far as there are any. One call at a time, and one of each thread that
            reads `together`.
        pause_s: After a question that was shared.
    """

    def __init__(self, find_many: Callable[[Sequence[str]], Mapping[str, Record]], *, pause_s: float = PAUSE_S) -> None:
        self._find_many = find_many
        self._pause_s = pause_s
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._gathering: _Round[Record] | None = None
        self._pauses_until_s = 0.0
        self._of_this_thread = threading.local()

    def find(self, record_id: str) -> Record | None:
        """The record; None when there is none.

        Raises: what ``find_many`` raises. An error of its own kind, such as DatabaseUnavailable, reaches also those who
            came while it failed: their own question would only have waited as long again.
        """
        own: _Round[Record] | None = getattr(self._of_this_thread, "round", None)
        if own is not None and record_id in own.ids:
            joined = own
            if not own.settled.is_set():
                self._ask(own)
        else:
            joined = self._join(record_id)
        if joined.error is not None:
            raise error_from_wire(error_to_wire(joined.error))  # one of its own: a trace belongs to one thread
        return joined.records.get(record_id)

    @contextmanager
    def together(self, record_ids: Iterable[str]) -> Iterator[None]:
        """Within it, this thread's reads of these records share one question, asked when the first of them comes."""
        self._of_this_thread.round = _Round(record_ids)
        try:
            yield
        finally:
            self._of_this_thread.round = None

    def _join(self, record_id: str) -> _Round[Record]:
        with self._lock:
            joined = self._gathering
            leads = joined is None
            if joined is None:
                joined = self._gathering = _Round()
            joined.ids.add(record_id)
            joined.readers += 1
        if leads:
            with self._asking:  # the question before this one is answered
                time.sleep(max(0.0, self._pauses_until_s - time.monotonic()))
                self._ask(joined)
                if joined.readers > 1:
                    self._pauses_until_s = time.monotonic() + self._pause_s
        joined.settled.wait()
        return joined

    def _ask(self, joined: _Round[Record]) -> None:
        with self._lock:
            if joined.settled.is_set():  # by the failure of the question before
                return
            if self._gathering is joined:
                self._gathering = None  # whoever comes from now on belongs to the next one
        try:
            joined.records = self._find_many(sorted(joined.ids))
        except ServiceError as error:
            joined.fail(error)
            self._fail_gathering(error)
        except BaseException as error:
            joined.fail(error)
            raise
        joined.settled.set()

    def _fail_gathering(self, error: ServiceError) -> None:
        with self._lock:
            if self._gathering is not None:
                self._gathering.fail(error)
                self._gathering = None


class _Round(Generic[Record]):
    """Those who share one question."""

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self.ids = set(ids)
        self.readers = 0
        self.records: Mapping[str, Record] = {}
        self.error: BaseException | None = None
        self.settled = threading.Event()

    def fail(self, error: BaseException) -> None:
        """Tells all of them."""
        self.error = error
        self.settled.set()
