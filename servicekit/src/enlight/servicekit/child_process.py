"""One child process: start it, talk to it, see it end. What to do about its end is its owner's decision."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection

from enlight.servicekit.child import HANG_DUMP_SIGNAL
from enlight.servicekit.frames import Frame, FrameConnection, Hello, Kind, pack
from enlight.servicekit.logs import configured_logging, current_job_id, current_request_id, current_trace_id
from enlight.servicekit.settings import child_environment

logger = logging.getLogger(__name__)

DUMP_TIME_S = 0.2
"""Time that a hanging child gets to write its threads' stacks before it is killed."""


class ChildProcess:
    """A process that runs ``target`` (``module:function``), in a process group of its own.

    ``on_message`` gets every frame that the child sends, from one thread, in order; it must not block.
    ``on_exit`` is called once, after the last message, when the process is reaped and every descriptor closed.
    """

    def __init__(
        self,
        target: str,
        argument: object,
        *,
        name: str,
        on_message: Callable[[Frame], None],
        on_exit: Callable[[], None],
        env: Mapping[str, str] | None = None,
        job: bool = False,
    ) -> None:
        """Raises whatever pickling the argument raises."""
        logging_now = configured_logging()
        self._hello = Hello(
            argument=pack(argument),
            job=job,
            name=name,
            log_service=logging_now.service if logging_now else "",
            log_level=logging_now.level if logging_now else "",
            request_id=current_request_id(),
            job_id=current_job_id(),
            trace_id=current_trace_id(),
        )
        self._target = target
        self._name = name
        self._env = env
        self._on_message = on_message
        self._on_exit = on_exit
        self._outbox: queue.SimpleQueue[Frame | None] = queue.SimpleQueue()
        self._exited = threading.Event()
        self._signal_lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts the process. Raises OSError when the machine cannot."""
        ours, theirs = socket.socketpair()
        lifeline_theirs, lifeline_ours = os.pipe()
        inherited = (theirs.fileno(), lifeline_theirs)
        try:
            self._process = subprocess.Popen(
                # -P: the working directory is not searched for modules
                [sys.executable, "-P", "-m", "enlight.servicekit.child", self._target, *map(str, inherited)],
                pass_fds=inherited,
                stdin=subprocess.DEVNULL,
                env=child_environment(self._env or {}),
                start_new_session=True,  # a group of its own, so that what it starts can be ended with it
            )
        except BaseException:
            ours.close()
            os.close(lifeline_ours)
            raise
        finally:
            theirs.close()
            os.close(lifeline_theirs)
        self._socket = ours
        self._lifeline = lifeline_ours
        self._connection = FrameConnection(Connection(os.dup(ours.fileno())))
        self.send(Frame(Kind.HELLO, 0, pack(self._hello)))
        self._reader = self._thread("reader", self._read)
        self._sender = self._thread("sender", self._send)
        self._thread("reaper", self._reap)

    @property
    def pid(self) -> int:
        """Process id. The process must have been started."""
        return self._running().pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number when a signal ended it."""
        return self._running().returncode

    def exit_text(self) -> str:
        """How it ended, in words."""
        code = self.exit_code
        if code is None:
            return "running"
        return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    def send(self, frame: Frame) -> None:
        """Hands a frame to the sender thread; never waits. What a dead child did not read is dropped."""
        self._outbox.put(frame)

    def kill(self, *, dump_stacks: bool = False) -> None:
        """Ends the process and those that it started, whatever they do. Returns at once."""
        if dump_stacks and self._signal(HANG_DUMP_SIGNAL):
            time.sleep(DUMP_TIME_S)
        self._signal(signal.SIGKILL, group=True)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until the process is reaped and ``on_exit`` returned. False when it was not in time."""
        return self._exited.wait(timeout_s)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "start() comes first"
        return self._process

    def _thread(self, role: str, function: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=function, name=f"{self._name}-{role}", daemon=True)
        thread.start()
        return thread

    def _signal(self, number: int, *, group: bool = False) -> bool:
        process = self._running()
        with self._signal_lock:  # the reaper frees the process id under this lock: it cannot be another's yet
            if process.returncode is not None:
                return False
            try:
                (os.killpg if group else os.kill)(process.pid, number)
            except ProcessLookupError:  # where SIGCHLD is ignored, it may be gone without our help
                return False
            return True

    def _send(self) -> None:
        with contextlib.suppress(OSError):
            while (frame := self._outbox.get()) is not None:
                self._connection.send(frame)

    def _read(self) -> None:
        try:
            while True:
                self._on_message(self._connection.receive())
        except (EOFError, OSError):
            pass
        except Exception:
            logger.exception("A message of %s cannot be handled; it is killed", self._name)
        # It closed its socket: it is of no use any more. If it is gone already, this ends what it started: until
        # the reaper, which waits for this thread, has reaped it, its group's id cannot be another's.
        self.kill()

    def _reap(self) -> None:
        process = self._running()
        with contextlib.suppress(ChildProcessError):  # where SIGCHLD is ignored, the kernel has reaped it
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        # What it sent before its end is still delivered; then reader and sender see the end, even where a
        # process that it started left the group and holds the socket open.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._outbox.put(None)
        self._reader.join()
        self._sender.join()
        with self._signal_lock:
            process.wait()
        self._connection.close()
        self._socket.close()
        os.close(self._lifeline)
        try:
            self._on_exit()
        finally:
            self._exited.set()
