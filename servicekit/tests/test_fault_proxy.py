"""The fault proxies do what they say, over real sockets."""

from __future__ import annotations

import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from http.client import IncompleteRead
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fault_proxy import Fault, HttpFaultProxy, TcpFaultProxy

PAYLOAD = bytes(range(256)) * 400


@pytest.fixture
def echo() -> Iterator[tuple[str, int]]:
    """A server that sends back what it gets, in full, once the client has finished sending."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                data = b""
                while piece := connection.recv(65536):
                    data += piece
                connection.sendall(data)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def exchange(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(PAYLOAD)
        connection.shutdown(socket.SHUT_WR)
        data = b""
        while piece := connection.recv(65536):
            data += piece
        return data


def test_tcp_passes_everything_and_breaks_what_it_is_told(echo: tuple[str, int]) -> None:
    with TcpFaultProxy(echo) as proxy:
        assert exchange(proxy.port) == PAYLOAD
        proxy.inject(Fault(cut_response_after=1_000))
        assert exchange(proxy.port) == PAYLOAD[:1_000]
        proxy.inject(Fault(flip_response_at=50_000))
        answer = exchange(proxy.port)
        assert [i for i in range(len(PAYLOAD)) if answer[i] != PAYLOAD[i]] == [50_000]
        proxy.inject(Fault(flip_request_at=7))
        answer = exchange(proxy.port)
        assert [i for i in range(len(PAYLOAD)) if answer[i] != PAYLOAD[i]] == [7]
        proxy.inject(Fault(reset=True))
        # Which call meets the reset, and so which OSError it is, depends on who is faster.
        with pytest.raises(OSError):  # noqa: PT011
            exchange(proxy.port)
        proxy.inject(Fault(latency_s=0.2))
        started = time.monotonic()
        assert exchange(proxy.port) == PAYLOAD
        assert time.monotonic() - started > 0.2
        assert proxy.connections == 6


def test_tcp_hangs_until_cleared(echo: tuple[str, int]) -> None:
    with TcpFaultProxy(echo) as proxy:
        for fault in (Fault(black_hole=True), Fault(hang_response_after=100)):
            proxy.inject(fault)
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.2) as connection:
                connection.sendall(PAYLOAD)
                connection.shutdown(socket.SHUT_WR)
                expected = 100 if fault.hang_response_after else 0
                data = b""
                while len(data) < expected:
                    data += connection.recv(expected)
                assert data == PAYLOAD[:expected]
                with pytest.raises(TimeoutError):
                    connection.recv(1)
            proxy.clear()
        assert exchange(proxy.port) == PAYLOAD


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(PAYLOAD)))
        self.end_headers()
        self.wfile.write(PAYLOAD)

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(201)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def proxy() -> Iterator[HttpFaultProxy]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        with HttpFaultProxy(server.server_address) as proxy:  # type: ignore[arg-type]
            yield proxy
        server.shutdown()
        thread.join()


def get(proxy: HttpFaultProxy, data: bytes | None = None) -> bytes:
    with urllib.request.urlopen(f"{proxy.url}/path?x=1", data=data, timeout=5) as response:
        body: bytes = response.read()
        return body


def test_http_passes_everything_and_breaks_what_it_is_told(proxy: HttpFaultProxy) -> None:
    assert get(proxy) == PAYLOAD
    assert get(proxy, PAYLOAD) == PAYLOAD
    assert proxy.exchanges == ["GET /path?x=1", "POST /path?x=1"]
    proxy.inject(Fault(match="^POST", status=503, times=2))
    assert get(proxy) == PAYLOAD
    for _ in range(2):
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(proxy, PAYLOAD)
        with caught.value:
            assert caught.value.code == 503
    assert get(proxy, PAYLOAD) == PAYLOAD
    proxy.inject(Fault(cut_response_after=999))
    with pytest.raises(IncompleteRead) as cut:
        get(proxy)
    assert cut.value.partial == PAYLOAD[:999]
    proxy.inject(Fault(flip_response_at=70_000))
    answer = get(proxy)
    assert [i for i in range(len(PAYLOAD)) if answer[i] != PAYLOAD[i]] == [70_000]
    proxy.inject(Fault(flip_request_at=3))
    answer = get(proxy, PAYLOAD)
    assert [i for i in range(len(PAYLOAD)) if answer[i] != PAYLOAD[i]] == [3]
    assert proxy.count("^POST") == 5
