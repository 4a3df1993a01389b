"""One training as the HTTP process sees it: its state, its events, and its record on disk. No torch."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from enlight.dreambooth_api.photo_preflight import PhotoWarning
from enlight.dreambooth_api.requests import TrainingOutcome, TrainingProgress, TrainingRequest
from enlight.servicekit.errors import ServiceError

JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
FINAL_STATES: frozenset[JobState] = frozenset({"succeeded", "failed", "cancelled"})
EVENTS_KEPT = 1000
"""Events of one job that a late reader can still get; older ones are dropped."""


def fingerprint(request: TrainingRequest, photos: Sequence[bytes]) -> str:
    """Identity of a training: equal for, and only for, equal parameters and equal photos in equal order.

    It names the work folder, so that an identical request after a crash finds the checkpoints of the first.
    """
    described = request.identifying() | {"photos": [hashlib.sha256(photo).hexdigest() for photo in photos]}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]


def new_job_id() -> str:
    """A new id; ids sort by time."""
    return f"tr-{time.time_ns() // 1_000_000:013d}-{secrets.token_hex(5)}"


def now() -> str:
    """The time as records and answers state it: ISO 8601, UTC, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class TrainingJob:
    """A training from acceptance to its end. Thread-safe; the state never goes back.

    Args:
        job_id: Unique id.
        fingerprint: Identity of the work (see `fingerprint`).
        request: What to train.
        folder: Work folder, shared by identical jobs.
        detached: Accepted with 202: goes on without its client, and over a restart of the service.
        warnings: What there is to say about the photos for the caller.
        attempt: Trainer processes started so far.
        request_id: Of the request that began it.
    """

    def __init__(
        self,
        job_id: str,
        *,
        fingerprint: str,
        request: TrainingRequest,
        folder: Path,
        detached: bool,
        warnings: tuple[PhotoWarning, ...] = (),
        attempt: int = 0,
        created_at: str | None = None,
        request_id: str | None = None,
    ) -> None:
        self.id = job_id
        self.fingerprint = fingerprint
        self.request = request
        self.folder = folder
        self.detached = detached
        self.warnings = warnings
        self.attempt = attempt
        self.request_id = request_id
        self.created_at = created_at or now()
        self.started_at: str | None = None
        self.finished_at: str | None = None
        self.progress: TrainingProgress | None = None
        self.outcome: TrainingOutcome | None = None
        self.error: ServiceError | None = None
        self.cancel = threading.Event()
        """Set to end the training within one step."""
        self.waiting_clients = 0
        """Clients of the synchronous route; guarded by the queue's lock."""
        self._state: JobState = "queued"
        self._changed = threading.Condition()
        self._events: deque[tuple[int, str, dict[str, Any]]] = deque(maxlen=EVENTS_KEPT)
        self._last_event_id = 0
        self._add_event("state", {"state": "queued"})

    @property
    def state(self) -> JobState:
        """Where the job stands."""
        return self._state

    @property
    def ended(self) -> bool:
        """Whether the job reached its end."""
        return self._state in FINAL_STATES

    def start_attempt(self) -> None:
        """One more trainer process is about to run."""
        with self._changed:
            self.attempt += 1
            self.started_at = self.started_at or now()
            self._state = "running"
            self._add_event("state", {"state": "running", "attempt": self.attempt})

    def report(self, progress: TrainingProgress) -> None:
        """Takes a message of the trainer."""
        with self._changed:
            self.progress = progress
            self._add_event("progress", dataclasses.asdict(progress))

    def succeed(self, outcome: TrainingOutcome) -> None:
        """Ends the job: the model is in the bucket."""
        self.outcome = outcome
        self._end("succeeded", {"model_id": outcome.model_id, "model_version": outcome.version})

    def fail(self, error: ServiceError) -> None:
        """Ends the job with the reason."""
        self.error = error
        self._end("failed", {"error": {"code": error.code, "message": error.message}})

    def end_cancelled(self, error: ServiceError) -> None:
        """Ends the job because somebody asked for it."""
        self.error = error
        self._end("cancelled", {})

    def wait(self, timeout_s: float) -> bool:
        """Waits for the end; true when it is reached."""
        with self._changed:
            return self._changed.wait_for(lambda: self.ended, timeout_s)

    def events(self, after: int, *, idle_s: float) -> Iterator[tuple[int, str, dict[str, Any]] | None]:
        """Events with ids above ``after`` as they come, until the end; ``None`` after each ``idle_s`` of silence."""
        while True:
            with self._changed:
                self._changed.wait_for(partial(self._has_news, after), idle_s)
                fresh = [event for event in self._events if event[0] > after]
                over = self.ended
            yield from fresh
            if fresh:
                after = fresh[-1][0]
            elif over:
                return
            else:
                yield None

    def _has_news(self, after: int) -> bool:
        return self._last_event_id > after or self.ended

    def _end(self, state: JobState, details: Mapping[str, Any]) -> None:
        with self._changed:
            if self.ended:
                return
            self._state = state
            self.finished_at = now()
            self._add_event("state", {"state": state, **details})

    def _add_event(self, name: str, data: dict[str, Any]) -> None:
        with self._changed:
            self._last_event_id += 1
            self._events.append((self._last_event_id, name, data))
            self._changed.notify_all()
