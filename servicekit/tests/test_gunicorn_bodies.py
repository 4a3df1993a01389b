"""A body straight from gunicorn's socket: the same bytes as gunicorn's own way, and not one more."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Iterator

import pytest
from gunicorn.http.body import Body, ChunkedReader, EOFReader, LengthReader
from gunicorn.http.unreader import IterUnreader, SocketUnreader

from enlight.servicekit.errors import ClientGone, InvalidRequest
from enlight.servicekit.gunicorn_bodies import receive_into
from enlight.servicekit.http_bodies import BodyStream

CONTENT = os.urandom(3000)


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The server's end of a connection and the client's."""
    server, client = socket.socketpair()
    with server, client:
        server.settimeout(10)
        yield server, client


def received(source: Body, size: int) -> bytes | None:
    memory = bytearray(size)
    count = receive_into(source, memoryview(memory))
    return None if count is None else bytes(memory[:count])


def test_it_ends_where_the_body_does(line: tuple[socket.socket, socket.socket]) -> None:
    server, client = line
    client.sendall(CONTENT + b"GET /next")
    body = Body(LengthReader(SocketUnreader(server), 3000))
    assert received(body, 1000) == CONTENT[:1000]
    assert received(body, 5000) == CONTENT[1000:]
    assert received(body, 5000) is None
    assert body.read() == b""
    assert server.recv(100) == b"GET /next"
    assert not body.failed


def test_what_came_with_the_head_comes_first(line: tuple[socket.socket, socket.socket]) -> None:
    server, client = line
    client.sendall(CONTENT[10:])
    unreader = SocketUnreader(server)
    unreader.unread(CONTENT[:10])
    body = Body(LengthReader(unreader, 3000))
    assert [received(body, 4), received(body, 100), received(body, 100)] == [
        CONTENT[:4],
        CONTENT[4:10],
        CONTENT[10:110],
    ]


def test_a_short_body_and_the_next_request_in_one_packet(line: tuple[socket.socket, socket.socket]) -> None:
    unreader = SocketUnreader(line[0])
    unreader.unread(b"bodyPOST /next")
    body = Body(LengthReader(unreader, 4))
    assert received(body, 100) == b"body"
    assert received(body, 100) is None
    assert unreader.take_buffered() == b"POST /next"


def test_what_gunicorn_read_ahead_is_not_jumped_over(line: tuple[socket.socket, socket.socket]) -> None:
    server, client = line
    client.sendall(CONTENT)
    body = Body(LengthReader(SocketUnreader(server), 3000))
    content = body.read(50)
    assert received(body, 700) is None
    while len(content) < 3000:
        piece = received(body, 700)
        content += body.read(700) if piece is None else piece
    assert content == CONTENT


def test_the_stream_takes_the_straight_way_and_gives_every_byte(line: tuple[socket.socket, socket.socket]) -> None:
    server, client = line
    client.sendall(CONTENT + b"next")
    unreader = SocketUnreader(server)
    unreader.unread(b"begun")
    stream = BodyStream(Body(LengthReader(unreader, 3005)), limit_bytes=5000, length_bytes=3005, client=server)
    memory = bytearray(3005)
    filled = 0
    while filled < 3005:
        filled += stream.readinto(memoryview(memory)[filled : filled + 999])
    assert bytes(memory) == b"begun" + CONTENT
    assert stream.readinto(bytearray(10)) == 0
    assert server.recv(10) == b"next", "gunicorn would have read it"


@pytest.mark.parametrize(
    "source",
    [
        io.BytesIO(CONTENT),
        Body(ChunkedReader(None, IterUnreader([b"3\r\nabc\r\n0\r\n\r\n"]))),
        Body(LengthReader(IterUnreader([b"abc"]), 3)),
        Body(EOFReader(IterUnreader([b"abc"]))),
    ],
    ids=["another server", "chunked", "no socket", "until the end"],
)
def test_other_bodies_are_left_to_their_own_way(source: Body) -> None:
    assert received(source, 10) is None
    assert source.read(3) == (CONTENT[:3] if isinstance(source, io.BytesIO) else b"abc")


def test_a_connection_that_broke_within_a_body_is_not_used_again(line: tuple[socket.socket, socket.socket]) -> None:
    server, client = line
    client.sendall(b"half")
    body = Body(LengthReader(SocketUnreader(server), 8))
    stream = BodyStream(body, limit_bytes=100, length_bytes=8, client=server, idle_timeout_s=0.1)
    assert stream.readinto(bytearray(8)) == 4
    with pytest.raises(InvalidRequest, match=r"arrived for 0\.1 s"):
        stream.readinto(bytearray(8))
    assert body.failed
    client.close()
    with pytest.raises(ClientGone):
        stream.readinto(bytearray(8))
