"""Jobs in child processes of their own."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from child_processes import new_children
from children import ENV, Unreadable
from waiting import is_running, wait_until

from enlight.servicekit.errors import (
    InternalError,
    JobCancelled,
    OutOfGpuMemory,
    ServiceError,
    WorkerUnavailable,
)
from enlight.servicekit.process import run_job

pytestmark = pytest.mark.usefixtures("only_new_children")


def run(target: str, argument: object = None, **options: Any) -> object:
    options = {"on_progress": lambda payload: None, "cancel": threading.Event(), "cancel_grace_s": 5.0, **options}
    return run_job(f"children:{target}", argument, env=ENV, **options)


def test_a_job_gives_its_result_and_its_progress_in_this_thread() -> None:
    progress: list[object] = []
    threads: set[int] = set()

    def on_progress(payload: object) -> None:
        progress.append(payload)
        threads.add(threading.get_ident())

    assert run("job_double", [1, 2], on_progress=on_progress) == [1, 2, 1, 2]
    assert progress == ["half way"]
    assert threads == {threading.get_ident()}


def test_large_arguments_and_results_pass() -> None:
    assert run("job_double", b"x" * 25_000_000) == b"x" * 50_000_000


def test_a_jobs_own_error_is_raised() -> None:
    with pytest.raises(OutOfGpuMemory, match="too large"):
        run("job_raises", OutOfGpuMemory("too large"))
    with pytest.raises(InternalError) as caught:
        run("job_raises", ZeroDivisionError("secret"))
    assert "secret" not in caught.value.message


@pytest.mark.parametrize(
    ("target", "argument", "error"),
    [
        ("job_ends_silently", None, InternalError),
        ("no_such_function", None, InternalError),
        ("crashes_at_start", None, InternalError),
        ("job_double", Unreadable(), InternalError),
        ("job_killed", None, WorkerUnavailable),
    ],
)
def test_a_job_that_gives_no_result_raises(target: str, argument: object, error: type[ServiceError]) -> None:
    with pytest.raises(error):
        run(target, argument)
    assert new_children() == []


def test_a_cancelled_job_lets_go_by_itself() -> None:
    cancel = threading.Event()
    started_s = time.monotonic()
    with pytest.raises(JobCancelled):
        run("job_until_cancelled", cancel=cancel, cancel_grace_s=20.0, on_progress=lambda payload: cancel.set())
    assert time.monotonic() - started_s < 5.0


def test_a_job_that_does_not_listen_is_killed_after_the_grace() -> None:
    cancel = threading.Event()
    started: list[int] = []

    def on_progress(payload: Any) -> None:
        started.append(payload)
        cancel.set()

    started_s = time.monotonic()
    with pytest.raises(JobCancelled):
        run("job_stubborn", cancel=cancel, cancel_grace_s=0.3, on_progress=on_progress)
    assert time.monotonic() - started_s < 3.0
    assert wait_until(lambda: not is_running(started[0]), 1.0), "what the job started is gone too"
    assert new_children() == []


def test_a_job_that_finishes_within_the_grace_gives_its_result() -> None:
    cancel = threading.Event()
    cancel.set()
    assert run("job_finishes_anyway", cancel=cancel) == "done"


def test_a_job_that_shows_no_sign_of_life_is_killed() -> None:
    with pytest.raises(WorkerUnavailable, match=r"no sign of life for 0\.5 s"):
        run("job_hangs", hang_timeout_s=0.5)
    assert new_children() == []


def test_a_job_that_is_asked_to_end_gives_what_it_has() -> None:
    closing = threading.Event()
    assert run("job_until_closing", "half", closing=closing, on_progress=lambda payload: closing.set()) == "half"


@pytest.mark.parametrize("target", ["job_until_closing", "job_stubborn"])
def test_a_job_that_is_asked_to_end_and_gives_nothing_is_unavailable(target: str) -> None:
    closing = threading.Event()
    with pytest.raises(WorkerUnavailable):
        run(target, closing=closing, cancel_grace_s=0.5, on_progress=lambda payload: closing.set())
    assert new_children() == []


def test_an_error_in_on_progress_ends_the_job() -> None:
    def on_progress(payload: object) -> None:
        raise KeyError("bug in the caller")

    with pytest.raises(KeyError):
        run("job_until_cancelled", on_progress=on_progress)
    assert new_children() == []


def test_a_job_that_answers_and_does_not_end_is_ended() -> None:
    pid = run("job_does_not_end", exit_grace_s=0.2)
    assert isinstance(pid, int)
    assert not is_running(pid)


def test_jobs_leave_no_descriptor_behind() -> None:
    run("job_double", 1)
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        run("job_double", 1)
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
