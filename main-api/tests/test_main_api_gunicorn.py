"""The gateway as it is run: under gunicorn, with real clients that send half a body or leave."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from gateways import MODELS_FOLDER, Surroundings, gateway_under_gunicorn, make_key, surroundings
from stand_in_service import Seen, http, json_http
from waiting import wait_until

from enlight.servicekit.local_service import LocalService

CONFIG = Path(__file__).resolve().parents[1] / "gunicorn.conf.py"


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("gunicorn")) as servers:
        yield servers


@pytest.fixture(scope="module")
def running(around: Surroundings) -> Iterator[tuple[LocalService, str]]:
    """The gateway, and a key for it."""
    settings = around.settings()
    service = gateway_under_gunicorn(settings, around.folder / "gateway.log")
    with service:
        yield service, make_key(settings, "anna")


def open_connection(url: str) -> socket.socket:
    parts = urlsplit(url)
    assert parts.port
    return socket.create_connection((parts.hostname or "", parts.port), timeout=10)


def request_head(path: str, length_bytes: int, key: str = "") -> bytes:
    authorization = f"Authorization: Bearer {key}\r\n" if key else ""
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"{authorization}Content-Length: {length_bytes}\r\n\r\n"
    ).encode()


def test_pictures_go_through(around: Surroundings, running: tuple[LocalService, str]) -> None:
    service, key = running
    around.behind["bgrem"].answer = lambda seen: json_http({"output_image": "y" * len(seen.body)})
    body = {"input_image": "x" * 13_000_000}
    for _ in range(2):
        answer = requests.post(f"{service.url}/remove", json=body, headers={"X-API-Key": key}, timeout=60)
        assert answer.status_code == 200, answer.text[:500]
        assert len(answer.json()["output_image"]) == len(json.dumps(body))


def test_a_request_is_one_line_in_the_log(around: Surroundings, running: tuple[LocalService, str]) -> None:
    """The application's; none of gunicorn's, which knows no request's id."""
    service, _ = running
    requests.get(f"{service.url}/", headers={"X-Request-ID": "once-only", "User-Agent": "only-here"}, timeout=10)
    lines = [json.loads(line) for line in (around.folder / "gateway.log").read_text().splitlines()]
    assert [line["rule"] for line in lines if line.get("request_id") == "once-only"] == ["/"]
    assert not [line for line in lines if line["logger"] == "gunicorn.access" or "only-here" in line["message"]]


def test_bodies_of_any_size_pass_unchanged_over_one_connection(
    around: Surroundings, running: tuple[LocalService, str]
) -> None:
    service, key = running
    around.behind["bgrem"].answer = lambda seen: http(seen.body, content_type="image/png")
    kib = 1024
    with requests.Session() as session:
        session.headers.update({"X-API-Key": key, "Content-Type": "image/png"})

        def ask(body: bytes) -> str:
            answer = session.post(f"{service.url}/v1/cutout", data=body)
            assert (answer.status_code, answer.headers["Content-Length"]) == (200, str(len(body)))
            assert answer.content == body
            return answer.headers["X-Cache"]

        for size in (1, 128 * kib, 256 * kib - 1, 256 * kib, 256 * kib + 1, 1024 * kib, 5000 * kib, 17):
            body = os.urandom(size)
            assert ask(body) == "miss"
            assert wait_until(lambda body=body: ask(body) == "hit")  # type: ignore[misc]


def test_without_a_key_the_answer_comes_before_the_body(running: tuple[LocalService, str]) -> None:
    # Given a client without a key that sends the head of a large request and no body
    service, _ = running
    with closing(open_connection(service.url)) as client:
        client.sendall(request_head("/remove", 10_000_000))
        # Then it is refused at once
        assert client.recv(100).startswith(b"HTTP/1.1 401 ")


def test_a_client_that_leaves_ends_the_service_s_work(around: Surroundings, running: tuple[LocalService, str]) -> None:
    # Given a service that works until it is hung up on
    service, key = running
    started, hung_up = threading.Event(), threading.Event()

    def work(seen: Seen) -> bytes:
        started.set()
        seen.connection.settimeout(20)
        if seen.connection.recv(1) == b"":
            hung_up.set()
        return b""

    around.behind["bgrem"].answer = work
    # When its client leaves
    with closing(open_connection(service.url)) as client:
        client.sendall(request_head("/remove", 2, key) + b"{}")
        assert started.wait(10)
    # Then the service is hung up on
    assert hung_up.wait(10)


def test_a_client_that_leaves_has_used_the_time_until_then(
    around: Surroundings, running: tuple[LocalService, str]
) -> None:
    # Given a service that is at it for a while
    service, key = running
    worked_s = 0.5
    started = threading.Event()

    def work(seen: Seen) -> bytes:
        started.set()
        seen.connection.settimeout(20)
        seen.connection.recv(1)
        return b""

    def counted_s() -> float:
        answer = requests.get(f"{service.url}/v1/usage", headers={"X-API-Key": key}, timeout=10)
        return float(answer.json()["total"]["gpu_seconds"])

    around.behind["bgrem"].answer = work
    before_s = counted_s()
    # When its client leaves
    with closing(open_connection(service.url)) as client:
        client.sendall(request_head("/remove", 2, key) + b"{}")
        assert started.wait(10)
        time.sleep(worked_s)
    # Then the time until then is counted
    assert wait_until(lambda: counted_s() - before_s >= worked_s)


def test_a_body_that_ends_early_reaches_nobody(around: Surroundings, running: tuple[LocalService, str]) -> None:
    service, key = running
    around.behind["bgrem"].seen.clear()
    with closing(open_connection(service.url)) as client:
        client.sendall(request_head("/remove", 1000, key) + b"x" * 500)
        client.shutdown(socket.SHUT_WR)
        client.recv(1000)
    answer = requests.get(f"{service.url}/v1/keys", headers={"X-API-Key": key}, timeout=10)
    assert answer.status_code == 200
    assert around.behind["bgrem"].seen == []


def test_it_stops_when_asked(around: Surroundings) -> None:
    settings = around.settings()
    service = LocalService(
        "enlight.main_api.app:create_app()",
        gunicorn_config=CONFIG,
        env_prefix="MAIN_API_",
        settings={
            "DATA_FOLDER": str(settings.data_folder),
            "MODELS_FOLDER": str(MODELS_FOLDER),
            "DEFAULT_BASE_MODEL": "enlight/pocket",
            "MONGO_URL": settings.mongo_url,
            "QUEUE_URL": settings.queue_url,
            "KEYS": "off",
        },
        log=around.folder / "stopped.log",
    )
    service.start()
    assert requests.get(f"{service.url}/v1/keys", timeout=10).status_code == 200
    assert service.stop(20) == 0
    assert "Traceback" not in (around.folder / "stopped.log").read_text()
