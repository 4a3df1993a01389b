"""Locks between processes."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from enlight.dreambooth_api import file_locks
from enlight.dreambooth_api.file_locks import FileLock, excludes

HOLDER = """
import sys, time
from pathlib import Path
from enlight.dreambooth_api.file_locks import FileLock
lock = FileLock.try_hold(Path(sys.argv[1]), shared=sys.argv[2] == "shared")
print("held" if lock else "busy", flush=True)
time.sleep(60)
"""


def holder(path: Path, kind: str = "exclusive") -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), kind],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"held\n"
    return process


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock.hold(path, deadline=0):
        assert FileLock.try_hold(path) is None
        assert FileLock.try_hold(path, shared=True) is None
        with pytest.raises(TimeoutError):
            FileLock.hold(path, deadline=time.monotonic() + 0.05)
    again = FileLock.try_hold(path)
    assert again is not None
    again.release()
    again.release()


def test_many_share(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first, second = FileLock.try_hold(path, shared=True), FileLock.try_hold(path, shared=True)
    assert first is not None
    assert second is not None
    with first, second:
        assert FileLock.try_hold(path) is None
    with FileLock.hold(path, deadline=0) as lock:
        lock.share()
        third = FileLock.try_hold(path, shared=True)
        assert third is not None
        third.release()


def test_a_killed_process_lets_go_at_once(tmp_path: Path) -> None:
    # Given a lock that another process holds
    path = tmp_path / "lock"
    process = holder(path)
    assert FileLock.try_hold(path) is None
    # When that process is killed while this one waits
    threading.Timer(0.2, lambda: process.send_signal(signal.SIGKILL)).start()
    started = time.monotonic()
    with FileLock.hold(path, deadline=started + 10):
        waited_s = time.monotonic() - started
    process.wait()
    # Then this one gets it well within a second
    assert 0.1 < waited_s < 1.2


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        FileLock.try_hold(tmp_path / "lock", create=False)
    with pytest.raises(FileNotFoundError):
        FileLock.try_hold(tmp_path / "missing" / "lock")
    assert not (tmp_path / "lock").exists()


def test_a_removed_file_is_no_lock(tmp_path: Path) -> None:
    # Given many threads that take the same lock, remove its file and let go
    path = tmp_path / "lock"
    inside = 0
    most = 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(30):
            lock = FileLock.hold(path, deadline=time.monotonic() + 20)
            inside += 1
            most = max(most, inside)
            time.sleep(0)
            inside -= 1
            lock.release_and_remove()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Then never two of them had it, and nothing is left
    assert most == 1
    assert not path.exists()


def test_notices_that_its_file_was_replaced(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with FileLock.hold(path, deadline=0) as lock:
        assert lock.is_file_of(path)
        path.rename(tmp_path / "aside")
        assert not lock.is_file_of(path)
        path.touch()
        assert not lock.is_file_of(path)
        assert lock.is_file_of(tmp_path / "aside")


def test_locks_that_exclude_are_told_from_locks_that_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert excludes(tmp_path)
    # Given a filesystem on which every lock succeeds
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)
    assert not excludes(tmp_path)

    # Given a filesystem without locks
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert not excludes(tmp_path)
    assert [*tmp_path.iterdir()] == []
    with pytest.raises(FileNotFoundError):
        excludes(tmp_path / "missing")


def test_the_poll_is_short_enough_for_the_promise() -> None:
    assert file_locks.POLL_S <= 0.1
