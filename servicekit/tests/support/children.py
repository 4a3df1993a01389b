"""Functions that tests run in real child processes."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from enlight.servicekit.child import ChildChannel, Task
from enlight.servicekit.errors import Cancelled, InvalidField, WeightsUnavailable

ENV = {"PYTHONPATH": str(Path(__file__).parent)}
"""What a child needs to find this module."""


def worker(channel: ChildChannel, argument: object) -> None:
    """Answers tasks of the form (command, *arguments), each in a thread of its own."""
    channel.state({"argument": argument})
    channel.ready()
    while not channel.closing:
        task = channel.receive(timeout_s=0.5)
        if task is not None:
            threading.Thread(target=_work, args=(channel, task), daemon=True).start()


def slow_worker(channel: ChildChannel, argument: object) -> None:
    """One task at a time, each takes ``argument`` seconds, whatever happens; an end in order finishes it."""
    channel.ready()
    while (task := channel.receive(timeout_s=None)) is not None:
        time.sleep(float(str(argument)))
        channel.result(task.id, task.payload)


def deaf_worker(channel: ChildChannel, argument: object) -> None:
    channel.ready()
    while True:
        time.sleep(60)


def late_worker(channel: ChildChannel, argument: object) -> None:
    time.sleep(float(str(argument)))
    worker(channel, argument)


def fails_at_start(channel: ChildChannel, argument: object) -> None:
    raise WeightsUnavailable(f"No weights in {argument}.")


def crashes_at_start(channel: ChildChannel, argument: object) -> None:
    os._exit(7)


def never_ready(channel: ChildChannel, argument: object) -> None:
    time.sleep(60)


def crashes_until_file(channel: ChildChannel, argument: object) -> None:
    """Starts only once the file is there."""
    if not Path(str(argument)).exists():
        os._exit(7)
    worker(channel, argument)


def crashes_when_idle(channel: ChildChannel, argument: object) -> None:
    """Gets ready, and dies at once, without having done any work."""
    with Path(str(argument)).open("a") as starts:
        starts.write(f"{time.monotonic()}\n")
    channel.ready()
    time.sleep(0.02)
    os._exit(7)


class Unreadable:
    """Unpickles only in the process that pickled it."""

    def __reduce__(self) -> Any:
        return _only_in, (os.getpid(),)


def _only_in(pid: int) -> None:
    if os.getpid() != pid:
        raise ValueError("not here")


def _work(channel: ChildChannel, task: Task) -> None:
    payload: Any = task.payload
    command, *arguments = payload
    try:
        with task.log_context():
            result = globals()[f"do_{command}"](channel, task, *arguments)
    except (Exception, Cancelled) as error:  # noqa: BLE001 — whatever happens, the task is answered
        channel.fail(task.id, error)
    else:
        if command != "nothing":
            channel.result(task.id, result)


def do_echo(channel: ChildChannel, task: Task, value: object) -> object:
    return value


def do_nothing(channel: ChildChannel, task: Task) -> None:
    """Never answers."""


def do_wait(channel: ChildChannel, task: Task) -> None:
    """Works until it is cancelled."""
    while not channel.cancelled(task.id):
        time.sleep(0.01)
    raise Cancelled


def do_raise_unknown(channel: ChildChannel, task: Task) -> None:
    raise ZeroDivisionError("secret detail")


def do_raise_service_error(channel: ChildChannel, task: Task) -> None:
    raise InvalidField.of("size", "must be a multiple of 8")


def do_return_lambda(channel: ChildChannel, task: Task) -> object:
    return lambda: None


def do_return_unreadable(channel: ChildChannel, task: Task) -> object:
    return Unreadable()


def do_count(channel: ChildChannel, task: Task, steps: int, pause_s: float) -> int:
    for step in range(steps):
        channel.progress(task.id, step)
        time.sleep(pause_s)
    return steps


def do_shout(channel: ChildChannel, task: Task, threads: int, size_bytes: int) -> None:
    """Several threads send large frames at once."""
    bodies = [bytes([number]) * size_bytes for number in range(threads)]
    shouters = [threading.Thread(target=channel.progress, args=(task.id, body)) for body in bodies]
    for shouter in shouters:
        shouter.start()
    for shouter in shouters:
        shouter.join()


def do_answer_twice(channel: ChildChannel, task: Task) -> str:
    channel.result(task.id, "first")
    return "second"


def do_exit(channel: ChildChannel, task: Task, status: int) -> None:
    os._exit(status)


def do_answer_and_exit(channel: ChildChannel, task: Task, size_bytes: int) -> None:
    channel.result(task.id, b"x" * size_bytes)
    os._exit(0)


def do_spin(channel: ChildChannel, task: Task) -> None:
    while True:
        pass


def do_hold_gil(channel: ChildChannel, task: Task) -> None:
    """Blocks in C with the interpreter's lock held: no other thread of this process runs any more."""
    channel.progress(task.id, "now")
    ctypes.PyDLL(None).sleep(60)


def do_close_socket(channel: ChildChannel, task: Task) -> None:
    """A broken child: alive, but not to be talked to any more."""
    channel._on_parent_gone = lambda: None
    socket.socket(fileno=os.dup(channel._connection._connection.fileno())).shutdown(socket.SHUT_RDWR)
    time.sleep(60)


def do_start_process(channel: ChildChannel, task: Task) -> int:
    return subprocess.Popen(["sleep", "60"]).pid


def do_fork_away(channel: ChildChannel, task: Task) -> int:
    """A forked process that leaves the group and keeps the socket open."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        time.sleep(8)
        os._exit(0)
    return pid


def do_environment(channel: ChildChannel, task: Task, name: str) -> str | None:
    return os.environ.get(name)


def do_log(channel: ChildChannel, task: Task) -> None:
    logging.getLogger("child-test").info("hello from the child")


def do_interrupt(channel: ChildChannel, task: Task) -> str:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)
    return "still here"


def do_modules(channel: ChildChannel, task: Task) -> list[str]:
    return sorted(sys.modules)


def job_double(channel: ChildChannel, argument: Any) -> None:
    channel.progress(0, "half way")
    channel.result(0, argument * 2)


def job_raises(channel: ChildChannel, argument: Any) -> None:
    raise argument


def job_ends_silently(channel: ChildChannel, argument: object) -> None:
    pass


def job_until_cancelled(channel: ChildChannel, argument: object) -> None:
    channel.progress(0, os.getpid())
    while not channel.cancelled(0):
        time.sleep(0.01)
    raise Cancelled


def job_until_closing(channel: ChildChannel, argument: object) -> None:
    channel.progress(0, "started")
    while not channel.closing:
        time.sleep(0.01)
    if argument is not None:
        channel.result(0, argument)


def job_stubborn(channel: ChildChannel, argument: object) -> None:
    """Talks all the time and does not listen."""
    child = subprocess.Popen(["sleep", "60"])
    while True:
        channel.progress(0, child.pid)
        time.sleep(0.01)


def job_finishes_anyway(channel: ChildChannel, argument: object) -> None:
    channel.progress(0, "started")
    time.sleep(0.5)
    channel.result(0, "done")


def job_hangs(channel: ChildChannel, argument: object) -> None:
    channel.progress(0, "started")
    time.sleep(60)


def job_killed(channel: ChildChannel, argument: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def job_does_not_end(channel: ChildChannel, argument: object) -> None:
    channel.result(0, os.getpid())
    time.sleep(60)


def job_log(channel: ChildChannel, argument: object) -> None:
    logging.getLogger("job-test").info("hello from the job")
    channel.result(0, None)
