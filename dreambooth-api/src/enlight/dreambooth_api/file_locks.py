"""Locks between processes and containers of one machine, which the kernel frees when their holder is killed.

They are ``flock`` locks on files. Each lock opens the file anew, so two threads of one process exclude each
other as well. A lock file may be removed by whoever holds it exclusively; everybody who got a lock checks
that the file still is the one of that name, and starts over otherwise.

What it relies on: ``flock`` excludes between all users of the folder. ``excludes`` tests that; some network
filesystems and FUSE mounts fail it.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

POLL_S = 0.02
"""Longest time between looks at a lock that somebody else holds: what is lost after its holder was killed."""


class FileLock:
    """A held lock; freed by ``release``, at the end of a ``with`` block, or with the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor

    @classmethod
    def try_hold(cls, path: Path, *, shared: bool = False, create: bool = True) -> Self | None:
        """The lock, or None while somebody holds it in a way that excludes this.

        Raises: FileNotFoundError when the file (with ``create``: its folder) is missing; OSError.
        """
        while True:
            # Opened for reading only: so it works on a read-only volume and for another user's file.
            flags = os.O_RDONLY | os.O_CLOEXEC | (os.O_CREAT if create else 0)
            descriptor = os.open(path, flags, 0o666)
            try:
                fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                if _is_file_of(path, descriptor):
                    lock = cls(path, descriptor)
                    descriptor = -1
                    return lock
            except BlockingIOError:
                return None
            finally:
                if descriptor >= 0:
                    os.close(descriptor)

    @classmethod
    def hold(cls, path: Path, *, deadline: float) -> Self:
        """The exclusive lock, waiting for it until ``time.monotonic()`` is ``deadline``. Raises:
        TimeoutError.
        """
        pause_s = POLL_S / 16
        while True:
            lock = cls.try_hold(path)
            if lock is not None:
                return lock
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{path.name} is held by somebody else")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, POLL_S)

    def is_file_of(self, path: Path) -> bool:
        """Whether the locked file is the one that ``path`` names now."""
        return self._descriptor is not None and _is_file_of(path, self._descriptor)

    def share(self) -> None:
        """Turn the exclusive lock into a shared one. Not atomic: others may get in between."""
        assert self._descriptor is not None
        fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def moved(self, path: Path) -> None:
        """Note that the locked file was renamed."""
        self.path = path

    def release(self) -> None:
        """Free the lock; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def release_and_remove(self) -> None:
        """Remove the file of a lock that is held exclusively, then free the lock."""
        if self._descriptor is not None:
            with suppress(OSError):
                self.path.unlink()
        self.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def excludes(folder: Path) -> bool:
    """Whether locks hold on the filesystem of ``folder``. Raises: OSError when nothing can be written
    there.
    """
    path = folder / f".probe.{secrets.token_hex(8)}"
    try:
        try:
            first = FileLock.try_hold(path)
        except FileNotFoundError:
            raise
        except OSError:
            path.touch()  # the folder is writable, so it is the lock that failed
            return False
        if first is None:
            return False
        with first:
            second = FileLock.try_hold(path)
            if second is not None:
                second.release()
            return second is None
    finally:
        path.unlink(missing_ok=True)


def _is_file_of(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
