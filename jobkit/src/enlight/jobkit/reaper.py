"""Brings back what got lost: jobs whose worker died, and jobs that the queue forgot."""

from __future__ import annotations

import logging
import threading
import time

from enlight.jobkit.dispatcher import Dispatcher
from enlight.jobkit.job_store import JobStore

_log = logging.getLogger(__name__)


class Reaper:
    """A thread that takes back jobs whose lease ran out and dispatches what waits and is not in the queue.

    Any number of them may run beside each other. It survives every error, and logs a kind of error once until a pass
    succeeds.

    Args:
        store: The jobs.
        dispatcher: The queue.
        interval_s: Time between two passes.
        redispatch_after_s: A queued job is looked for in the queue this long after it was put there.
    """

    def __init__(
        self, store: JobStore, dispatcher: Dispatcher, *, interval_s: float, redispatch_after_s: float = 10.0
    ) -> None:
        self._store = store
        self._dispatcher = dispatcher
        self._interval_s = interval_s
        self._redispatch_after_s = redispatch_after_s
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._failing: set[str] = set()
        self._reap_from_s = 0.0

    def start(self) -> None:
        """Begins, with a pass at once."""
        self._thread = threading.Thread(target=self._work, name="reaper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread and waits for it, which takes as long as a call to the database or the queue may."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def run_once(self) -> None:
        """One pass. Raises: DatabaseUnavailable."""
        if time.monotonic() >= self._reap_from_s:
            for job_id in self._store.reap():
                _log.warning("job %s lost its worker and is queued again", job_id)
        due = self._store.undispatched(self._redispatch_after_s)
        waiting = self._dispatcher.waiting() if due else None
        if waiting is None:
            return
        jobs = self._store.find_many(due)
        for job_id in due:
            # Who was running before has waited before, and goes first.
            ran_before = job_id in jobs and jobs[job_id].attempt > 0
            if job_id in waiting or self._dispatcher.dispatch(job_id, at_front=ran_before):
                self._store.dispatched(job_id)

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                self.run_once()
                self._failing.clear()
            except Exception as error:  # noqa: BLE001 -- whatever it is, the jobs after it need the next pass
                self._on_error(error)
            self._stopping.wait(self._interval_s)

    def _on_error(self, error: Exception) -> None:
        # While the database was away nobody could renew a lease: the workers get the time of one before it is taken.
        self._reap_from_s = time.monotonic() + self._store.lease_s
        kind = type(error).__name__
        if kind not in self._failing:
            self._failing.add(kind)
            _log.error("the reaper goes on after an error", exc_info=error)
