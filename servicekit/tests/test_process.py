"""Supervised workers, with real processes."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from child_processes import new_children
from children import ENV, Unreadable
from waiting import is_running, wait_until

from enlight.servicekit.errors import (
    InternalError,
    InvalidField,
    JobCancelled,
    QueueFull,
    ServiceError,
    WorkerUnavailable,
)
from enlight.servicekit.logs import JsonHandler, configure_logging, log_context
from enlight.servicekit.process import RestartPolicy, Supervisor, WorkerState

pytestmark = pytest.mark.usefixtures("only_new_children")
QUICK = RestartPolicy(first_delay_s=0.01, max_delay_s=0.05, defunct_after=3, defunct_retry_s=0.2)

MakeSupervisor = Callable[..., Supervisor]


@pytest.fixture
def supervise() -> Iterator[MakeSupervisor]:
    made: list[Supervisor] = []

    def make(target: str = "worker", argument: object = None, *, start: bool = True, **options: Any) -> Supervisor:
        options = {
            "name": target,
            "max_pending": 100,
            "start_timeout_s": 30.0,
            "hang_timeout_s": 30.0,
            "restart": QUICK,
            "env": ENV,
            **options,
        }
        supervisor = Supervisor(f"children:{target}", argument, **options)
        made.append(supervisor)
        if start:
            supervisor.start()
        return supervisor

    yield make
    for supervisor in made:
        supervisor.stop(grace_s=0.0)


def has_state(supervisor: Supervisor, state: WorkerState) -> Callable[[], bool]:
    return lambda: supervisor.state is state


def worker_pid() -> int:
    (child,) = new_children()
    return child.pid


class TestTasks:
    def test_a_task_is_answered_with_the_workers_result(self, supervise: MakeSupervisor) -> None:
        # Given a worker that is still starting
        supervisor = supervise(argument="an argument")
        assert supervisor.state is WorkerState.STARTING

        # When a task is submitted
        ticket = supervisor.submit(("echo", {"a": [1, 2]}))

        # Then it is answered, and the worker waits for the next
        assert ticket.result() == {"a": [1, 2]}
        assert wait_until(has_state(supervisor, WorkerState.READY))
        status = supervisor.status
        assert status["argument"] == "an argument"
        assert (status["state"], status["restarts"], status["pending"]) == ("ready", 0, 0)
        assert status["last_error"] is None
        assert isinstance(status["uptime_s"], float)

    def test_the_worker_is_busy_while_it_has_a_task(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise()
        ticket = supervisor.submit(("wait",))
        assert wait_until(has_state(supervisor, WorkerState.BUSY))
        assert supervisor.status["pending"] == 1
        ticket.cancel()
        assert wait_until(has_state(supervisor, WorkerState.READY))

    def test_large_payloads_pass_in_both_directions(self, supervise: MakeSupervisor) -> None:
        payload = os.urandom(1_000_000) * 50
        assert supervise().submit(("echo", payload)).result() == payload

    def test_an_unknown_exception_becomes_an_internal_error_without_its_text(self, supervise: MakeSupervisor) -> None:
        ticket = supervise().submit(("raise_unknown",))
        with pytest.raises(InternalError) as caught:
            ticket.result()
        assert "secret" not in caught.value.message

    def test_a_service_error_crosses_unchanged(self, supervise: MakeSupervisor) -> None:
        ticket = supervise().submit(("raise_service_error",))
        with pytest.raises(InvalidField, match="size: must be a multiple of 8") as caught:
            ticket.result()
        assert caught.value.details == {"fields": [{"field": "size", "message": "must be a multiple of 8"}]}

    @pytest.mark.parametrize("command", ["return_lambda", "return_unreadable"])
    def test_a_result_that_cannot_be_carried_is_an_internal_error_not_a_hang(
        self, supervise: MakeSupervisor, command: str
    ) -> None:
        supervisor = supervise()
        ticket = supervisor.submit((command,))
        assert ticket.wait(10.0)
        with pytest.raises(InternalError):
            ticket.result()
        assert supervisor.submit(("echo", 1)).result() == 1
        assert supervisor.status["restarts"] == 0

    def test_a_task_that_the_worker_cannot_read_is_an_internal_error_not_a_hang(
        self, supervise: MakeSupervisor
    ) -> None:
        supervisor = supervise()
        ticket = supervisor.submit(("echo", Unreadable()))
        assert ticket.wait(10.0)
        with pytest.raises(InternalError):
            ticket.result()
        assert supervisor.submit(("echo", 1)).result() == 1

    def test_a_task_that_cannot_be_pickled_raises_at_once_and_takes_no_place(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise(max_pending=1)
        with pytest.raises((AttributeError, TypeError, Exception), match=r"pickle|local"):
            supervisor.submit(lambda: None)
        assert supervisor.submit(("echo", 1)).result() == 1

    def test_only_the_first_answer_counts(self, supervise: MakeSupervisor) -> None:
        assert supervise().submit(("answer_twice",)).result() == "first"

    def test_an_answer_sent_right_before_the_end_still_arrives(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise()
        for turn in range(1, 6):
            ticket = supervisor.submit(("answer_and_exit", 5_000_000))
            assert ticket.result() == b"x" * 5_000_000
            assert wait_until(lambda turn=turn: supervisor.status["restarts"] == turn)  # type: ignore[misc]

    def test_the_workers_environment_is_ours_with_the_overrides(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise(env={**ENV, "SERVICEKIT_TEST": "42"})
        assert supervisor.submit(("environment", "SERVICEKIT_TEST")).result() == "42"
        assert supervisor.submit(("environment", "PATH")).result() == os.environ["PATH"]

    def test_ctrl_c_does_not_end_the_worker(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise()
        assert supervisor.submit(("interrupt",)).result() == "still here"
        assert os.getpgid(worker_pid()) == worker_pid(), "a terminal's Ctrl-C does not even reach it"

    def test_the_channel_itself_needs_no_heavy_module(self, supervise: MakeSupervisor) -> None:
        modules = supervise().submit(("modules",)).result()
        assert isinstance(modules, list)
        assert not {"torch", "numpy", "flask", "pydantic", "PIL"} & set(modules)

    def test_the_workers_log_lines_are_json_with_the_submitters_ids(
        self, supervise: MakeSupervisor, capfd: pytest.CaptureFixture[str], json_logging: None
    ) -> None:
        # Given a configured parent, when a task is submitted within a request
        supervisor = supervise()
        with log_context(request_id="request-1", job_id="job-1"):
            supervisor.submit(("log",)).result()

        # Then the worker's line carries the ids
        supervisor.stop(grace_s=5.0)
        lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
        (line,) = [line for line in lines if line["logger"] == "child-test"]
        assert (line["request_id"], line["job_id"], line["service"]) == ("request-1", "job-1", "test")


@pytest.fixture
def json_logging() -> Iterator[None]:
    import logging

    root = logging.getLogger()
    level = root.level
    configure_logging("test", "info")
    yield
    for handler in list(root.handlers):
        if isinstance(handler, JsonHandler):
            root.removeHandler(handler)
    root.setLevel(level)
    logging.captureWarnings(capture=False)


class TestProgress:
    def test_events_come_in_order_and_end_with_the_task(self, supervise: MakeSupervisor) -> None:
        ticket = supervise().submit(("count", 5, 0.01))
        assert list(ticket.events()) == [0, 1, 2, 3, 4]
        assert ticket.result() == 5
        assert ticket.on_progress == 4

    def test_a_heartbeat_comes_while_nothing_else_does(self, supervise: MakeSupervisor) -> None:
        # Given a task that says nothing
        ticket = supervise().submit(("wait",))
        events = ticket.events(heartbeat_s=0.02)

        # When its events are read, then the reader gets control now and then
        assert [next(events), next(events)] == [None, None]
        ticket.cancel()
        assert set(events) <= {None}

    def test_large_frames_of_several_threads_do_not_mix(self, supervise: MakeSupervisor) -> None:
        ticket = supervise().submit(("shout", 8, 3_000_000))
        events = list(ticket.events())
        assert sorted(events) == [bytes([number]) * 3_000_000 for number in range(8)]  # type: ignore[type-var]


class TestCancel:
    def test_a_running_task_is_told_and_lets_go(self, supervise: MakeSupervisor) -> None:
        ticket = supervise().submit(("wait",))
        time.sleep(0.2)
        ticket.cancel()
        ticket.cancel()
        with pytest.raises(JobCancelled):
            ticket.result()

    def test_a_task_that_waits_for_a_starting_worker_ends_at_once(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise("never_ready")
        ticket = supervisor.submit(("echo", 1))
        ticket.cancel()
        assert ticket.wait(0.5)
        with pytest.raises(JobCancelled):
            ticket.result()
        assert supervisor.status["pending"] == 0

    def test_a_task_that_waits_in_the_worker_is_never_worked_on(self, supervise: MakeSupervisor) -> None:
        # Given a worker that is busy for half a second
        supervisor = supervise("slow_worker", 0.5)
        running = supervisor.submit("first")
        waiting = supervisor.submit("second")

        # When the waiting task is cancelled
        waiting.cancel()

        # Then it ends without having cost the worker anything
        assert running.result() == "first"
        assert waiting.wait(0.3)
        with pytest.raises(JobCancelled):
            waiting.result()

    def test_cancelling_an_answered_task_changes_nothing(self, supervise: MakeSupervisor) -> None:
        ticket = supervise().submit(("echo", 1))
        ticket.wait()
        ticket.cancel()
        assert ticket.result() == 1


class TestLoad:
    def test_fifty_threads_never_get_more_than_max_pending_places(self, supervise: MakeSupervisor) -> None:
        # Given a worker with 8 places
        supervisor = supervise(max_pending=8)
        supervisor.submit(("echo", 0)).result()
        outcomes: list[str] = []
        most_pending = 0

        def client(number: int) -> None:
            nonlocal most_pending
            for turn in range(10):
                try:
                    ticket = supervisor.submit(("echo", (number, turn)))
                except QueueFull:
                    outcomes.append("full")
                else:
                    most_pending = max(most_pending, int(str(supervisor.status["pending"])))
                    assert ticket.result() == (number, turn)
                    outcomes.append("answered")

        # When 50 threads ask at once
        threads = [threading.Thread(target=client, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30.0)

        # Then each gets its own answer or is refused at once
        assert len(outcomes) == 500
        assert "answered" in outcomes
        assert most_pending <= 8

    def test_the_place_after_the_last_is_refused(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise(max_pending=2)
        tickets = [supervisor.submit(("wait",)) for _ in range(2)]
        with pytest.raises(QueueFull) as caught:
            supervisor.submit(("echo", 1))
        assert caught.value.retry_after_s is not None
        tickets[0].cancel()
        tickets[0].wait(10.0)
        assert supervisor.submit(("echo", 1)).result() == 1

    def test_a_worker_that_reads_nothing_does_not_block_who_submits(self, supervise: MakeSupervisor) -> None:
        # Given a worker that is stopped in its tracks
        supervisor = supervise(max_pending=10)
        supervisor.submit(("echo", 0)).result()
        os.kill(worker_pid(), signal.SIGSTOP)

        # When ten large tasks are submitted
        payload = b"x" * 5_000_000
        started_s = time.monotonic()
        tickets = [supervisor.submit(("echo", payload)) for _ in range(10)]
        took_s = time.monotonic() - started_s

        # Then nobody waited for the pipe, and all is answered once the worker goes on
        assert took_s < 1.0
        os.kill(worker_pid(), signal.SIGCONT)
        assert all(ticket.result() == payload for ticket in tickets)


class TestDeath:
    def test_killed_while_busy(self, supervise: MakeSupervisor) -> None:
        # Given a worker in the middle of a task
        supervisor = supervise()
        ticket = supervisor.submit(("wait",))
        assert wait_until(has_state(supervisor, WorkerState.BUSY))
        time.sleep(0.1)

        # When it is killed
        os.kill(worker_pid(), signal.SIGKILL)

        # Then the task fails at once, may be repeated, and the next one is served
        assert ticket.wait(2.0)
        with pytest.raises(WorkerUnavailable) as caught:
            ticket.result()
        assert caught.value.retryable
        assert caught.value.retry_after_s is not None
        assert supervisor.submit(("echo", 2)).result() == 2
        assert supervisor.status["restarts"] == 1
        assert "SIGKILL" in str(supervisor.status["last_error"])

    def test_tasks_submitted_between_two_workers_are_kept(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise()
        supervisor.submit(("echo", 0)).result()
        os.kill(worker_pid(), signal.SIGKILL)
        assert wait_until(has_state(supervisor, WorkerState.STARTING))
        assert supervisor.submit(("echo", 1)).result() == 1

    def test_a_worker_that_closed_its_socket_is_replaced(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise()
        ticket = supervisor.submit(("close_socket",))
        assert ticket.wait(5.0)
        with pytest.raises(WorkerUnavailable):
            ticket.result()
        assert supervisor.submit(("echo", 1)).result() == 1

    def test_what_the_worker_started_ends_with_it(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise()
        pid = supervisor.submit(("start_process",)).result()
        assert isinstance(pid, int)
        assert is_running(pid)
        os.kill(worker_pid(), signal.SIGKILL)
        assert wait_until(lambda: not is_running(pid), 2.0)

    def test_a_process_that_holds_the_socket_does_not_hide_the_workers_death(self, supervise: MakeSupervisor) -> None:
        # Given a process that the worker forked, which left its group with the socket in hand
        supervisor = supervise()
        stray = supervisor.submit(("fork_away",)).result()
        assert isinstance(stray, int)
        ticket = supervisor.submit(("wait",))
        time.sleep(0.2)

        # When the worker dies
        (child,) = [child for child in new_children() if child.pid != stray]
        child.kill()

        # Then it is noticed
        try:
            assert ticket.wait(2.0)
        finally:
            os.kill(stray, signal.SIGKILL)

    def test_a_hanging_worker_is_killed_and_replaced(
        self, supervise: MakeSupervisor, capfd: pytest.CaptureFixture[str]
    ) -> None:
        # Given a worker that works without a word, the interpreter's lock held
        supervisor = supervise(hang_timeout_s=0.5)
        ticket = supervisor.submit(("hold_gil",))

        # Then it is killed, its threads' stacks are in the log, and the next one serves
        assert ticket.wait(5.0)
        with pytest.raises(WorkerUnavailable):
            ticket.result()
        assert "no sign of life for 0.5 s" in str(supervisor.status["last_error"])
        assert supervisor.submit(("echo", 1)).result() == 1
        assert "do_hold_gil" in capfd.readouterr().err

    def test_a_stopped_worker_counts_as_hanging(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise(hang_timeout_s=0.5)
        supervisor.submit(("echo", 1)).result()
        os.kill(worker_pid(), signal.SIGSTOP)
        assert supervisor.submit(("echo", 1)).wait(5.0)
        assert supervisor.submit(("echo", 2)).result() == 2

    def test_new_tasks_do_not_put_off_the_end_of_a_hanging_worker(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise("deaf_worker", hang_timeout_s=0.6)
        ticket = supervisor.submit(1)
        wait_until(has_state(supervisor, WorkerState.BUSY))
        started_s = time.monotonic()
        while not ticket.wait(0.1):
            supervisor.submit(1)
        assert time.monotonic() - started_s < 3.0

    def test_a_slow_worker_that_shows_progress_is_left_alone(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise(hang_timeout_s=0.5)
        assert supervisor.submit(("count", 10, 0.15)).result() == 10
        assert supervisor.status["restarts"] == 0

    def test_an_idle_worker_is_left_alone(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise(hang_timeout_s=0.2)
        supervisor.submit(("echo", 1)).result()
        time.sleep(0.6)
        assert supervisor.submit(("echo", 2)).result() == 2
        assert supervisor.status["restarts"] == 0

    def test_a_worker_that_is_slow_to_start_is_not_hanging(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise("late_worker", 0.6, hang_timeout_s=0.3)
        assert supervisor.submit(("echo", 1)).result() == 1
        assert supervisor.status["restarts"] == 0

    def test_twenty_restarts_leave_nothing_behind(self, supervise: MakeSupervisor) -> None:
        # Given a worker that ran once
        supervisor = supervise()
        supervisor.submit(("echo", 0)).result()
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        threads = threading.active_count()

        # When it dies twenty times
        for _ in range(20):
            ticket = supervisor.submit(("exit", 3))
            assert ticket.wait(10.0)
        assert supervisor.submit(("echo", 1)).result() == 1

        # Then there is one worker, and as many descriptors and threads as before
        assert supervisor.status["restarts"] == 20
        (child,) = new_children(recursive=True)
        assert child.status() != psutil.STATUS_ZOMBIE
        assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
        assert threading.active_count() == threads


class TestStart:
    def test_a_worker_that_does_not_start_is_defunct_after_some_tries(self, supervise: MakeSupervisor) -> None:
        # Given a worker that fails at start, and a task that waits for it
        supervisor = supervise("fails_at_start", "/nowhere")
        ticket = supervisor.submit(("echo", 1))

        # Then it is given up, with its reason
        with pytest.raises(WorkerUnavailable):
            ticket.result()
        assert supervisor.state is WorkerState.DEFUNCT
        assert supervisor.status["last_error"] == "No weights in /nowhere."
        with pytest.raises(WorkerUnavailable, match="does not start") as caught:
            supervisor.submit(("echo", 1))
        assert caught.value.retry_after_s == 1

    @pytest.mark.parametrize(
        ("target", "reason"),
        [("crashes_at_start", "exit status 7"), ("no_such_function", "no_such_function"), ("never_ready", "not ready")],
    )
    def test_the_reason_is_kept(self, supervise: MakeSupervisor, target: str, reason: str) -> None:
        supervisor = supervise(target, start_timeout_s=0.5 if target == "never_ready" else 30.0)
        assert wait_until(has_state(supervisor, WorkerState.DEFUNCT), 20.0)
        assert reason in str(supervisor.status["last_error"])

    def test_an_argument_that_cannot_be_pickled_is_a_start_failure(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise(argument=lambda: None)
        assert wait_until(has_state(supervisor, WorkerState.DEFUNCT))
        assert "cannot be started" in str(supervisor.status["last_error"])

    def test_a_defunct_worker_is_tried_again(self, supervise: MakeSupervisor, tmp_path: Path) -> None:
        supervisor = supervise("crashes_until_file", tmp_path / "weights")
        assert wait_until(has_state(supervisor, WorkerState.DEFUNCT))
        (tmp_path / "weights").touch()
        assert wait_until(has_state(supervisor, WorkerState.READY))
        assert supervisor.submit(("echo", 1)).result() == 1

    def test_tasks_wait_through_a_failed_start(self, supervise: MakeSupervisor, tmp_path: Path) -> None:
        patient = RestartPolicy(first_delay_s=0.1, max_delay_s=0.1, defunct_after=1000)
        supervisor = supervise("crashes_until_file", tmp_path / "weights", restart=patient)
        ticket = supervisor.submit(("echo", 1))
        assert not ticket.wait(0.5)
        (tmp_path / "weights").touch()
        assert ticket.result() == 1

    def test_the_pause_between_deaths_without_work_doubles(self, supervise: MakeSupervisor, tmp_path: Path) -> None:
        # Given a worker that gets ready and dies at once
        policy = RestartPolicy(first_delay_s=0.1, max_delay_s=0.4, defunct_after=3)
        supervise("crashes_when_idle", tmp_path / "starts", restart=policy)

        # When it has started five times
        starts = tmp_path / "starts"
        assert wait_until(lambda: starts.exists() and len(starts.read_text().split()) >= 5, 20.0)

        # Then the pauses grew up to the limit
        times_s = [float(line) for line in starts.read_text().split()][:5]
        pauses_s = [later - earlier for earlier, later in itertools.pairwise(times_s)]
        for pause_s, least_s in zip(pauses_s, [0.1, 0.2, 0.4, 0.4], strict=True):
            assert least_s < pause_s < least_s + 0.6


class TestStop:
    def test_the_task_at_hand_is_finished_within_the_grace(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise("slow_worker", 0.4)
        ticket = supervisor.submit("work")
        assert wait_until(has_state(supervisor, WorkerState.BUSY))
        time.sleep(0.1)
        started_s = time.monotonic()
        supervisor.stop(grace_s=10.0)
        assert time.monotonic() - started_s < 5.0
        assert ticket.result() == "work"
        assert new_children() == []

    def test_a_worker_that_does_not_end_is_killed(self, supervise: MakeSupervisor) -> None:
        # Given a worker that does not listen
        supervisor = supervise("deaf_worker")
        assert wait_until(has_state(supervisor, WorkerState.READY))
        ticket = supervisor.submit("work")

        # When it is stopped, then it is gone after the grace and its task has failed
        started_s = time.monotonic()
        supervisor.stop(grace_s=0.3)
        assert 0.3 <= time.monotonic() - started_s < 2.0
        with pytest.raises(WorkerUnavailable):
            ticket.result()
        assert new_children() == []

    def test_after_it_nothing_is_taken(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise()
        supervisor.stop(grace_s=5.0)
        supervisor.stop(grace_s=5.0)
        assert supervisor.state is WorkerState.DEFUNCT
        with pytest.raises(WorkerUnavailable, match="shutting down"):
            supervisor.submit(("echo", 1))

    @pytest.mark.parametrize("target", ["never_ready", "crashes_at_start"])
    def test_a_task_that_never_reached_a_worker_fails(self, supervise: MakeSupervisor, target: str) -> None:
        supervisor = supervise(target, restart=RestartPolicy(first_delay_s=30.0))
        ticket = supervisor.submit(("echo", 1))
        supervisor.stop(grace_s=0.2)
        assert ticket.wait(1.0)
        with pytest.raises(ServiceError, match="shutting down"):
            ticket.result()

    def test_a_supervisor_that_was_never_started_stops(self, supervise: MakeSupervisor) -> None:
        supervisor = supervise(start=False)
        ticket = supervisor.submit(("echo", 1))
        supervisor.stop(grace_s=1.0)
        with pytest.raises(WorkerUnavailable):
            ticket.result()
