"""Threads that stay with a connection: what they gain, and that nobody waits for them."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
from gunicorn_servers import gunicorn_server
from staying_app import THREADS, MinuteLongWorker

TIMEOUT_S = 20.0
"""Of each answer: less than a thread stays."""


@pytest.fixture
def port() -> Iterator[int]:
    """A gunicorn with few threads, all of which are there and wait for work."""
    arguments = ["--threads", str(THREADS), "--keep-alive", "65", "--graceful-timeout", "1"]
    with gunicorn_server("staying_app:app", "--worker-class", "staying_app.MinuteLongWorker", *arguments) as server:
        with ThreadPoolExecutor(THREADS) as clients:
            names = {*clients.map(lambda _: ask_once(server.port, "/together"), range(THREADS))}
        assert len(names) == THREADS
        yield server.port


def connect(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)


def ask(connection: http.client.HTTPConnection, path: str = "/") -> str:
    """The name of the thread that answers."""
    connection.request("GET", path)
    return connection.getresponse().read().decode()


def ask_once(port: int, path: str) -> str:
    with closing(connect(port)) as connection:
        return ask(connection, path)


def test_a_client_that_asks_again_is_answered_by_the_same_thread(port: int) -> None:
    with closing(connect(port)) as connection:
        names = [ask(connection) for _ in range(20)]
    assert len(set(names)) == 1, names


def test_threads_that_stay_leave_one_for_the_others(port: int) -> None:
    with ExitStack() as stack:
        # Given more open connections than threads, each with a client that could ask again
        connections = [stack.enter_context(closing(connect(port))) for _ in range(2 * THREADS)]
        # When all of them ask, one after the other, and again
        names = [[ask(connection) for connection in connections] for _ in range(2)]
        # Then each is answered: the last ones by the thread that may not stay
        assert len(set(names[1][: MinuteLongWorker.max_staying])) == MinuteLongWorker.max_staying
        assert len({*names[0][MinuteLongWorker.max_staying :], *names[1][MinuteLongWorker.max_staying :]}) == 1


def test_a_request_that_came_with_the_one_before_is_answered_at_once(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_S) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
        answers = b""
        while answers.count(b"200 OK") < 2 or not answers.partition(b"200 OK")[2].partition(b"200 OK")[2]:
            piece = client.recv(65536)
            assert piece, answers
            answers += piece
