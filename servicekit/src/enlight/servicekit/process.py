"""The parent's side of supervised processes: a worker that is restarted when it dies, and a child per job.

State of a worker::

    STARTING --ready--> READY <--tasks--> BUSY
        ^                 |                 |
        +--- back-off ----+---- it died ----+
        |
        +-- start failed `defunct_after` times in a row --> DEFUNCT --ready (retried)--> READY
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from enlight.servicekit.child import describe
from enlight.servicekit.child_process import ChildProcess
from enlight.servicekit.errors import (
    InternalError,
    JobCancelled,
    QueueFull,
    ServiceError,
    WireError,
    WorkerUnavailable,
    error_from_wire,
)
from enlight.servicekit.frames import Frame, Kind, TaskBody, pack
from enlight.servicekit.job_process import run_job
from enlight.servicekit.logs import current_job_id, current_request_id, current_trace_id
from enlight.servicekit.measurements import MEASURED, Measurement
from enlight.servicekit.tickets import Ticket

__all__ = ["ChildProcess", "RestartPolicy", "Supervisor", "Ticket", "WorkerState", "run_job"]

logger = logging.getLogger(__name__)


class WorkerState(StrEnum):
    """What a supervised worker can do now."""

    STARTING = "starting"
    READY = "ready"
    BUSY = "busy"
    """It works on at least one task."""
    DEFUNCT = "defunct"
    """It does not start (start-ups are still tried, rarely), or it was stopped."""


@dataclass(frozen=True)
class RestartPolicy:
    """When a dead worker is started again."""

    first_delay_s: float = 0.2
    max_delay_s: float = 30.0
    """The delay doubles up to this with each death of a worker that did no work and did not stay up."""
    stable_after_s: float = 10.0
    """A worker that was ready for this long counts as having stayed up."""
    defunct_after: int = 5
    """Start failures in a row."""
    defunct_retry_s: float = 30.0


class Supervisor:
    """Keeps one worker process alive and hands it tasks, at most ``max_pending`` at a time.

    A task is sent to at most one worker: one that was sent to a worker that dies is not sent again.
    """

    def __init__(
        self,
        target: str,
        argument: object,
        *,
        name: str,
        max_pending: int,
        start_timeout_s: float,
        hang_timeout_s: float,
        env: Mapping[str, str] | None = None,
        restart: RestartPolicy | None = None,
    ) -> None:
        """``hang_timeout_s``: a worker that has tasks and sends nothing at all for this long is killed."""
        self._target = target
        self._argument = argument
        self._name = name
        self._max_pending = max_pending
        self._start_timeout_s = start_timeout_s
        self._hang_timeout_s = hang_timeout_s
        self._env = env
        self._restart = restart or RestartPolicy()
        self.on_measured: Callable[[Sequence[Measurement]], None] = lambda measurements: None
        """Is told what the worker measured; to be set before the start."""
        self._ids = itertools.count(1)
        self._changed = threading.Condition(threading.RLock())
        # all below: under self._changed
        self._child: ChildProcess | None = None
        self._ready = False
        self._defunct = False
        self._stopping = False
        self._tickets: dict[int, Ticket] = {}
        self._unsent: dict[int, bytes] = {}
        self._last_activity_s = 0.0
        self._did_work = False
        self._ready_at_s: float | None = None
        self._starts = 0
        self._last_words = ""
        self._last_error: str | None = None
        self._published: Mapping[str, object] = {}
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Starts supervising; returns at once, in state STARTING."""
        with self._changed:
            assert self._thread is None, "a supervisor is started once"
            self._thread = threading.Thread(target=self._run, name=f"{self._name}-supervisor", daemon=True)
            self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Ends the worker: no new tasks, ``grace_s`` for those at hand, then SIGKILL. Safe to call twice."""
        with self._changed:
            self._stopping = True
            self._fail_tickets(list(self._unsent), WorkerUnavailable("The service is shutting down."))
            child, thread = self._child, self._thread
            self._changed.notify_all()
        if child is not None:
            child.send(Frame(Kind.STOP))
            if not child.wait(grace_s):
                logger.warning("%s did not end within %.1f s and is killed", self._name, grace_s)
                child.kill()
        if thread is not None:
            thread.join()

    @property
    def state(self) -> WorkerState:
        """What the worker can do now."""
        with self._changed:
            if self._defunct or self._stopping:
                return WorkerState.DEFUNCT
            if not self._ready:
                return WorkerState.STARTING
            return WorkerState.BUSY if self._tickets else WorkerState.READY

    @property
    def status(self) -> dict[str, object]:
        """The state with its reasons, for ``/ready``: what the worker published, and what is known about it."""
        with self._changed:
            up_s = None if self._ready_at_s is None else round(time.monotonic() - self._ready_at_s, 3)
            return {
                **self._published,
                "state": self.state.value,
                "restarts": max(0, self._starts - 1),
                "last_error": self._last_error,
                "pending": len(self._tickets),
                "running": sum(ticket.begun for ticket in self._tickets.values()),
                "uptime_s": up_s,
            }

    def submit(self, payload: object) -> Ticket:
        """Hands a task to the worker, or keeps it until a starting worker is ready. Never waits for the worker.

        Raises QueueFull when ``max_pending`` tasks are in flight, WorkerUnavailable when the worker does not
        start or is being stopped.
        """
        body = pack(TaskBody(payload, current_request_id(), current_job_id(), current_trace_id()))
        with self._changed:
            if self._stopping:
                raise WorkerUnavailable("The service is shutting down.")
            if self._defunct:
                raise WorkerUnavailable(
                    "The worker does not start. The service tries again from time to time.",
                    retry_after_s=max(1, round(self._restart.defunct_retry_s)),
                )
            if len(self._tickets) >= self._max_pending:
                raise QueueFull(f"{len(self._tickets)} requests are being worked on or waiting; no more may wait.")
            ticket = Ticket(next(self._ids), self._cancel)
            if not self._tickets:
                self._last_activity_s = time.monotonic()
            self._tickets[ticket.id] = ticket
            if self._ready and self._child is not None:
                self._child.send(Frame(Kind.TASK, ticket.id, body))
            else:
                self._unsent[ticket.id] = body
            self._changed.notify_all()
        return ticket

    def _cancel(self, ticket: Ticket) -> None:
        with self._changed:
            if ticket.id in self._unsent:
                self._fail_tickets([ticket.id], JobCancelled("The job was cancelled."))
            elif ticket.id in self._tickets and self._child is not None:
                self._child.send(Frame(Kind.CANCEL, ticket.id))

    def _run(self) -> None:
        """The supervising thread: one turn per worker."""
        start_failures = 0
        quick_deaths = 0
        while True:
            lasted = self._run_worker()
            with self._changed:
                if self._ready_at_s is not None:
                    start_failures = 0
                else:
                    start_failures += 1
                quick_deaths = 0 if lasted else quick_deaths + 1
                self._ready_at_s = None
                if start_failures >= self._restart.defunct_after and not self._defunct:
                    logger.error("%s does not start: %s", self._name, self._last_error)
                    self._defunct = True
                    self._fail_tickets(list(self._tickets), WorkerUnavailable("The worker does not start."))
                delay_s = min(self._restart.max_delay_s, self._restart.first_delay_s * 2.0 ** max(0, quick_deaths - 1))
                if self._defunct:
                    delay_s = self._restart.defunct_retry_s
                if self._changed.wait_for(lambda: self._stopping, delay_s):
                    self._fail_tickets(list(self._tickets), WorkerUnavailable("The service is shutting down."))
                    return

    def _run_worker(self) -> bool:
        """Starts a worker and watches it until its end. True when it worked or stayed up for a while."""
        exited = threading.Event()

        def on_exit() -> None:
            exited.set()
            with self._changed:
                self._changed.notify_all()

        with self._changed:  # held until the child is known: no message of it is handled before
            if self._stopping:
                return True
            self._starts += 1
            self._did_work = False
            self._last_words = ""
            self._published = {}
            started_s = time.monotonic()
            try:
                child = ChildProcess(
                    self._target,
                    self._argument,
                    name=self._name,
                    on_message=self._on_message,
                    on_exit=on_exit,
                    env=self._env,
                )
                child.start()
            except Exception as error:
                logger.exception("%s cannot be started", self._name)
                self._last_error = f"cannot be started: {describe(error)}"
                return False
            self._child = child
        self._watch(child, exited, started_s)
        child.wait()
        with self._changed:
            up_s = 0.0 if self._ready_at_s is None else time.monotonic() - self._ready_at_s
            self._child = None
            self._ready = False
            if not self._stopping:
                self._last_error = self._last_words or child.exit_text()
                logger.error("%s ended: %s", self._name, self._last_error)
            sent = [ticket_id for ticket_id in self._tickets if ticket_id not in self._unsent]
            self._fail_tickets(sent, WorkerUnavailable("The worker stopped while it worked on this request."))
            return self._did_work or up_s >= self._restart.stable_after_s

    def _watch(self, child: ChildProcess, exited: threading.Event, started_s: float) -> None:
        """Returns when the worker ended, or is killed because it does not get ready, or hangs."""
        with self._changed:
            while not exited.is_set():
                if not self._ready:
                    limit_s = started_s + self._start_timeout_s
                    reason = f"not ready after {self._start_timeout_s:g} s"
                elif self._tickets:
                    limit_s = self._last_activity_s + self._hang_timeout_s
                    reason = f"no sign of life for {self._hang_timeout_s:g} s while it had work"
                else:
                    self._changed.wait()
                    continue
                left_s = limit_s - time.monotonic()
                if left_s <= 0:
                    break
                self._changed.wait(left_s)
            else:
                return
            self._last_words = reason
        logger.error("%s is killed: %s", self._name, reason)
        child.kill(dump_stacks=True)

    def _on_message(self, frame: Frame) -> None:
        """Called by the child's reader thread; the next child is started after the last message of this one."""
        try:
            payload = frame.payload()
        except Exception as error:
            logger.error("%s sent a payload that cannot be unpickled", self._name, exc_info=error)
            payload = WireError(InternalError.code, "The worker's answer cannot be read.")
            frame = Frame(Kind.FAIL, frame.task_id)
        with self._changed:
            self._last_activity_s = time.monotonic()
            if frame.kind is Kind.READY:
                self._on_ready()
            elif frame.kind is Kind.STATE:
                published = dict(cast(Mapping[str, object], payload))
                self.on_measured(cast(Sequence[Measurement], published.pop(MEASURED, ())))
                self._published = published
            elif frame.kind is Kind.FATAL:
                self._last_words = cast(str, payload)
            else:
                self._on_task_message(frame, payload)
            self._changed.notify_all()

    def _on_ready(self) -> None:
        if self._ready or self._child is None:
            return
        self._ready = True
        self._defunct = False
        self._ready_at_s = time.monotonic()
        for ticket_id, body in self._unsent.items():
            self._child.send(Frame(Kind.TASK, ticket_id, body))
        self._unsent.clear()

    def _on_task_message(self, frame: Frame, payload: object) -> None:
        self._did_work = True
        ticket = self._tickets.get(frame.task_id)
        if ticket is None:
            return
        if frame.kind is Kind.PROGRESS:
            ticket.report(payload)
        elif frame.kind is Kind.RESULT:
            del self._tickets[ticket.id]
            ticket.finish(payload)
        elif frame.kind is Kind.FAIL:
            del self._tickets[ticket.id]
            ticket.finish(error=error_from_wire(cast(WireError, payload)))

    def _fail_tickets(self, ticket_ids: list[int], error: ServiceError) -> None:
        for ticket_id in ticket_ids:
            self._unsent.pop(ticket_id, None)
            self._tickets.pop(ticket_id).finish(error=type(error)(error.message, retry_after_s=error.retry_after_s))
