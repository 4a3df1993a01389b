"""A training's events as a caller follows them: what changed between two looks at its record."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any, cast

from enlight.dreambooth_api.training_events import EventStreams
from enlight.dreambooth_api.training_jobs import TrainingJob
from enlight.jobkit.jobs import Job
from enlight.main_api.trainings.samples import sample_views
from enlight.main_api.trainings.views import state_event
from enlight.main_api.trainings.watch import JobWatcher

Event = tuple[int, str, dict[str, Any]]


class TrainingEvents:
    """Opens event streams. The id of an event is the revision of the job's record.

    A record holds what is now, not what was: a reader that comes late, or comes back, gets one `state` and one
    `progress` that say where the training stands, a `sample` for each there is, and then what changes.

    Args:
        watcher: Looks at the trainings.
        max_streams: Streams open at once; each one holds an HTTP thread.
    """

    def __init__(self, watcher: JobWatcher, max_streams: int) -> None:
        self._watcher = watcher
        self._streams = EventStreams(max_streams)

    def open(self, job: Job, last_event_id: str | None) -> Iterator[bytes]:
        """The server-sent events of ``job`` after ``last_event_id``, until it ends.

        Raises:
            InvalidRequest: ``last_event_id`` is not one of ours.
            QueueFull: too many streams are open.
        """
        followed = FollowedTraining(job, self._watcher)
        # All that a stream asks of a job is its `events`.
        return _ClosingStream(self._streams.open(cast(TrainingJob, followed), last_event_id), followed)


class FollowedTraining:
    """A training whose events are made from its record as it changes."""

    def __init__(self, job: Job, watcher: JobWatcher) -> None:
        self._job = job
        self._watcher = watcher
        self._events: Generator[Event | None, None, None] | None = None

    def events(self, after: int, *, idle_s: float) -> Iterator[Event | None]:
        """Events with ids above ``after`` as they come, until the end; ``None`` after each ``idle_s`` of silence."""
        self._events = self._follow(after, idle_s)
        return self._events

    def close(self) -> None:
        """Looks at the job no more."""
        if self._events is not None:
            self._events.close()

    def _follow(self, after: int, idle_s: float) -> Generator[Event | None, None, None]:
        if after > self._job.revision:
            after = 0  # an id that this record never gave: everything is news
        told: Job | None = None
        with self._watcher.watch(self._job) as watched:
            while True:
                job = watched.wait_beyond(after, idle_s)
                if job is not None:
                    yield from _news(told, job)
                    told, after = job, job.revision
                elif watched.over:
                    return
                else:
                    yield None


class _ClosingStream(Iterator[bytes]):
    """A stream whose job is watched no longer than the stream is open."""

    def __init__(self, stream: Iterator[bytes], followed: FollowedTraining) -> None:
        self._stream = stream
        self._followed = followed

    def __next__(self) -> bytes:
        return next(self._stream)

    def close(self) -> None:
        """Called by the WSGI server when the response ends, however it ends."""
        self._followed.close()
        self._stream.close()  # type: ignore[attr-defined]  # the stream's class is the module's own


def _news(told: Job | None, job: Job) -> list[Event]:
    events: list[tuple[str, dict[str, Any]]] = []
    if job.progress is not None and (told is None or told.progress != job.progress):
        events.append(("progress", job.progress))
    known = sample_views(told) if told is not None else []
    events += [("sample", sample) for sample in sample_views(job) if sample not in known]
    if told is None or state_event(told) != state_event(job):
        # First, for it says what the others belong to; but an end is the last that one hears.
        events.insert(len(events) if job.ended else 0, ("state", state_event(job)))
    # Only the last event carries the revision: whoever is cut off between them gets all of them again.
    first_id = job.revision - len(events) + 1
    return [(first_id + index, name, data) for index, (name, data) in enumerate(events)]
