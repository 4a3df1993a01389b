"""Request bodies: how much is read, for how long, and what counts as JSON."""

from __future__ import annotations

import contextlib
import io
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import IO, Any, cast

from flask import Request
from flask.globals import request_ctx
from werkzeug.utils import cached_property

from enlight.servicekit.errors import (
    BodyTooLarge,
    ClientGone,
    InvalidField,
    InvalidRequest,
    ServiceError,
    UnsupportedMediaType,
)
from enlight.servicekit.gunicorn_bodies import receive_into
from enlight.servicekit.strict_json import loads, to_text
from enlight.servicekit.tracing import Span

READ_BYTES = 1 << 20
BODY_TIMEOUT_S = 30.0
"""A body of which nothing arrives for this long is given up: a half-sent one must not hold a thread for ever."""


def limit_text(limit_bytes: int) -> str:
    """A limit in words: ``256 MiB``, ``1000 bytes``."""
    mebibytes, rest = divmod(limit_bytes, 1 << 20)
    return f"{mebibytes} MiB" if mebibytes and not rest else f"{limit_bytes} bytes"


def body_too_large(limit_bytes: int) -> BodyTooLarge:
    """The error of a body over its route's limit."""
    return BodyTooLarge(
        f"The body is larger than this route's limit of {limit_text(limit_bytes)}.",
        details={"limit_bytes": limit_bytes},
    )


class BodyStream(io.RawIOBase):
    """A request's body up to its limit. Werkzeug's own stream cuts a chunked body there without a word.

    Reading raises BodyTooLarge past the limit, ClientGone when the body ends before its Content-Length, and
    InvalidRequest when its chunks are malformed or nothing arrives for ``idle_timeout_s``.
    """

    def __init__(
        self,
        source: IO[bytes],
        *,
        limit_bytes: int,
        length_bytes: int | None,
        client: object,
        idle_timeout_s: float = BODY_TIMEOUT_S,
    ) -> None:
        """``length_bytes``: None for a chunked body. ``client``: the socket behind ``source``, when there is one."""
        self._source = source
        self._limit_bytes = limit_bytes
        self._end = limit_bytes + 1 if length_bytes is None else length_bytes
        self._length_bytes = length_bytes
        self._client = client if isinstance(client, socket.socket) else None
        self._idle_timeout_s = idle_timeout_s
        self._position = 0

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 — any writable buffer
        """Reads what fits into ``buffer``; without a copy on the way where the server lets us."""
        return self._take(len(buffer), lambda size: self._receive(memoryview(buffer)[:size]))

    def readall(self) -> bytes:
        """The rest of the body."""
        body = bytearray()
        while data := self._read(READ_BYTES):
            body += data
        return bytes(body)

    def _read(self, size: int) -> bytes:
        data = b""

        def read(allowed: int) -> int:
            nonlocal data
            data = self._source.read(allowed)
            return len(data)

        self._take(size, read)
        return data

    def _receive(self, view: memoryview) -> int:
        received = receive_into(self._source, view)
        if received is not None:
            return received
        data = self._source.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _take(self, size: int, take: Callable[[int], int]) -> int:
        """Has ``take`` get up to so many bytes, as far as the body goes; gives how many came."""
        size = min(size, self._end - self._position)
        if size <= 0:
            return 0
        try:
            with self._idle_limit():
                taken = take(size)
        except TimeoutError as error:
            raise InvalidRequest(f"Nothing of the body arrived for {self._idle_timeout_s:g} s.") from error
        except OSError as error:
            raise ClientGone("The client hung up within the body.") from error
        except Exception as error:  # the server's parser has its own classes for malformed chunks
            raise InvalidRequest("The body is not well-formed HTTP.") from error
        self._position += taken
        if self._position > self._limit_bytes:
            raise body_too_large(self._limit_bytes)
        if not taken and self._length_bytes is not None:
            raise ClientGone("The body ended before its Content-Length.")
        return taken

    @contextlib.contextmanager
    def _idle_limit(self) -> Iterator[None]:
        if self._client is None:
            yield
            return
        before_s = self._client.gettimeout()
        self._client.settimeout(self._idle_timeout_s)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                self._client.settimeout(before_s)


def this_request() -> ServiceRequest:
    """The current request of an application that `create_service_app` made."""
    return cast(ServiceRequest, request_ctx.request)


class ServiceRequest(Request):
    """A request whose body is read as the contract says, whoever asks for it, and what is known of the request.

    Flask's ``request`` and ``g`` look for the current request each time that they are named; whoever needs several
    things of it asks for `this_request` once.
    """

    request_id = ""
    rule: str | None = None
    """The route's pattern; None for no route."""
    started_s = 0.0
    """By the monotonic clock."""
    span = Span()
    entered: ExitStack | None = None
    """What is left when it is over."""
    told_error: ServiceError | None = None
    """What it was refused with."""
    json_body: object = None

    @cached_property
    def stream(self) -> IO[bytes]:
        """The body, limited."""
        limit_bytes = self.max_content_length
        assert limit_bytes is not None, "the app sets a limit for each request"
        length_bytes = self.content_length
        if length_bytes is None and "wsgi.input_terminated" not in self.environ:
            return io.BytesIO()
        client = self.environ.get("gunicorn.socket")
        source = self.environ["wsgi.input"]
        body = BodyStream(source, limit_bytes=limit_bytes, length_bytes=length_bytes, client=client)
        return cast(IO[bytes], body)

    def get_json(self, force: bool = False, silent: bool = False, cache: bool = True) -> Any:  # noqa: ANN401
        """The body's JSON object. Never silent: flask-openapi asks for that, and would take any mistake for null.

        Raises UnsupportedMediaType, InvalidRequest (not JSON), InvalidField (not an object).
        """
        if self.json_body is None:
            if self.mimetype != "application/json":
                given = self.mimetype[:100] or "no content type"
                raise UnsupportedMediaType(f"Send JSON, with the content type application/json ({given} came).")
            text = to_text(self.get_data(cache=False))  # not kept: a body may have hundreds of megabytes
            value = loads(text)
            if not isinstance(value, dict):
                raise InvalidField.of("body", "must be a JSON object")
            self.json_body = value
        return self.json_body
