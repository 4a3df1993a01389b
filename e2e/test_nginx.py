"""nginx/ as it ships, run by Debian's nginx before backends that break in every way."""

from __future__ import annotations

import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import requests
from nginx_front import START, Front, needs_nginx, nginx_before, nginx_environment
from stand_in_service import Seen, StandIn, error_http, json_http, stand_in_service
from waiting import wait_until

pytestmark = needs_nginx

READ_TIMEOUT_S = 1
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
PICTURES = ["/inference", "/v1/generations"]
TRAININGS = ["/train", "/v1/trainings"]
MODEL = {"X-Model-Id": "01model"}
MIB = 1 << 20


def hang_up(seen: Seen) -> bytes:
    return b""


def reset(seen: Seen) -> bytes:
    seen.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    return b""


def break_off(seen: Seen) -> bytes:
    """A head of an answer, and no end of it."""
    return b"HTTP/1.1 200 OK\r\nContent-"


def be_full(seen: Seen) -> bytes:
    return error_http(503, "queue_full", headers={"Retry-After": "7"})


def hang(seen: Seen) -> bytes:
    time.sleep(3 * READ_TIMEOUT_S)
    return b""


FAULTS = [hang_up, reset, break_off, be_full, hang]


@pytest.fixture
def backends() -> Iterator[list[StandIn]]:
    with ExitStack() as stack:
        services = [stack.enter_context(stand_in_service()) for _ in range(2)]
        for service in services:
            service.answer = partial(say_who, service.url)
        yield services


def say_who(url: str, seen: Seen) -> bytes:
    return json_http({"by": url})


@pytest.fixture
def front(backends: list[StandIn], tmp_path: Path) -> Iterator[Front]:
    with nginx_before([backend.url for backend in backends], tmp_path, read_timeout_s=READ_TIMEOUT_S) as front:
        yield front


def post(front: Front, path: str, **more: object) -> requests.Response:
    return requests.post(f"{front.url}{path}", **{"json": {}, "timeout": 30, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("path", PICTURES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_picture_is_made_by_the_next_gpu(
    front: Front, backends: list[StandIn], path: str, fault: Callable[[Seen], bytes]
) -> None:
    # Given a model that is at home on one of them, which then breaks
    at_home = post(front, path, headers=MODEL).json()["by"]
    (home,) = (backend for backend in backends if backend.url == at_home)
    (other,) = (backend for backend in backends if backend.url != at_home)
    home.answer = fault
    # Then the other one answers, after the first was really asked
    answer = post(front, path, headers=MODEL)
    assert (answer.status_code, answer.json()["by"]) == (200, other.url)
    assert (len(home.seen), len(other.seen)) == (2, 1)
    # And the model is back at home when that works again
    home.answer = partial(say_who, home.url)
    assert post(front, path, headers=MODEL).json()["by"] == home.url


@pytest.mark.parametrize("path", TRAININGS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_training_that_a_backend_was_sent_goes_to_no_other(
    front: Front, backends: list[StandIn], path: str, fault: Callable[[Seen], bytes]
) -> None:
    for backend in backends:
        backend.answer = fault
    answer = post(front, path)
    assert answer.status_code == (503 if fault is be_full else 504 if fault in (hang, break_off) else 502)
    assert sorted(len(backend.seen) for backend in backends) == [0, 1]


@dataclass
class HalfReader:
    """A backend that resets each connection after a part of the request."""

    url: str
    connections: int = 0


@contextmanager
def half_reader(part_bytes: int) -> Iterator[HalfReader]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        reader = HalfReader(f"http://127.0.0.1:{server.getsockname()[1]}")

        def go_on() -> None:
            with suppress(OSError):
                while True:
                    connection = server.accept()[0]
                    reader.connections += 1
                    connection.recv(part_bytes, socket.MSG_WAITALL)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                    connection.close()

        thread = threading.Thread(target=go_on, daemon=True)
        thread.start()
        yield reader
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize("part_bytes", [1, 1000, 4 * MIB])
def test_a_training_of_which_a_part_was_sent_goes_to_no_other(tmp_path: Path, part_bytes: int) -> None:
    with (
        half_reader(part_bytes) as first,
        half_reader(part_bytes) as second,
        nginx_before([first.url, second.url], tmp_path, read_timeout_s=READ_TIMEOUT_S) as front,
    ):
        body = bytes(8 * MIB)
        for times in range(1, 5):
            assert post(front, "/train", json=None, data=body).status_code == 502
            assert first.connections + second.connections == times
        # While a picture's request goes to both
        assert post(front, "/inference", json=None, data=body).status_code == 502
        assert first.connections + second.connections == 6


def test_a_training_goes_to_the_next_backend_if_the_first_cannot_be_reached(tmp_path: Path) -> None:
    with stand_in_service() as gone:
        pass
    with stand_in_service() as there, nginx_before([gone.url, there.url], tmp_path, read_timeout_s=1) as front:
        for times in range(1, 5):
            assert post(front, "/train").status_code == 200
            assert len(there.seen) == times


def test_each_training_has_a_new_connection_since_an_idle_one_may_have_died(
    front: Front, backends: list[StandIn]
) -> None:
    for _ in range(6):
        assert post(front, "/train").status_code == 200
    assert sum(backend.connections for backend in backends) == 6


def test_without_a_model_the_least_busy_one_is_asked(tmp_path: Path, backends: list[StandIn]) -> None:
    # Given one that is at work
    began, over = threading.Event(), threading.Event()

    def work(seen: Seen) -> bytes:
        began.set()
        over.wait(30)
        return json_http({"by": "busy"})

    backends[0].answer = work
    with nginx_before([b.url for b in backends], tmp_path, read_timeout_s=30) as front:
        at_work = threading.Thread(target=lambda: [post(front, "/inference") for _ in range(2)])
        at_work.start()
        try:
            assert began.wait(30)
            # Then all others go to the other one
            assert {post(front, "/inference").json()["by"] for _ in range(6)} == {backends[1].url}
        finally:
            over.set()
            at_work.join()


def test_idle_connections_to_backends_are_used_again(front: Front, backends: list[StandIn]) -> None:
    for _ in range(20):
        assert post(front, "/inference", headers=MODEL).status_code == 200
    assert sum(backend.connections for backend in backends) <= 4  # one for each of nginx's processes, or few


def test_one_id_and_one_line_of_json_for_each_request(front: Front, backends: list[StandIn]) -> None:
    answer = post(front, "/inference?secret=1", headers={**MODEL, "X-Request-ID": "mine", "Authorization": "Bearer k"})
    assert answer.status_code == 200
    post(front, "/train", headers={"X-Request-ID": 'not "mine"', "X-Forwarded-For": "10.0.0.1"})
    seen = [seen for backend in backends for seen in backend.seen]
    first, second = sorted(seen, key=lambda seen: seen.path)
    assert first.headers["X-Request-ID"] == "mine"
    assert first.path == "/inference?secret=1"
    assert second.headers["X-Request-ID"].isalnum()
    assert second.headers["X-Forwarded-For"] == "127.0.0.1"
    assert wait_until(lambda: len(front.accesses()) == 2)
    lines = front.accesses()
    assert [line["request_id"] for line in lines] == ["mine", second.headers["X-Request-ID"]]
    assert (lines[0]["path"], lines[0]["status"], lines[0]["model"]) == ("/inference", 200, "01model")
    assert lines[0]["backends"] == answer.json()["by"].removeprefix("http://")
    log = (front.folder / "access.log").read_text()
    assert "secret" not in log
    assert "Bearer" not in log


@pytest.mark.parametrize(
    ("service", "path", "size_bytes", "status"),
    [
        ("DREAMBOOTH_API", "/inference", 39 * MIB, 200),
        ("DREAMBOOTH_API", "/inference", 41 * MIB, 413),
        ("DREAMBOOTH_API", "/train", 255 * MIB, 200),
        ("DREAMBOOTH_API", "/train", 257 * MIB, 413),
        ("MAIN_API", "/v1/files", 255 * MIB, 200),
        ("MAIN_API", "/v1/files", 257 * MIB, 413),
    ],
)
def test_bodies_up_to_what_the_services_take(
    tmp_path: Path, backends: list[StandIn], service: str, path: str, size_bytes: int, status: int
) -> None:
    urls = [backend.url for backend in backends]
    with nginx_before(urls, tmp_path, read_timeout_s=30, service=service) as front:
        answer = post(front, path, json=None, data=bytes(size_bytes), headers={"X-Request-ID": "big"})
        assert answer.status_code == status
        if status == 413:
            assert answer.json()["error"] == {"code": "body_too_large", "details": {}, "request_id": "big"}
        else:
            assert [len(seen.body) for backend in backends for seen in backend.seen] == [size_bytes]


def test_nginxs_own_errors_have_the_services_body(front: Front, backends: list[StandIn]) -> None:
    for fault, status, code in ((hang_up, 502, "upstream_failed"), (hang, 504, "upstream_timeout")):
        for backend in backends:
            backend.answer = fault
        answer = post(front, "/train", headers={"X-Request-ID": "mine"})
        assert (answer.status_code, answer.headers["X-Request-ID"]) == (status, "mine")
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json()["error"] == {"code": code, "details": {}, "request_id": "mine"}
    # And an error of the services passes as it is
    for backend in backends:
        backend.answer = be_full
    answer = post(front, "/inference")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "7")
    assert answer.json()["error"]["code"] == "queue_full"


def test_one_address_gets_so_many_requests_and_health_checks_always(tmp_path: Path, backends: list[StandIn]) -> None:
    urls = [backends[0].url]
    limits = {"NGINX_REQUESTS_PER_SECOND": "1", "NGINX_REQUESTS_BURST": "3"}
    with nginx_before(urls, tmp_path, read_timeout_s=9, service="MAIN_API", settings=limits) as front:
        answers = [post(front, "/v1/generations") for _ in range(12)]
        assert answers[0].status_code == 200
        refused = [answer for answer in answers if answer.status_code != 200]
        assert {(answer.status_code, answer.json()["error"]["code"]) for answer in refused} == {(429, "quota_exceeded")}
        assert refused[0].headers["Retry-After"] == "1"
        for _ in range(12):
            assert requests.get(f"{front.url}/ready", timeout=30).status_code == 200
    unlimited = {**limits, "NGINX_REQUESTS_PER_SECOND": "0"}
    with nginx_before(urls, tmp_path, read_timeout_s=9, service="MAIN_API", settings=unlimited) as front:
        assert {post(front, "/v1/generations").status_code for _ in range(12)} == {200}


def test_with_a_certificate_the_door_speaks_tls_only(tmp_path: Path, backends: list[StandIn]) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    files = {"NGINX_TLS_CERTIFICATE": str(certificate), "NGINX_TLS_KEY": str(key)}
    urls = [backends[0].url]
    with nginx_before(urls, tmp_path, read_timeout_s=9, service="MAIN_API", settings=files) as front:
        secure = front.url.replace("http://", "https://")
        assert requests.post(f"{secure}/remove", json={}, verify=str(certificate), timeout=30).status_code == 200
        assert backends[0].seen[0].headers["X-Forwarded-Proto"] == "https"
        assert requests.post(f"{front.url}/remove", json={}, timeout=30).status_code == 400
        port = int(front.url.rpartition(":")[2])
        old = ssl.create_default_context(cafile=str(certificate))
        with pytest.warns(DeprecationWarning, match="TLSVersion"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with socket.create_connection(("127.0.0.1", port)) as plain, pytest.raises(ssl.SSLError):
            old.wrap_socket(plain, server_hostname="127.0.0.1")


@pytest.mark.parametrize("service", ["BGREM", "UPSAMPLER", "REALESRGAN"])
@pytest.mark.parametrize("fault", [reset, be_full])
def test_a_picture_service_has_replicas_too(
    tmp_path: Path, backends: list[StandIn], service: str, fault: Callable[[Seen], bytes]
) -> None:
    backends[0].answer = fault
    urls = [backend.url for backend in backends]
    with nginx_before(urls, tmp_path, read_timeout_s=READ_TIMEOUT_S, service=service) as front:
        assert {post(front, "/v1/upscale").json()["by"] for _ in range(3)} == {backends[1].url}
    assert backends[0].seen


def checked(folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = nginx_environment(folder, settings)
    return subprocess.run([START, "check"], env=environment, capture_output=True, text=True, timeout=30)


def test_nginx_finds_nothing_wrong_with_all_of_it(tmp_path: Path) -> None:
    services = ("DREAMBOOTH_API", "MAIN_API", "BGREM", "UPSAMPLER", "REALESRGAN")
    done = checked(tmp_path, **{f"NGINX_{service}_SERVERS": "127.0.0.1:1 127.0.0.1:2" for service in services})
    assert done.returncode == 0, done.stderr
    assert "test is successful" in done.stderr
    assert "warn" not in done.stderr
    assert len(list((tmp_path / "upstreams").iterdir())) == len(services)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("NGINX_MAIN_API_SERVERS", "127.0.0.1:1; } server { listen 1;"),
        ("NGINX_MAIN_API_SERVERS", "127.0.0.1"),
        ("NGINX_MAIN_API_LISTEN", "8080"),
        ("NGINX_READ_TIMEOUT_S", "1m"),
        ("NGINX_ACCESS_LOG", "log"),
        ("NGINX_TLS_KEY", "/key"),
        ("NGINX_REQUESTS_PER_SECOND", "-1"),
    ],
)
def test_a_setting_that_is_not_valid_is_named(tmp_path: Path, setting: str, value: str) -> None:
    done = checked(tmp_path, **{"NGINX_MAIN_API_SERVERS": "127.0.0.1:1", setting: value})
    assert done.returncode == 2
    assert ("NGINX_TLS_CERTIFICATE" if setting == "NGINX_TLS_KEY" else setting) in done.stderr


def test_nothing_to_stand_before_is_an_error(tmp_path: Path) -> None:
    done = checked(tmp_path)
    assert (done.returncode, "no service has replicas" in done.stderr) == (2, True)
