"""Proxies that stand between a client and a server and break the conversation on purpose.

``HttpFaultProxy`` understands HTTP/1.1 and picks exchanges by method and path; ``TcpFaultProxy`` only
counts bytes, for every other protocol. Both listen on a free port of the loopback, and ``inject`` takes
what should go wrong.
"""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

_PIECE_BYTES = 16 * 1024
_HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "trailer", "upgrade"}


@dataclass
class Fault:
    """One thing that goes wrong, for the next ``times`` exchanges (or connections) that it fits."""

    match: str = ""
    """Regular expression searched in ``METHOD /path?query``; HTTP only."""
    times: int | None = 1
    """None: until ``clear``."""
    latency_s: float = 0.0
    """Waits before the answer."""
    status: int | None = None
    """Answers with this status and never asks the server; HTTP only."""
    black_hole: bool = False
    """Never answers and keeps the connection open."""
    reset: bool = False
    """Ends the connection by RST: at once, or where ``cut_response_after`` says."""
    cut_response_after: int | None = None
    """Ends the connection after this many bytes of the answer's body."""
    hang_response_after: int | None = None
    """Sends no more after this many bytes of the answer's body, and keeps the connection open."""
    flip_response_at: int | None = None
    """Inverts a bit of this byte of the answer's body."""
    cut_request_after: int | None = None
    """Passes this many bytes of the request's body on, then ends both connections."""
    flip_request_at: int | None = None
    """Inverts a bit of this byte of the request's body."""
    bandwidth_bytes_per_s: float | None = None
    """Slows the answer's body down."""


class _Proxy:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._closing = threading.Event()
        self._release = threading.Event()

    def inject(self, *faults: Fault) -> None:
        """Faults are tried in order; the first that fits an exchange is used up once."""
        with self._lock:
            self._faults.extend(faults)

    def clear(self) -> None:
        """Everything works again; connections that hang are ended."""
        with self._lock:
            self._faults.clear()
            self._release.set()
            self._release = threading.Event()

    def _take(self, line: str) -> Fault | None:
        with self._lock:
            for fault in self._faults:
                if re.search(fault.match, line):
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times == 0:
                            self._faults.remove(fault)
                    return fault
        return None

    def _hang(self) -> None:
        with self._lock:
            release = self._release
        if not self._closing.is_set():
            release.wait()

    def _close(self) -> None:
        self._closing.set()
        self.clear()


class HttpFaultProxy(_Proxy):
    """An HTTP proxy in front of ``upstream`` (host, port); ``exchanges`` logs ``METHOD /path?query`` of
    each.
    """

    def __init__(self, upstream: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        super().__init__()
        self.upstream = upstream
        self.exchanges: list[str] = []
        proxy = self

        class Handler(_HttpHandler):
            owner = proxy

        self._server = _QuietServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def count(self, pattern: str) -> int:
        """How many exchanges so far fit the pattern."""
        return sum(1 for line in self.exchanges if re.search(pattern, line))


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hung up is the point of these tests, not news."""


class _ConversationError(Exception):
    """The conversation ends here."""


class _HttpHandler(BaseHTTPRequestHandler):
    owner: HttpFaultProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are written apart: waiting for acknowledgements costs 40 ms each

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        line = f"{self.command} {self.path}"
        self.owner.exchanges.append(line)
        fault = self.owner._take(line) or Fault()
        try:
            self._exchange(fault)
        except _ConversationError:
            self._end(reset=fault.reset)
        except (OSError, http.client.HTTPException):
            self._end(reset=False)

    def _exchange(self, fault: Fault) -> None:
        if fault.reset and fault.cut_response_after is None:
            raise _ConversationError
        if fault.black_hole:
            self.owner._hang()
            raise _ConversationError
        if fault.status is not None:
            for _ in self._request_body(Fault()):
                pass
            time.sleep(fault.latency_s)
            self.send_response(fault.status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        with closing(http.client.HTTPConnection(*self.owner.upstream, timeout=60)) as upstream:
            self._forward(upstream, fault)
            time.sleep(fault.latency_s)
            with upstream.getresponse() as response:
                self._answer(response, fault)

    def _forward(self, upstream: http.client.HTTPConnection, fault: Fault) -> None:
        upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in _HOP_HEADERS:
                upstream.putheader(name, value)
        length = self.headers.get("Content-Length")
        if length is not None:
            upstream.putheader("Content-Length", length)
        upstream.endheaders()
        for piece in self._request_body(fault):
            upstream.send(piece)

    def _request_body(self, fault: Fault) -> Iterator[bytes]:
        left = int(self.headers.get("Content-Length") or 0)
        offset = 0
        while left:
            piece = self.rfile.read(min(left, _PIECE_BYTES))
            if not piece:
                raise _ConversationError
            left -= len(piece)
            piece = _flip(piece, offset, fault.flip_request_at)
            if fault.cut_request_after is not None and offset + len(piece) > fault.cut_request_after:
                yield piece[: fault.cut_request_after - offset]
                raise _ConversationError
            offset += len(piece)
            yield piece

    def _answer(self, response: http.client.HTTPResponse, fault: Fault) -> None:
        self.send_response_only(response.status, response.reason)
        for name, value in response.getheaders():
            if name.lower() not in _HOP_HEADERS:
                self.send_header(name, value)
        length = response.getheader("Content-Length")
        bodyless = self.command == "HEAD" or response.status in (204, 304)
        chunked = length is None and not bodyless
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif length is not None:
            self.send_header("Content-Length", length)
        self.end_headers()
        offset = 0
        while piece := response.read1(_PIECE_BYTES):
            for part in self._break(piece, offset, fault):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
            offset += len(piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def _break(self, piece: bytes, offset: int, fault: Fault) -> Iterator[bytes]:
        piece = _flip(piece, offset, fault.flip_response_at)
        if fault.bandwidth_bytes_per_s:
            time.sleep(len(piece) / fault.bandwidth_bytes_per_s)
        for limit, hang in ((fault.cut_response_after, False), (fault.hang_response_after, True)):
            if limit is not None and offset + len(piece) > limit:
                yield piece[: limit - offset]
                self.wfile.flush()
                if hang:
                    self.owner._hang()
                raise _ConversationError
        yield piece

    def _end(self, *, reset: bool) -> None:
        self.close_connection = True
        _end(self.connection, reset=reset)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: ``exchanges`` is the log."""


class TcpFaultProxy(_Proxy):
    """A proxy of plain connections in front of ``upstream``; a fault is taken once per connection.

    ``cut_response_after``, ``hang_response_after`` and ``flip_response_at`` count the bytes that come from
    the server, from the start of the connection; the ``request`` faults those that go to it.
    """

    def __init__(self, upstream: tuple[str, int]) -> None:
        super().__init__()
        self.upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._open: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for connection in self._open:
                _end(connection, reset=False)
        self._thread.join()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        fault = self._take("") or Fault()
        with client:
            if fault.reset and fault.cut_response_after is None:
                _end(client, reset=True)
                return
            if fault.black_hole:
                self._hang()
                return
            try:
                server = socket.create_connection(self.upstream, timeout=10)
            except OSError:
                return
            with server:
                server.settimeout(None)
                with self._lock:
                    self._open |= {client, server}
                request = _Direction(fault.cut_request_after, None, fault.flip_request_at, 0.0, None)
                back = threading.Thread(target=self._pump, args=(client, server, request, fault), daemon=True)
                back.start()
                response = _Direction(
                    fault.cut_response_after,
                    fault.hang_response_after,
                    fault.flip_response_at,
                    fault.latency_s,
                    fault.bandwidth_bytes_per_s,
                )
                self._pump(server, client, response, fault)
                back.join()
                with self._lock:
                    self._open -= {client, server}

    def _pump(self, source: socket.socket, target: socket.socket, direction: _Direction, fault: Fault) -> None:
        try:
            while piece := source.recv(_PIECE_BYTES):
                target.sendall(direction.apply(piece))
                if direction.hangs:
                    self._hang()
                    break
                if direction.ended:
                    break
            else:
                target.shutdown(socket.SHUT_WR)
                return
        except OSError:
            pass
        _end(source, reset=False)
        _end(target, reset=fault.reset)


@dataclass
class _Direction:
    cut_after: int | None
    hang_after: int | None
    flip_at: int | None
    latency_s: float
    bandwidth_bytes_per_s: float | None
    offset: int = 0
    ended: bool = field(default=False, init=False)
    hangs: bool = field(default=False, init=False)

    def apply(self, piece: bytes) -> bytes:
        time.sleep(self.latency_s)
        if self.bandwidth_bytes_per_s:
            time.sleep(len(piece) / self.bandwidth_bytes_per_s)
        piece = _flip(piece, self.offset, self.flip_at)
        for limit, hang in ((self.cut_after, False), (self.hang_after, True)):
            if limit is not None and self.offset + len(piece) > limit:
                piece = piece[: limit - self.offset]
                self.hangs, self.ended = hang, not hang
        self.offset += len(piece)
        return piece


def _flip(piece: bytes, offset: int, at: int | None) -> bytes:
    if at is None or not offset <= at < offset + len(piece):
        return piece
    flipped = bytearray(piece)
    flipped[at - offset] ^= 0x10
    return bytes(flipped)


def _end(connection: socket.socket, *, reset: bool) -> None:
    with suppress(OSError):
        if reset:  # closing with a linger time of 0 sends RST instead of FIN
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        else:
            connection.shutdown(socket.SHUT_RDWR)
