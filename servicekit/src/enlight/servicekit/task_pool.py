"""The worker's side of a service that turns pictures into pictures: tasks in a pool of threads, each answered once."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial

from enlight.servicekit.child import ChildChannel, Task
from enlight.servicekit.errors import Cancelled
from enlight.servicekit.measurements import (
    MEASURED,
    PICTURES,
    STAGE_DURATION,
    Measurements,
    Stage,
    unmeasured,
)

POLL_S = 0.1
"""How soon the end of the service is noticed."""
SIGN_OF_LIFE_S = 1.0
"""A running task tells the parent at most this often that it does not hang."""
BROKEN_EXIT_S = 5.0
"""A process with a broken CUDA context may hang in its own tear-down; it gets this long."""


class WorkerBroken(Exception):  # noqa: N818 -- named for what happened, as the errors are
    """This process is of no use any more (its GPU failed): it ends, and the parent starts another."""


class RunningTask:
    """What a handler gets: the payload, a way to hear that nobody waits for the answer any more, and a clock."""

    def __init__(self, channel: ChildChannel, task: Task, stage: Stage = unmeasured) -> None:
        self._channel = channel
        self._task = task
        self._stage = stage
        self._told_s = 0.0

    @property
    def payload(self) -> object:
        """What was submitted."""
        return self._task.payload

    def check(self) -> None:
        """For between two units of work, such as tiles or steps.

        Raises:
            Cancelled: nobody waits for the answer.
        """
        if self._channel.cancelled(self._task.id):
            raise Cancelled
        now_s = time.monotonic()
        if now_s - self._told_s >= SIGN_OF_LIFE_S:
            self._told_s = now_s
            self._channel.progress(self._task.id, None)

    def stage(self, name: str) -> AbstractContextManager[object]:
        """Measures the block as a stage of the work."""
        return self._stage(name)

    def progress(self, payload: object) -> None:
        """Tells the parent how far the task is."""
        self._told_s = time.monotonic()
        self._channel.progress(self._task.id, payload)


def serve_tasks(
    channel: ChildChannel,
    handle: Callable[[RunningTask], object],
    *,
    threads: int,
    state: Callable[[], Mapping[str, object]],
    operation: str = "task",
) -> None:
    """Runs each task through ``handle`` in one of ``threads`` threads until the parent asks this process to end.

    What ``handle`` returns or raises is the task's answer. ``state`` is published after each task, and shown under
    ``/ready``. No more tasks are taken from the channel than threads are free, so that a task that is cancelled
    while it waits never begins. ``operation`` is the name under which stages and answers are measured.

    Raises:
        WorkerBroken: a handler raised it; the process has to end, and the parent answers what is in flight.
    """
    _TaskPool(channel, handle, state, operation).serve(threads)


class _TaskPool:
    def __init__(
        self,
        channel: ChildChannel,
        handle: Callable[[RunningTask], object],
        state: Callable[[], Mapping[str, object]],
        operation: str,
    ) -> None:
        self._channel = channel
        self._handle = handle
        self._state = state
        self._operation = operation
        self._measurements = Measurements()
        self._broken: WorkerBroken | None = None
        self._changed = threading.Condition()

    def serve(self, threads: int) -> None:
        workers = [threading.Thread(target=self._work, name=f"task-{number}", daemon=True) for number in range(threads)]
        self._publish()
        self._channel.ready()
        for worker in workers:
            worker.start()
        for worker in workers:
            while worker.is_alive() and self._broken is None:
                worker.join(POLL_S)
        if self._broken is not None:
            _exit_soon()
            raise self._broken

    def _work(self) -> None:
        while not self._channel.closing and self._broken is None:
            task = self._channel.receive(POLL_S)
            if task is not None:
                with task.log_context():
                    self._answer(task)
                self._publish()

    def _publish(self) -> None:
        self._channel.state({**self._state(), MEASURED: self._measurements.take()})

    def _answer(self, task: Task) -> None:
        self._measurements.add(STAGE_DURATION, time.monotonic() - task.arrived_s, self._operation, "queued")
        try:
            result = self._handle(RunningTask(self._channel, task, partial(self._measurements.stage, self._operation)))
        except WorkerBroken as error:
            # Answered by the parent, when this process is gone: whoever tries again then meets a new one.
            self._broken = error
        except (Exception, Cancelled) as error:  # noqa: BLE001 -- the task must be answered whatever went wrong
            self._channel.fail(task.id, error)
        else:
            self._measurements.add(PICTURES, 1, self._operation)
            self._channel.result(task.id, result)


def _exit_soon() -> None:
    timer = threading.Timer(BROKEN_EXIT_S, os._exit, [1])
    timer.daemon = True
    timer.start()
