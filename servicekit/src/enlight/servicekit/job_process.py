"""A job in a child process of its own: one task, one answer, cancelled by an event."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import cast

from enlight.servicekit.child_process import ChildProcess
from enlight.servicekit.errors import (
    InternalError,
    JobCancelled,
    ServiceError,
    WireError,
    WorkerUnavailable,
    error_from_wire,
)
from enlight.servicekit.frames import JOB_TASK_ID, Frame, Kind

logger = logging.getLogger(__name__)

POLL_S = 0.05


def run_job(
    target: str,
    argument: object,
    *,
    on_progress: Callable[[object], None],
    cancel: threading.Event,
    cancel_grace_s: float,
    closing: threading.Event | None = None,
    env: Mapping[str, str] | None = None,
    hang_timeout_s: float | None = None,
    exit_grace_s: float = 10.0,
    name: str = "job",
) -> object:
    """Runs ``target`` (``module:function``) in a child and returns what it passed to ``channel.result(0, ...)``.

    ``on_progress`` is called in this thread. When ``cancel`` is set, the child sees ``channel.cancelled(0)``; it is
    killed ``cancel_grace_s`` later. When ``closing`` is set, the child sees ``channel.closing``: it ends by itself,
    with what it has, or is killed after the same grace. A child that sends nothing for ``hang_timeout_s`` is killed as
    well, and one that does not end within ``exit_grace_s`` of its answer. However this ends, the child and what it
    started are gone.

    Raises:
        JobCancelled: it was cancelled and gave no result.
        WorkerUnavailable: the child was killed, by the kernel (memory) or for a hang, or cannot be started, or was
            asked to end by ``closing``.
        ServiceError: the child's own error; InternalError for one that is not a ServiceError.
    """
    messages: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
    child = ChildProcess(
        target,
        argument,
        name=name,
        on_message=messages.put,
        on_exit=lambda: messages.put(None),
        env=env,
        job=True,
    )
    try:
        child.start()
    except OSError as error:
        raise WorkerUnavailable(f"The machine cannot start a process: {error.strerror}.") from error
    try:
        answer = _follow(child, messages, on_progress, cancel, closing, cancel_grace_s, hang_timeout_s)
        if not child.wait(exit_grace_s):
            logger.warning("%s has answered but does not end; it is killed", name)
    finally:
        child.kill()
        child.wait()
    if answer is None:
        raise _ended_without_answer(child)
    try:
        payload = answer.payload()
    except Exception as error:
        raise InternalError("The job's answer cannot be read.") from error
    if answer.kind is Kind.FAIL:
        raise error_from_wire(cast(WireError, payload))
    return payload


def _follow(
    child: ChildProcess,
    messages: queue.SimpleQueue[Frame | None],
    on_progress: Callable[[object], None],
    cancel: threading.Event,
    closing: threading.Event | None,
    cancel_grace_s: float,
    hang_timeout_s: float | None,
) -> Frame | None:
    """The RESULT or FAIL frame; None when the child ended without one. Raises JobCancelled, WorkerUnavailable."""
    kill_at_s: float | None = None
    close_by_s: float | None = None
    last_message_s = time.monotonic()
    while True:
        if closing is not None and closing.is_set() and close_by_s is None:
            close_by_s = time.monotonic() + cancel_grace_s
            child.send(Frame(Kind.STOP))
        if close_by_s is not None and time.monotonic() >= close_by_s:
            raise WorkerUnavailable("The service is stopping, and the job did not end in time.")
        if cancel.is_set() and kill_at_s is None:
            kill_at_s = time.monotonic() + cancel_grace_s
            child.send(Frame(Kind.CANCEL, JOB_TASK_ID))
        if kill_at_s is not None and time.monotonic() >= kill_at_s:
            raise JobCancelled("The job was cancelled.")
        try:
            frame = messages.get(timeout=POLL_S)
        except queue.Empty:
            now_s = time.monotonic()
            if hang_timeout_s is not None and now_s - last_message_s > hang_timeout_s:
                child.kill(dump_stacks=True)
                raise WorkerUnavailable(f"The job gave no sign of life for {hang_timeout_s:g} s.") from None
            continue
        if frame is None:
            if kill_at_s is not None:
                raise JobCancelled("The job was cancelled.")
            if close_by_s is not None:
                raise WorkerUnavailable("The service is stopping, and the job ended without a result.")
            return None
        last_message_s = time.monotonic()
        if frame.kind in (Kind.RESULT, Kind.FAIL):
            return frame
        if frame.kind is Kind.PROGRESS:
            on_progress(frame.payload())


def _ended_without_answer(child: ChildProcess) -> ServiceError:
    code = child.exit_code
    if code is not None and code < 0:
        return WorkerUnavailable(f"The job's process was {child.exit_text()}.")
    return InternalError(f"The job's process ended without a result ({child.exit_text()}).")
