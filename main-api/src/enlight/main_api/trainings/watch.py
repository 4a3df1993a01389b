"""Looks at the trainings that somebody follows: one question to MongoDB for all of them, a few times a second."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from enlight.jobkit.jobs import Job
from enlight.main_api.background import Repeating

FindMany = Callable[[Sequence[str]], Mapping[str, Job]]


class JobWatcher:
    """Keeps the followed jobs fresh for the threads that wait for a change.

    While the database is away nothing changes; the threads go on waiting and see what they missed afterwards.

    Args:
        find_many: The jobs with these ids, as far as there are any; `JobStore.find_many`.
        poll_s: Time between two questions.
    """

    def __init__(self, find_many: FindMany, *, poll_s: float) -> None:
        self._find_many = find_many
        self._changed = threading.Condition()
        self._watched: dict[str, list[WatchedJob]] = {}
        self._stopped = False
        self._poller = Repeating(self._poll, every_s=poll_s, name="training-watch")

    def start(self) -> None:
        """Begins to look."""
        self._poller.start()

    def stop(self) -> None:
        """Ends all waiting."""
        self._poller.ask_to_stop()
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._poller.stop()

    @property
    def watched_count(self) -> int:
        """How many followers there are."""
        with self._changed:
            return sum(map(len, self._watched.values()))

    @contextmanager
    def watch(self, job: Job) -> Iterator[WatchedJob]:
        """Follows ``job`` for the length of the block."""
        watched = WatchedJob(job, self._changed, lambda: self._stopped)
        with self._changed:
            self._watched.setdefault(job.id, []).append(watched)
        try:
            yield watched
        finally:
            with self._changed:
                followers = self._watched[job.id]
                followers.remove(watched)
                if not followers:
                    del self._watched[job.id]

    def _poll(self) -> None:
        with self._changed:
            ids = list(self._watched)
        if not ids:
            return
        jobs = self._find_many(ids)
        with self._changed:
            for job_id in ids:
                for watched in self._watched.get(job_id, ()):
                    watched.latest = jobs.get(job_id)
            self._changed.notify_all()


class WatchedJob:
    """A job and its newest known state."""

    def __init__(self, job: Job, changed: threading.Condition, stopped: Callable[[], bool]) -> None:
        self.latest: Job | None = job
        """None: the job was deleted."""
        self._changed = changed
        self._stopped = stopped

    @property
    def over(self) -> bool:
        """Whether nothing more will come: the job has ended or is gone, or the service stops."""
        return self._stopped() or self.latest is None or self.latest.ended

    def wait_beyond(self, revision: int, timeout_s: float) -> Job | None:
        """The job once its revision is above ``revision``; None when that takes longer, or nothing more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self.over or self._newer(revision) is not None, timeout_s)
            return self._newer(revision)

    def _newer(self, revision: int) -> Job | None:
        return self.latest if self.latest is not None and self.latest.revision > revision else None
