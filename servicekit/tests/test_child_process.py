"""One child process, without anybody who restarts it."""

from __future__ import annotations

import queue
import signal
import time
from pathlib import Path

import pytest
from children import ENV

from enlight.servicekit.child_process import ChildProcess
from enlight.servicekit.frames import Frame, Kind, TaskBody, pack


def start_child(target: str, messages: queue.SimpleQueue[Frame | None], **options: bool) -> ChildProcess:
    child = ChildProcess(
        f"children:{target}",
        None,
        name=target,
        on_message=messages.put,
        on_exit=lambda: messages.put(None),
        env=ENV,
        **options,
    )
    child.start()
    return child


def test_it_talks_and_ends_when_asked() -> None:
    # Given a child that is ready
    messages: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
    child = start_child("worker", messages)
    kinds = [frame.kind for frame in (messages.get(timeout=10), messages.get(timeout=10)) if frame]
    assert kinds == [Kind.STATE, Kind.READY]

    # When it gets a task and then is asked to end
    child.send(Frame(Kind.TASK, 5, pack(TaskBody(("echo", "hello"), "", ""))))
    answer = messages.get(timeout=10)
    child.send(Frame(Kind.STOP))

    # Then it answers and ends by itself; the end is told once, after the last message
    assert answer is not None
    assert (answer.kind, answer.task_id, answer.payload()) == (Kind.RESULT, 5, "hello")
    assert messages.get(timeout=10) is None
    assert child.wait(10.0)
    assert (child.exit_code, child.exit_text()) == (0, "exit status 0")
    assert messages.empty()


def test_it_can_be_killed_at_any_time_and_often() -> None:
    messages: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
    child = start_child("never_ready", messages)
    assert child.exit_text() == "running"
    child.kill()
    child.kill()
    assert child.wait(5.0)
    child.kill()
    child.send(Frame(Kind.STOP))
    assert child.exit_code == -signal.SIGKILL
    assert child.exit_text() == "killed by SIGKILL"


def test_an_argument_that_cannot_be_pickled_is_refused_before_anything_starts() -> None:
    with pytest.raises(Exception, match=r"pickle|local"):
        ChildProcess("children:worker", lambda: None, name="x", on_message=print, on_exit=lambda: None)


def test_a_message_that_its_owner_cannot_handle_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    # Given an owner with a bug
    def on_message(frame: Frame) -> None:
        raise KeyError("bug")

    child = ChildProcess("children:worker", None, name="worker", on_message=on_message, on_exit=lambda: None, env=ENV)

    # When a message comes, then the child is ended instead of being listened to by nobody
    child.start()
    assert child.wait(10.0)
    assert "KeyError" in caplog.text


def test_it_ends_in_order_where_the_kernel_reaps_children() -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        messages: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        child = start_child("worker", messages)
        child.send(Frame(Kind.STOP))
        assert child.wait(10.0)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_it_goes_first_when_memory_runs_out() -> None:
    messages: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
    child = start_child("worker", messages)
    messages.get(timeout=10)
    ours = int(Path("/proc/self/oom_score_adj").read_text())
    assert int(Path(f"/proc/{child.pid}/oom_score_adj").read_text()) > ours
    child.kill()
    assert child.wait(10.0)


def test_its_end_is_told_after_its_last_message_however_slowly_that_is_handled() -> None:
    # Given an owner that takes its time
    told: list[Kind | None] = []

    def on_message(frame: Frame) -> None:
        time.sleep(0.2)
        told.append(frame.kind)

    # When a child says two things and ends
    child = ChildProcess(
        "children:job_double",
        1,
        name="job",
        on_message=on_message,
        on_exit=lambda: told.append(None),
        env=ENV,
        job=True,
    )
    child.start()

    # Then the owner hears all of them, and then of the end
    assert child.wait(10.0)
    assert told == [Kind.PROGRESS, Kind.RESULT, None]
