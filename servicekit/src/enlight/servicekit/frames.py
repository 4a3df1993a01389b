"""What travels between a process and its child: frames of a kind, a task id and a pickled payload.

Kind and id travel apart from the payload, so that a payload that cannot be unpickled still names its task.
"""

from __future__ import annotations

import pickle
import struct
import threading
from dataclasses import dataclass
from enum import IntEnum
from multiprocessing.connection import Connection

from enlight.servicekit.errors import WireError


class Kind(IntEnum):
    """What a frame says."""

    # parent to child
    HELLO = 1
    """First frame; the payload is a Hello."""
    TASK = 2
    """The payload is a TaskBody."""
    CANCEL = 3
    STOP = 4
    # child to parent
    READY = 16
    PROGRESS = 17
    RESULT = 18
    FAIL = 19
    """The payload is a WireError."""
    STATE = 20
    """The payload is the mapping that the child publishes."""
    FATAL = 21
    """The child ends because of an error outside of a task; the payload is a short text for operators."""


@dataclass(frozen=True)
class Hello:
    """What a child needs before it runs: the argument stays pickled until the child can report a failure."""

    argument: bytes
    job: bool
    """A job's child has one task, id 0, which is the argument itself."""
    name: str
    log_service: str
    log_level: str
    request_id: str
    job_id: str
    trace_id: str


@dataclass(frozen=True)
class TaskBody:
    """A task with the ids under which the sender logs."""

    payload: object
    request_id: str
    job_id: str
    trace_id: str = ""


@dataclass(frozen=True)
class Frame:
    """One message, its payload still pickled (empty: none)."""

    kind: Kind
    task_id: int = 0
    body: bytes = b""

    def payload(self) -> object:
        """The unpickled payload. Raises whatever unpickling raises."""
        return unpack(self.body) if self.body else None


JOB_TASK_ID = 0
_HEADER = struct.Struct("<BQ")


def pack(payload: object) -> bytes:
    """Pickled payload. Raises whatever pickling raises."""
    return pickle.dumps(payload, protocol=pickle.HIGHEST_PROTOCOL)


def unpack(body: bytes) -> object:
    """The payload of ``pack``."""
    return pickle.loads(body)  # noqa: S301 — written by the other half of this service, over a private socket


def error_frame(task_id: int, error: WireError) -> Frame:
    """The frame that says that a task failed."""
    return Frame(Kind.FAIL, task_id, pack(error))


class FrameConnection:
    """Whole frames over one end of a socket pair. Any thread may send, one thread receives."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._send_lock = threading.Lock()

    def send(self, frame: Frame) -> None:
        """Blocks until the frame is in the socket. Raises OSError when the other side is gone."""
        with self._send_lock:  # a frame is two writes: another thread's must not come between them
            self._connection.send_bytes(_HEADER.pack(frame.kind, frame.task_id))
            self._connection.send_bytes(frame.body)

    def receive(self) -> Frame:
        """The next frame. Raises EOFError or OSError when the other side is gone, or sends no frames."""
        try:
            number, task_id = _HEADER.unpack(self._connection.recv_bytes(_HEADER.size))
            kind = Kind(number)
        except (struct.error, ValueError) as error:  # another version of this module on the other side
            raise OSError("not a frame") from error
        return Frame(kind, task_id, self._connection.recv_bytes())

    def close(self) -> None:
        """Closes this end."""
        self._connection.close()
