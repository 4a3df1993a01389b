"""Frames over a socket pair."""

from __future__ import annotations

import socket
import threading
from multiprocessing.connection import Connection

import pytest

from enlight.servicekit.errors import WireError
from enlight.servicekit.frames import Frame, FrameConnection, Kind, error_frame, pack, unpack


def connected() -> tuple[FrameConnection, FrameConnection]:
    one, other = socket.socketpair()
    return FrameConnection(Connection(one.detach())), FrameConnection(Connection(other.detach()))


def test_a_frame_arrives_as_it_was_sent() -> None:
    one, other = connected()
    for frame in (Frame(Kind.READY), Frame(Kind.TASK, 2**63, pack([1, "é"])), Frame(Kind.STATE, 0, pack(None))):
        one.send(frame)
        assert other.receive() == frame
    one.close()
    with pytest.raises(EOFError):
        other.receive()
    with pytest.raises(OSError, match="Broken pipe"):
        other.send(Frame(Kind.READY))
    other.close()


def test_frames_of_several_threads_do_not_mix() -> None:
    # Given eight threads that send frames larger than the socket's buffer
    one, other = connected()
    bodies = [bytes([number]) * 400_000 for number in range(8)]

    def send(number: int) -> None:
        for _ in range(5):
            one.send(Frame(Kind.RESULT, number, bodies[number]))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()

    # Then each frame has the body that belongs to its id
    for _ in range(40):
        frame = other.receive()
        assert frame.body == bodies[frame.task_id]
    for thread in threads:
        thread.join()
    one.close()
    other.close()


def test_payloads() -> None:
    assert unpack(pack({"a": (1, b"x")})) == {"a": (1, b"x")}
    assert Frame(Kind.READY).payload() is None
    wire = WireError("not_found", "No.")
    assert error_frame(3, wire) == Frame(Kind.FAIL, 3, pack(wire))
    assert error_frame(3, wire).payload() == wire


@pytest.mark.parametrize("noise", [b"", b"\xff" * 9, b"short", b"x" * 100])
def test_what_is_no_frame_is_like_a_closed_connection(noise: bytes) -> None:
    one, other = connected()
    one._connection.send_bytes(noise)
    with pytest.raises(OSError, match=r"frame|message length"):
        other.receive()
    one.close()
    other.close()
