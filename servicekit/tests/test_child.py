"""The child's side: the channel in this process, and the end of a child whose parent is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from waiting import is_running, wait_until

from enlight.servicekit.child import ChildChannel, describe
from enlight.servicekit.errors import Cancelled, InternalError, NotFound, WireError
from enlight.servicekit.frames import Frame, FrameConnection, Kind, TaskBody, pack

SUPPORT = Path(__file__).parent / "support"


@dataclass
class Pair:
    """A channel in this process, and the parent's end of it."""

    channel: ChildChannel
    parent: FrameConnection
    parent_gone: threading.Event

    def give(self, task_id: int, payload: object) -> None:
        self.parent.send(Frame(Kind.TASK, task_id, pack(TaskBody(payload, "request", "job"))))


def make_pair(*, job: bool = False) -> Pair:
    ours, theirs = socket.socketpair()
    gone = threading.Event()
    channel = ChildChannel(FrameConnection(Connection(theirs.detach())), job=job, on_parent_gone=gone.set)
    return Pair(channel, FrameConnection(Connection(ours.detach())), gone)


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = make_pair()
    yield pair
    pair.parent.close()
    pair.parent_gone.wait(5.0)
    pair.channel._connection.close()


@pytest.fixture
def job_pair() -> Iterator[Pair]:
    pair = make_pair(job=True)
    yield pair
    pair.parent.close()
    pair.parent_gone.wait(5.0)
    pair.channel._connection.close()


class TestReceive:
    def test_a_task_has_its_id_payload_and_log_ids(self, pair: Pair) -> None:
        pair.give(7, {"prompt": "a dog"})
        task = pair.channel.receive(timeout_s=5.0)
        assert task is not None
        assert (task.id, task.payload, task.request_id, task.job_id) == (7, {"prompt": "a dog"}, "request", "job")

    @pytest.mark.parametrize("timeout_s", [0.0, 0.05])
    def test_none_when_there_is_no_task_in_time(self, pair: Pair, timeout_s: float) -> None:
        started_s = time.monotonic()
        assert pair.channel.receive(timeout_s) is None
        assert timeout_s <= time.monotonic() - started_s < 1.0
        assert not pair.channel.closing

    def test_a_stop_ends_the_waiting(self, pair: Pair) -> None:
        timer = threading.Timer(0.1, lambda: pair.parent.send(Frame(Kind.STOP)))
        timer.start()
        assert pair.channel.receive(timeout_s=None) is None
        assert pair.channel.closing
        pair.give(1, "late")
        assert pair.channel.receive(timeout_s=None) is None

    def test_a_task_cancelled_while_it_waits_is_answered_and_not_returned(self, pair: Pair) -> None:
        pair.give(1, "cancelled")
        pair.parent.send(Frame(Kind.CANCEL, 1))
        pair.give(2, "wanted")
        wait_until(lambda: pair.channel.cancelled(1))
        task = pair.channel.receive(timeout_s=5.0)
        assert task is not None
        assert task.id == 2
        answer = pair.parent.receive()
        assert (answer.kind, answer.task_id) == (Kind.FAIL, 1)
        assert isinstance(wire := answer.payload(), WireError)
        assert wire.code == "job_cancelled"


class TestAnswer:
    def test_it_goes_out_once(self, pair: Pair) -> None:
        pair.give(1, None)
        pair.channel.receive(timeout_s=5.0)
        pair.channel.result(1, "first")
        pair.channel.result(1, "second")
        pair.channel.fail(1, NotFound("third"))
        pair.channel.result(99, "nobody asked")
        pair.channel.ready()
        assert pair.parent.receive().payload() == "first"
        assert pair.parent.receive().kind is Kind.READY

    def test_an_answered_task_is_forgotten(self, pair: Pair) -> None:
        pair.give(1, None)
        pair.channel.receive(timeout_s=5.0)
        pair.parent.send(Frame(Kind.CANCEL, 1))
        assert wait_until(lambda: pair.channel.cancelled(1))
        pair.channel.fail(1, Cancelled())
        assert not pair.channel.cancelled(1)
        pair.parent.send(Frame(Kind.CANCEL, 1))
        time.sleep(0.05)
        assert not pair.channel.cancelled(1)
        assert not pair.channel._open

    def test_an_unknown_error_is_logged_with_its_trace_and_sent_without(
        self, pair: Pair, caplog: pytest.LogCaptureFixture
    ) -> None:
        pair.give(1, None)
        pair.channel.receive(timeout_s=5.0)
        try:
            raise ZeroDivisionError("secret")
        except ZeroDivisionError as error:
            pair.channel.fail(1, error)
        wire = pair.parent.receive().payload()
        assert isinstance(wire, WireError)
        assert wire.code == InternalError.code
        assert "secret" not in wire.message
        assert "ZeroDivisionError: secret" in caplog.text

    def test_an_expected_error_is_not_logged(self, pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
        pair.give(1, None)
        pair.channel.receive(timeout_s=5.0)
        pair.channel.fail(1, NotFound("no such model"))
        assert caplog.records == []

    def test_state_is_a_plain_mapping(self, pair: Pair) -> None:
        pair.channel.state({"models": 3})
        frame = pair.parent.receive()
        assert (frame.kind, frame.payload()) == (Kind.STATE, {"models": 3})


class TestFinish:
    def test_a_job_without_a_result_fails(self, job_pair: Pair) -> None:
        job_pair.channel.finish(None)
        wire = job_pair.parent.receive().payload()
        assert isinstance(wire, WireError)
        assert "without a result" in wire.message

    def test_a_jobs_error_is_its_answer(self, job_pair: Pair) -> None:
        job_pair.channel.finish(NotFound("no photos"))
        assert job_pair.parent.receive().payload() == "no photos"
        wire = job_pair.parent.receive().payload()
        assert wire == WireError("not_found", "no photos")

    def test_a_workers_tasks_are_left_to_the_parent(self, pair: Pair) -> None:
        pair.give(1, None)
        pair.channel.receive(timeout_s=5.0)
        pair.channel.finish(ValueError("two\nlines"))
        pair.channel.ready()
        assert pair.parent.receive().payload() == "ValueError: two lines"
        assert pair.parent.receive().kind is Kind.READY


def test_describe_is_one_short_line() -> None:
    assert describe(NotFound("No such\n model.")) == "No such model."
    assert len(describe(ValueError("x" * 10_000))) == 500


class TestParentGone:
    def test_the_end_of_the_socket_is_noticed(self, pair: Pair) -> None:
        pair.parent.close()
        assert pair.parent_gone.wait(1.0)

    @pytest.mark.parametrize("command", ["idle", "spin", "hold_gil", "start_process"])
    def test_a_child_whose_parent_is_killed_ends_within_two_seconds(self, command: str) -> None:
        """``hold_gil`` blocks in C with the interpreter's lock, so that no Python thread could notice."""
        # Given a parent with a child that is busy in some way
        parent = subprocess.Popen([sys.executable, SUPPORT / "parents.py", command], stdout=subprocess.PIPE)
        assert parent.stdout is not None
        with parent, parent.stdout:
            pid = int(parent.stdout.readline().split()[0])
            pids = [pid]
            if command == "start_process":
                pids.append(int(parent.stdout.readline().split()[1]))
            assert all(is_running(pid) for pid in pids)

            # When the parent is killed
            parent.send_signal(signal.SIGKILL)

        # Then the child is gone, with what it started
        gone = wait_until(lambda: not any(is_running(pid) for pid in pids), 2.0)
        if not gone:
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
        assert gone
