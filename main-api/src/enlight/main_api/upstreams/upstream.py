"""The services behind the gateway: a request to one of a service's addresses, and every way in which it fails.

What these services compute has no effect but its answer, so a request may be asked again, here or elsewhere.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from socket import SHUT_RDWR, socket
from typing import Any

from urllib3 import HTTPConnectionPool, Timeout, connection_from_url
from urllib3.connection import HTTPConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from enlight.main_api.upstreams.answers import Promise, UpstreamAnswer, read_answer
from enlight.main_api.upstreams.client_watch import ClientWatch
from enlight.servicekit.errors import ClientGone, UpstreamFailed, UpstreamTimeout, WorkerUnavailable
from enlight.servicekit.tracing import Span, span

_log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20
PIECE_TIMEOUT_S = 30.0
"""Limit of sending one piece of a body."""
AVOIDED_S = 5.0
"""An address that could not be reached is the last choice for this long."""
LOOK_TIMEOUT_S = 2.0
LOOK_BYTES = 64 * 1024
CONNECTIONS_KEPT = 64
"""Idle connections kept open to one address."""


@dataclass(frozen=True, eq=False)
class UpstreamRequest:
    """What is asked of a service."""

    method: str
    path: str
    """With the query."""
    promise: Promise
    headers: Mapping[str, str]
    body: memoryview | bytes | None = None


class Upstream:
    """One service, at one or more addresses.

    Args:
        name: For messages.
        urls: Its addresses. They take turns; one that refuses the connection or answers 503 is followed by the next.
        connect_timeout_s: Limit of reaching one address.
        read_timeout_s: Limit of the service's silence, and of one request in all.
        limit_bytes: Largest answer.
        watch: Looks after the clients of requests under way.
    """

    def __init__(
        self,
        name: str,
        urls: Sequence[str],
        *,
        connect_timeout_s: float,
        read_timeout_s: float,
        limit_bytes: int,
        watch: ClientWatch,
    ) -> None:
        self.name = name
        self._addresses = [_Address(url) for url in urls]
        self._timeout = Timeout(connect=connect_timeout_s, read=read_timeout_s)
        self._read_timeout_s = read_timeout_s
        self._limit_bytes = limit_bytes
        self._watch = watch
        self._turns = itertools.count()

    def ask(
        self,
        request: UpstreamRequest,
        *,
        client_gone: Callable[[], bool],
        take_bytes: Callable[[int], None],
        affinity: str | None = None,
    ) -> UpstreamAnswer:
        """The service's answer, which may be an error of its own.

        Args:
            request: What to ask.
            client_gone: Whether nobody waits any more.
            take_bytes: Told of the memory that the answer needs.
            affinity: Requests with the same one go to the same address, as long as it is there.

        Raises:
            WorkerUnavailable: no address can be reached.
            UpstreamTimeout: no whole answer came in time.
            UpstreamFailed: the answer was cut short, malformed, or not what was promised.
            ClientGone: the client left; the service was hung up on.
            QueueFull: from ``take_bytes``.
        """
        deadline_s = time.monotonic() + self._read_timeout_s
        refusal: UpstreamAnswer | None = None
        for address in self._in_order(affinity):
            try:
                answer = self._ask(address, request, deadline_s, client_gone, take_bytes)
            except _UnreachableError as error:
                address.avoid()
                _log.warning("%s cannot be reached at %s: %s", self.name, address.url, error)
                continue
            if answer.status != 503:
                return answer
            refusal = answer
        if refusal is not None:
            return refusal
        raise WorkerUnavailable(f"{self.name} cannot be reached.", details={"service": self.name})

    def looks(self) -> list[dict[str, str]]:
        """How each address is: its readiness and version, asked now, for the background."""
        return [{"url": address.url, **_look(address)} for address in self._addresses]

    def close(self) -> None:
        """Closes idle connections; a later request fails."""
        for address in self._addresses:
            address.pool.close()

    def _in_order(self, affinity: str | None) -> list[_Address]:
        if affinity is None:
            first = next(self._turns) % len(self._addresses)
            order = self._addresses[first:] + self._addresses[:first]
        else:
            # Rendezvous hashing: when an address goes, only what was asked of it moves.
            order = sorted(self._addresses, key=lambda address: _weight(address.url, affinity))
        now_s = time.monotonic()
        return sorted(order, key=lambda address: address.avoided_until_s > now_s)

    def _ask(
        self,
        address: _Address,
        request: UpstreamRequest,
        deadline_s: float,
        client_gone: Callable[[], bool],
        take_bytes: Callable[[int], None],
    ) -> UpstreamAnswer:
        while True:
            line = address.line()
            with self._watch.watching(client_gone, deadline_s, line.hang_up) as watched, self._span(request) as calling:
                try:
                    answer = self._exchange(address.pool, request, calling.headers(), take_bytes)
                    calling.note({"http.response.status_code": answer.status})
                    return answer
                except HTTPError as error:
                    if watched.ended == "client_gone":
                        raise ClientGone("The client left before its answer was ready.") from error
                    if watched.ended == "too_late" or isinstance(error, ReadTimeoutError):
                        raise UpstreamTimeout(
                            f"{self.name} did not answer within {self._read_timeout_s:g} s.",
                            details={"service": self.name},
                        ) from error
                    if isinstance(error, NewConnectionError | ConnectTimeoutError):
                        raise _UnreachableError(str(error)) from error
                    if line.reused and _hung_up(error):
                        continue  # the service had closed the idle connection before it saw the request
                    _log.warning("%s at %s failed: %s", self.name, address.url, error)
                    raise UpstreamFailed(
                        f"{self.name} gave a malformed answer, or none.", details={"service": self.name}
                    ) from error

    def _span(self, request: UpstreamRequest) -> AbstractContextManager[Span]:
        known = {"http.request.method": request.method, "enlight.upstream": self.name}
        return span(f"{request.method} {self.name}", kind="client", attributes=known)

    def _exchange(
        self,
        pool: HTTPConnectionPool,
        request: UpstreamRequest,
        trace_headers: Mapping[str, str],
        take_bytes: Callable[[int], None],
    ) -> UpstreamAnswer:
        headers = {**request.headers, **trace_headers}
        body = None
        if request.body is not None:
            headers["Content-Length"] = str(len(request.body))
            body = _pieces(memoryview(request.body))
        response = pool.urlopen(
            request.method,
            request.path,
            body=body,  # type: ignore[arg-type]  # a socket sends any bytes-like object
            headers=headers,
            retries=False,
            redirect=False,
            timeout=self._timeout,
            preload_content=False,
            decode_content=False,
        )
        whole = False
        try:
            answer = read_answer(
                response,
                service=self.name,
                promise=request.promise,
                limit_bytes=self._limit_bytes,
                take_bytes=take_bytes,
            )
            whole = True
        finally:
            if not whole:
                response.close()  # the connection holds the rest of something that nobody wants
            response.release_conn()
        return answer


class _UnreachableError(Exception):
    """This address, now; another may do."""


class _Address:
    """One address with its connections."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.avoided_until_s = 0.0
        self._lines = threading.local()
        self.pool = connection_from_url(url, maxsize=CONNECTIONS_KEPT, block=False)
        self.pool.ConnectionCls = _traced(self.pool.ConnectionCls, self._lines)

    def avoid(self) -> None:
        """Makes it the last choice for a while."""
        self.avoided_until_s = time.monotonic() + AVOIDED_S

    def line(self) -> _Line:
        """Where this thread's next request leaves a trace of its connection."""
        line = _Line()
        self._lines.current = line
        return line


class _Line:
    """The connection that a request goes through, for whoever must hang up on it."""

    def __init__(self) -> None:
        self.sock: socket | None = None
        self.reused = False

    def hang_up(self) -> None:
        """Ends the connection under whoever reads from it or writes to it."""
        if self.sock is not None:
            with suppress(OSError):
                self.sock.shutdown(SHUT_RDWR)


def _traced(base: Any, lines: threading.local) -> type[HTTPConnection]:  # noqa: ANN401 -- a class of urllib3
    class TracedConnection(base):  # type: ignore[misc]
        """A connection that leaves a trace in the request's line."""

        def connect(self) -> None:
            super().connect()
            lines.current.sock = self.sock
            # The limit of connecting is not the limit of a piece's way into a busy service.
            self.sock.settimeout(PIECE_TIMEOUT_S)

        def request(self, *arguments: Any, **more: Any) -> None:  # noqa: ANN401 -- as urllib3
            lines.current.sock = self.sock
            lines.current.reused = self.sock is not None
            super().request(*arguments, **more)

    return TracedConnection


def _pieces(body: memoryview) -> Iterator[memoryview]:
    """The body in pieces: the time limit of sending is one of each piece, not of the whole."""
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


def _look(address: _Address) -> dict[str, str]:
    address.line()
    told = {"state": "away", "version": ""}
    for path, field in (("/ready", "state"), ("/", "version")):
        try:
            body = json.loads(_small_answer(address.pool, path))
        except (HTTPError, ValueError, RecursionError):
            return told
        told[field] = str(body.get(field, ""))[:50] if isinstance(body, dict) else ""
    return told


def _small_answer(pool: HTTPConnectionPool, path: str) -> bytes:
    response = pool.urlopen("GET", path, retries=False, redirect=False, timeout=LOOK_TIMEOUT_S, preload_content=False)
    try:
        return response.read(LOOK_BYTES)
    finally:
        response.close()


def _hung_up(error: HTTPError) -> bool:
    """Whether the connection ended before a byte of the answer came."""
    cause = error.args[1] if isinstance(error, ProtocolError) and len(error.args) > 1 else None
    return isinstance(cause, ConnectionError)  # http.client.RemoteDisconnected is one


def _weight(url: str, affinity: str) -> bytes:
    return hashlib.sha256(f"{url}\n{affinity}".encode()).digest()
