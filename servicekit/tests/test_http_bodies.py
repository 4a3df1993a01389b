"""The stream of a request's body, without an application around it."""

from __future__ import annotations

import io
import socket
import time
from typing import IO, cast

import pytest

from enlight.servicekit.errors import BodyTooLarge, ClientGone, InvalidRequest
from enlight.servicekit.http_bodies import BodyStream, body_too_large, limit_text


def stream(
    body: bytes, *, limit_bytes: int = 100, length_bytes: int | None = None, source: io.BytesIO | None = None
) -> BodyStream:
    return BodyStream(source or io.BytesIO(body), limit_bytes=limit_bytes, length_bytes=length_bytes, client=None)


@pytest.mark.parametrize("length_bytes", [None, 100])
def test_a_body_of_exactly_the_limit_is_read(length_bytes: int | None) -> None:
    assert stream(b"x" * 100, length_bytes=length_bytes).read() == b"x" * 100
    parts = stream(b"abcdefg" * 14, length_bytes=98)
    assert [parts.read(50), parts.read(50), parts.read(50)] == [(b"abcdefg" * 14)[:50], (b"abcdefg" * 14)[50:], b""]


def test_a_chunked_body_over_the_limit_is_an_error_however_it_is_read() -> None:
    with pytest.raises(BodyTooLarge, match="100 bytes"):
        stream(b"x" * 101).read()
    parts = stream(b"x" * 101)
    assert parts.read(100) == b"x" * 100
    with pytest.raises(BodyTooLarge):
        parts.read(1)


def test_what_follows_the_body_is_left_alone() -> None:
    source = io.BytesIO(b"bodynext")
    assert stream(b"", length_bytes=4, source=source).read() == b"body"
    assert source.read() == b"next"


def test_a_body_that_ends_early_is_an_error() -> None:
    with pytest.raises(ClientGone):
        stream(b"x" * 9, length_bytes=10).read()


class Broken(io.BytesIO):
    """A source that fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def read(self, size: int | None = -1) -> bytes:
        raise self.error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ConnectionResetError(), ClientGone),
        (BrokenPipeError(), ClientGone),
        (KeyError("a parser's own class"), InvalidRequest),
        (TimeoutError(), InvalidRequest),
    ],
)
def test_the_servers_errors_become_the_clients(error: Exception, expected: type[Exception]) -> None:
    with pytest.raises(expected):
        stream(b"", length_bytes=10, source=Broken(error)).read()


def test_a_half_sent_body_is_given_up() -> None:
    # Given a client that sends half of its body and waits
    server, client = socket.socketpair()
    with server, client:
        client.sendall(b"half")
        file = server.makefile("rb", buffering=0)
        body = BodyStream(cast(IO[bytes], file), limit_bytes=100, length_bytes=8, client=server, idle_timeout_s=0.2)

        # When the body is read, then that ends soon, and the socket is as before
        started_s = time.monotonic()
        with file, pytest.raises(InvalidRequest, match=r"arrived for 0\.2 s"):
            body.read()
        assert time.monotonic() - started_s < 2.0
        assert server.gettimeout() is None


def test_limits_in_words() -> None:
    assert limit_text(256 << 20) == "256 MiB"
    assert limit_text(1000) == "1000 bytes"
    assert limit_text((1 << 20) + 1) == "1048577 bytes"
    assert body_too_large(1 << 20).details == {"limit_bytes": 1 << 20}
