"""The skeleton under a real gunicorn: what only a socket shows."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from example_service import LARGE_BYTES, SMALL_BYTES
from gunicorn_servers import gunicorn_server
from waiting import wait_until

SUPPORT = Path(__file__).parent / "support"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """A gunicorn as the services run it: one process, threads."""
    with gunicorn_server("example_service:gunicorn_app()", "--worker-class", "gthread", "--threads", "4") as server:
        yield server.port


def exchange(port: int, request: bytes) -> tuple[int, dict[str, object]]:
    """Status and JSON body of the answer to raw bytes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as client:
        client.sendall(request)
        response = http.client.HTTPResponse(client)
        response.begin()
        return response.status, json.loads(response.read())


def head(path: str, **headers: object) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def code_of(body: dict[str, object]) -> object:
    error = body["error"]
    assert isinstance(error, dict)
    return error["code"]


def test_a_large_body_arrives_whole_and_fast(port: int) -> None:
    pictures = ["QUJD" * 2_500_000] * 10
    started_s = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"prompt": "a", "IMAGE_LIST": pictures})
    connection.request("POST", "/large", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert (response.status, json.load(response)) == (200, {"characters": 100_000_000})
    assert time.monotonic() - started_s < 30.0
    connection.close()


def test_a_claim_over_the_limit_is_refused_without_waiting_for_the_body(port: int) -> None:
    status, body = exchange(port, head("/large", Content_Length=LARGE_BYTES + 1))
    assert (status, code_of(body)) == (413, "body_too_large")
    assert "300 MiB" in str(body["message"])


def test_a_chunked_body_over_the_limit_is_refused(port: int) -> None:
    chunk = b"400\r\n" + b"x" * 0x400 + b"\r\n"
    status, body = exchange(port, head("/draw", Transfer_Encoding="chunked") + chunk * 3)
    assert (status, code_of(body)) == (413, "body_too_large")


def test_a_chunked_body_within_the_limit_is_read(port: int) -> None:
    chunks = b'10\r\n{"prompt": "a do\r\n3\r\ng"}\r\n0\r\n\r\n'
    status, body = exchange(port, head("/draw", Transfer_Encoding="chunked") + chunks)
    assert (status, body) == (200, {"size": None, "LR": 2e-6})


@pytest.mark.parametrize("chunk", [b"zz\r\nhello\r\n", b"5\r\nhelloXX0\r\n\r\n"])
def test_malformed_chunks_are_the_clients_error(port: int, chunk: bytes) -> None:
    status, body = exchange(port, head("/draw", Transfer_Encoding="chunked") + chunk)
    assert (status, code_of(body)) == (400, "invalid_request")


def test_the_connection_is_used_again_after_an_error(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    for _ in range(3):
        connection.request("POST", "/draw", b"x" * (SMALL_BYTES + 1), {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert (response.status, bool(response.read())) == (413, True)
    connection.close()


def test_clients_that_hang_up_within_the_body_break_nothing(port: int) -> None:
    for _ in range(8):  # twice the threads
        with socket.create_connection(("127.0.0.1", port), timeout=10.0) as client:
            client.sendall(head("/draw", Content_Length=1000) + b'{"prompt"')
    assert wait_until(lambda: exchange(port, head("/draw", Content_Length=15) + b'{"prompt": "a"}')[0] == 200)


def test_work_ends_when_its_client_hangs_up(port: int, tmp_path: Path) -> None:
    # Given a client that waits for an answer
    report = tmp_path / "report"
    with socket.create_connection(("127.0.0.1", port), timeout=10.0) as client:
        client.sendall(head(f"/wait?file={report}", Content_Length=0))
        time.sleep(0.5)
        assert not report.exists()

    # When it hangs up, then the view notices at once
    assert wait_until(lambda: report.exists() and report.read_text() != "", 3.0)
    assert 0.3 < float(report.read_text()) < 3.0
