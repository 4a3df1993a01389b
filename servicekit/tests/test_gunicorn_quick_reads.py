"""Quick reads: one thread answers them together, and nobody waits for it."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from gunicorn_servers import GunicornServer, gunicorn_server
from waiting import wait_until

TIMEOUT_S = 20.0
QUICK = "quick-reads"
"""The thread's name."""


class Client:
    """One connection, which stays open."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S)
        self._received = b""

    def send(self, path: str, method: str = "GET", headers: str = "") -> None:
        """One request, in one packet."""
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())

    def answer(self) -> dict[str, Any]:
        """The next answer on the connection."""
        while b"\r\n\r\n" not in self._received:
            self._receive()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        length = int(head.lower().partition(b"content-length: ")[2].split()[0])
        while len(self._received) < length:
            self._receive()
        body, self._received = self._received[:length], self._received[length:]
        answer: dict[str, Any] = json.loads(body)
        return answer

    def ask(self, path: str, method: str = "GET") -> dict[str, Any]:
        """A request and its answer."""
        self.send(path, method)
        return self.answer()

    def close(self) -> None:
        """Leaves."""
        self.socket.close()

    def _receive(self) -> None:
        piece = self.socket.recv(65536)
        assert piece, "the server closed the connection"
        self._received += piece


class Server:
    """A gunicorn, and its clients."""

    def __init__(self, running: GunicornServer, stack: ExitStack) -> None:
        self.running = running
        self._stack = stack

    def client(self) -> Client:
        """One that asks for the first time."""
        client = Client(self.running.port)
        self._stack.callback(client.close)
        return client

    def reader(self) -> Client:
        """One that has asked a quick read before, so that the thread waits for it."""
        client = self.client()
        client.ask("/records/first")
        return client


@contextmanager
def serving(worker: str) -> Iterator[Server]:
    arguments = ["--threads", "8", "--keep-alive", "65", "--graceful-timeout", "60"]
    with gunicorn_server("quick_reads_app:app", "--worker-class", worker, *arguments) as running, ExitStack() as stack:
        yield Server(running, stack)


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with serving("enlight.servicekit.gunicorn_worker.StayingWorker") as server:
        yield server


@pytest.fixture
def server(running: Server) -> Iterator[Server]:
    """The module's server, without the clients of the test before."""
    with ExitStack() as stack:
        yield Server(running.running, stack)


def test_from_the_second_read_on_a_connection_one_thread_answers(server: Server) -> None:
    clients = [server.client() for _ in range(3)]
    first = [client.ask("/records/a") for client in clients]
    assert all(answer["thread"] != QUICK and answer["together"] is None for answer in first)
    for _ in range(3):
        assert [client.ask("/records/a")["thread"] for client in clients] == [QUICK] * 3


def test_reads_that_come_while_it_answers_are_answered_together(server: Server) -> None:
    sleeper, *others = [server.reader() for _ in range(4)]

    def are_together() -> bool:
        # Given a thread that has something to do
        sleeper.send("/records/nap")
        # When others ask meanwhile
        for number, client in enumerate(others):
            client.send(f"/records/r{number}")
        sleeper.answer()
        answers = [client.answer()["together"] for client in others]
        # Then the application was told of all of them at once
        return all(sorted(ids) == ["r0", "r1", "r2"] for ids in answers)

    assert wait_until(are_together, TIMEOUT_S)


def test_another_request_on_such_a_connection_is_another_thread_s(server: Server) -> None:
    client = server.reader()
    for path, method in (("/else", "GET"), ("/records/a", "DELETE"), ("/records/a/events", "GET")):
        assert client.ask("/records/a")["thread"] == QUICK
        assert client.ask(path, method)["thread"] != QUICK, path
        # The connection goes back to the quick reads with the next one.
        client.ask("/records/a")


def test_a_read_that_takes_long_keeps_nobody_waiting(server: Server) -> None:
    sleeper, blocked, other, silent = [server.reader() for _ in range(4)]
    # Given a read that does not come to an end, with another one behind it
    sleeper.send("/records/nap")
    blocked.send("/records/blocked")
    other.send("/records/a")
    sleeper.answer()
    # Then other threads answer that one, and what is asked later
    answer = other.answer()
    assert answer["thread"] != QUICK, answer
    for _ in range(3):
        assert silent.ask("/records/a")["thread"] != QUICK
    assert server.client().ask("/records/a")["thread"] != QUICK
    # And when the first has its answer, it is as before
    server.client().ask("/go-on")
    assert blocked.answer()["thread"] == QUICK
    for client in (blocked, other, silent):
        assert wait_until(lambda client=client: client.ask("/records/a")["thread"] == QUICK, TIMEOUT_S)  # type: ignore[misc]


def test_half_a_request_keeps_nobody_waiting(server: Server) -> None:
    slow, other = server.reader(), server.reader()
    slow.socket.sendall(b"GET /records/a HTTP/1.1\r\nHos")
    for _ in range(3):
        assert other.ask("/records/b")["thread"] == QUICK
    slow.socket.sendall(b"t: x\r\n\r\n")
    slow.answer()


def test_requests_in_one_packet_are_all_answered(server: Server) -> None:
    client = server.reader()
    client.socket.sendall(b"GET /records/a HTTP/1.1\r\nHost: x\r\n\r\n" * 3)
    for _ in range(3):
        client.answer()
    assert client.ask("/records/a")["thread"] is not None


def test_head_and_body_come_in_one_packet(server: Server) -> None:
    client = server.reader()
    for _ in range(50):
        client.send("/records/a")
        assert client.socket.recv(65536).endswith(b"}")


def test_whoever_leaves_leaves_nothing_behind(server: Server) -> None:
    staying = server.client()
    before = staying.ask("/files")["files"]
    for _ in range(20):
        server.reader().close()
    half = server.reader()
    half.send("/records/nap")
    half.close()
    assert wait_until(lambda: staying.ask("/files")["files"] <= before, TIMEOUT_S)


def test_a_client_that_wants_it_closed_finds_it_closed(server: Server) -> None:
    client = server.reader()
    client.send("/records/a", headers="Connection: close\r\n")
    assert client.answer()["thread"] == QUICK
    assert client.socket.recv(100) == b""


def test_an_answer_that_fails_harms_no_other(server: Server) -> None:
    failing, other = server.reader(), server.reader()
    failing.send("/records/exit")
    assert b"200 OK" not in failing.socket.recv(65536)
    assert other.ask("/records/a")["thread"] == QUICK


def test_a_connection_that_is_quiet_goes_back_and_is_still_good() -> None:
    with serving("quick_reads_app.SoonQuietWorker") as server:
        client = server.reader()
        assert client.ask("/records/a")["thread"] == QUICK

        def was_given_back() -> bool:
            # The look at the clock comes every half a second.
            return not wait_until(lambda: False, 1.0) and client.ask("/records/a")["thread"] != QUICK

        assert wait_until(was_given_back, TIMEOUT_S)
        assert client.ask("/records/a")["thread"] == QUICK


def test_a_server_that_stops_does_not_wait_for_its_readers() -> None:
    with serving("enlight.servicekit.gunicorn_worker.StayingWorker") as server:
        readers = [server.reader() for _ in range(3)]
        server.running.process.terminate()
        # gunicorn keeps a connection open for two seconds, for a request that may be on its way.
        server.running.process.wait(TIMEOUT_S)
        for reader in readers:
            assert reader.socket.recv(100) == b""
