"""A service behind the gateway that answers what a test wants, byte by byte if need be."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: socket.socket


Answer = Callable[[Seen], bytes]
"""Gives every byte of the answer, its head included; b"" ends the connection without one."""


def http(
    body: bytes, *, status: int = 200, content_type: str = "application/json", headers: dict[str, str] | None = None
) -> bytes:
    """A well-formed answer."""
    lines = {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} Some\r\n{head}\r\n".encode("latin-1") + body


def json_http(value: Any, **more: Any) -> bytes:
    """A JSON answer."""
    return http(json.dumps(value).encode(), **more)


def error_http(status: int, code: str, **more: Any) -> bytes:
    """An error with the suite's body."""
    return json_http(
        {"message": "No.", "error": {"code": code, "details": {}, "request_id": "r"}}, status=status, **more
    )


@dataclass
class StandIn:
    """The service: what it was asked, and what it answers next."""

    url: str
    answer: Answer = field(default=lambda seen: json_http({"path": seen.path}))
    seen: list[Seen] = field(default_factory=list)
    """Without the health checks."""
    version: str = "1"
    closes_after_answer: bool = False
    """Ends each connection after its answer without having said so, as a server that lets idle ones go."""
    connections: int = 0
    sockets: list[socket.socket] = field(default_factory=list)
    """Of every connection that there ever was."""

    def hang_up(self) -> None:
        """Ends every connection, as the end of its process does."""
        for connection in self.sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def stand_in_service() -> Iterator[StandIn]:
    """A service on a free loopback port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            service.connections += 1
            service.sockets.append(self.connection)

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_GET(self) -> None:
            if self.path == "/ready":
                self.wfile.write(json_http({"state": "ready", "details": {}}))
            elif self.path == "/":
                self.wfile.write(json_http({"version": service.version}))
            else:
                self.do_POST()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen = Seen(self.command, self.path, dict(self.headers), body, self.connection)
            service.seen.append(seen)
            answer = service.answer(seen)
            with suppress(OSError):
                self.wfile.write(answer)
            self.close_connection = not answer or service.closes_after_answer

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """Says nothing: tests break connections on purpose."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    service = StandIn(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
