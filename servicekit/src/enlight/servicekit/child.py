"""The child's side of a supervised process: ``python -m enlight.servicekit.child <module:function> <fd> <lifeline>``.

The function is called as ``function(channel, argument)`` in the main thread. A worker loops over
``channel.receive()``; a job (``process.run_job``) has one task, id 0, which is its argument.

A child never outlives its parent. The parent holds one end of a pipe, the lifeline; when it is gone, however it
died, the kernel kills the child's process group at once, even while the interpreter is blocked (``F_SETSIG``), and
where the kernel cannot, the reader thread sees the end of the socket and does the same.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import importlib
import logging
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import cast

from enlight.servicekit.errors import Cancelled, InternalError, ServiceError, WorkerUnavailable, error_to_wire
from enlight.servicekit.frames import (
    JOB_TASK_ID,
    Frame,
    FrameConnection,
    Hello,
    Kind,
    TaskBody,
    error_frame,
    pack,
    unpack,
)
from enlight.servicekit.logs import configure_logging, log_context

logger = logging.getLogger(__name__)

HANG_DUMP_SIGNAL = signal.SIGUSR2
"""Makes the child write the stack of each of its threads to standard error."""


OOM_SCORE = "500"
"""Added to the kernel's measure of whom to kill when memory runs out; in [-1000, 1000]."""


@dataclass(frozen=True)
class Task:
    """One unit of work. Each task is answered once, by ``result`` or by ``fail``."""

    id: int
    payload: object
    request_id: str = ""
    job_id: str = ""
    arrived_s: float = field(default_factory=time.monotonic)
    trace_id: str = ""

    @contextmanager
    def log_context(self) -> Iterator[None]:
        """Within it, this thread's log lines carry the ids under which the task was submitted."""
        with log_context(request_id=self.request_id, job_id=self.job_id, trace_id=self.trace_id):
            yield


class ChildChannel:
    """What a child talks to its parent through. Every method may be called from any thread."""

    def __init__(
        self, connection: FrameConnection, *, job: bool = False, on_parent_gone: Callable[[], None] | None = None
    ) -> None:
        self._connection = connection
        self._on_parent_gone = on_parent_gone or kill_own_group
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._job = job
        self._open = {JOB_TASK_ID} if job else set[int]()
        self._cancelled: set[int] = set()
        self._closing = threading.Event()
        threading.Thread(target=self._read, name="channel-reader", daemon=True).start()

    @property
    def closing(self) -> bool:
        """True once the parent asked this child to end; tasks at hand may still be answered."""
        return self._closing.is_set()

    def ready(self) -> None:
        """Says that the set-up is done and tasks are welcome."""
        self._connection.send(Frame(Kind.READY))

    def receive(self, timeout_s: float | None) -> Task | None:
        """The next task; None when none came in time, or when the parent asked this child to end.

        0 does not wait, None waits for ever. A task that was cancelled while it waited is answered here and
        never returned.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.closing:
            wait_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            try:
                task = self._tasks.get(timeout=wait_s) if wait_s != 0.0 else self._tasks.get_nowait()
            except queue.Empty:
                return None
            if task is None:
                return None
            if not self.cancelled(task.id):
                return task
            self.fail(task.id, Cancelled())
        return None

    def cancelled(self, task_id: int) -> bool:
        """True when nobody wants this task's result any more."""
        with self._lock:
            return task_id in self._cancelled

    def progress(self, task_id: int, payload: object) -> None:
        """Tells how far a task is. It also tells the parent that this child does not hang."""
        self._connection.send(Frame(Kind.PROGRESS, task_id, pack(payload)))

    def result(self, task_id: int, payload: object) -> None:
        """Answers a task. A result that cannot be pickled fails the task; a second answer is dropped."""
        try:
            frame = Frame(Kind.RESULT, task_id, pack(payload))
        except Exception as error:
            logger.exception("The result of task %d cannot be pickled", task_id)
            frame = error_frame(task_id, error_to_wire(error))
        self._answer(frame)

    def fail(self, task_id: int, error: BaseException) -> None:
        """Answers a task with an error: a ServiceError as it is, any other as InternalError (its trace is logged)."""
        if not isinstance(error, ServiceError | Cancelled):
            logger.error("Task %d failed", task_id, exc_info=error)
        self._answer(error_frame(task_id, error_to_wire(error)))

    def state(self, mapping: Mapping[str, object]) -> None:
        """Publishes a small status that replaces the last one; the parent shows it under ``/ready``."""
        self._connection.send(Frame(Kind.STATE, 0, pack(dict(mapping))))

    def finish(self, error: BaseException | None) -> None:
        """Last words of a child that is about to end, because of ``error`` or because its function returned.

        A job's error answers the job. A worker's tasks are left to the parent, which sees the worker end.
        """
        if error is not None and not isinstance(error, Cancelled):
            self._connection.send(Frame(Kind.FATAL, 0, pack(describe(error))))
        if self._job:
            stopped = WorkerUnavailable("The job was stopped before its end.")
            cause = error or (stopped if self.closing else InternalError("The job ended without a result."))
            self._answer(error_frame(JOB_TASK_ID, error_to_wire(cause)))

    def _answer(self, frame: Frame) -> None:
        with self._lock:
            if frame.task_id not in self._open:
                return
            self._open.discard(frame.task_id)
            self._cancelled.discard(frame.task_id)
        self._connection.send(frame)

    def _read(self) -> None:
        """Drains the socket whatever the main thread does, so that the parent's sends never wait for work."""
        try:
            while True:
                self._take(self._connection.receive())
        except (EOFError, OSError):
            self._on_parent_gone()

    def _take(self, frame: Frame) -> None:
        if frame.kind is Kind.TASK:
            with self._lock:
                self._open.add(frame.task_id)
            try:
                body = frame.payload()
                assert isinstance(body, TaskBody)
            except Exception as error:  # noqa: BLE001 — a payload may fail in any way; its sender gets an answer
                self.fail(frame.task_id, error)
            else:
                self._tasks.put(Task(frame.task_id, body.payload, body.request_id, body.job_id, trace_id=body.trace_id))
        elif frame.kind is Kind.CANCEL:
            with self._lock:
                if frame.task_id in self._open:
                    self._cancelled.add(frame.task_id)
        elif frame.kind is Kind.STOP:
            self._closing.set()
            self._tasks.put(None)  # wakes receive()


def describe(error: BaseException) -> str:
    """An error in one short line for operators: no trace, no line breaks."""
    text = error.message if isinstance(error, ServiceError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:500]


def kill_own_group() -> None:
    """Ends this process and those that it started, now. Nothing is cleaned up: the parent is already gone."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def hold_lifeline(lifeline: int) -> None:
    """Has the kernel kill this process group when the other end of the pipe closes."""
    with contextlib.suppress(OSError):  # where the kernel does not know this, the reader thread does it
        if os.getpgrp() != os.getpid():
            return
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | fcntl.FASYNC)


def main(arguments: list[str]) -> int:
    """Runs the target until it returns. Exit status 0, or 1 when it raised."""
    target, descriptor, lifeline = arguments[0], int(arguments[1]), int(arguments[2])
    for inherited in (descriptor, lifeline):  # a process that the target starts must not keep them open
        fcntl.fcntl(inherited, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    hold_lifeline(lifeline)
    with contextlib.suppress(OSError):  # when memory runs out, it is this process that goes, not its parent
        Path("/proc/self/oom_score_adj").write_text(OOM_SCORE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its children in order
    faulthandler.enable()
    faulthandler.register(HANG_DUMP_SIGNAL, all_threads=True)
    connection = FrameConnection(Connection(descriptor))
    try:
        frame = connection.receive()
    except (EOFError, OSError):
        kill_own_group()
    hello = cast(Hello, frame.payload())
    if hello.log_service:
        configure_logging(hello.log_service, hello.log_level)
    channel = ChildChannel(connection, job=hello.job)
    with log_context(request_id=hello.request_id, job_id=hello.job_id, trace_id=hello.trace_id):
        try:
            _find(target)(channel, unpack(hello.argument))
        except Exception as error:
            if not isinstance(error, ServiceError):
                logger.exception("%s ended with an error", hello.name)
            channel.finish(error)
            return 1
        except Cancelled as error:
            channel.finish(error)
        else:
            channel.finish(None)
        return 0


def _find(target: str) -> Callable[[ChildChannel, object], None]:
    module, _, function = target.partition(":")
    return cast(Callable[[ChildChannel, object], None], getattr(importlib.import_module(module), function))


if __name__ == "__main__":
    # Not main() of this copy, which is called __main__: the target imports the module under its real name, and
    # there must be one ChildChannel and one Cancelled.
    sys.exit(importlib.import_module("enlight.servicekit.child").main(sys.argv[1:]))
