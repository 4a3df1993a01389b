"""A service of one worker under a real gunicorn: waiting, leaving, failing, stopping."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from example_picture_service import THREADS
from metric_samples import metrics_text, sample
from waiting import is_running, wait_until

from enlight.servicekit.host_memory import host_memory
from enlight.servicekit.local_service import LocalService
from enlight.servicekit.worker_service import StopOnce

SUPPORT = Path(__file__).parent / "support"


def service_in(folder: Path, **settings: object) -> LocalService:
    return LocalService(
        "example_picture_service:create_app()",
        gunicorn_config=SUPPORT / "example_picture_gunicorn.py",
        env_prefix="EXAMPLE_",
        settings={name.upper(): str(value) for name, value in settings.items()},
        log=folder / "service.log",
    )


@pytest.fixture(autouse=True)
def support_is_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))


@pytest.fixture
def service(tmp_path: Path) -> Iterator[LocalService]:
    with service_in(tmp_path, max_requests=3, worker_hang_timeout_s=3, request_timeout_s=20) as running:
        yield running


def do(service: LocalService, command: str) -> requests.Response:
    return requests.post(f"{service.url}/do/{command}", timeout=60)


def code(response: requests.Response) -> tuple[int, object]:
    return response.status_code, response.json()["error"]["code"]


def worker_state(service: LocalService) -> dict[str, object]:
    state: dict[str, object] = requests.get(f"{service.url}/ready", timeout=10).json()["details"]["worker"]
    return state


class Leaver:
    """A client that sends a request and can hang up."""

    def __init__(self, service: LocalService, command: str) -> None:
        host, port = service.url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.sendall(f"POST /do/{command} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())

    def leave(self) -> None:
        self._socket.close()


def test_tasks_run_beside_each_other_and_are_answered(service: LocalService) -> None:
    started_s = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda _: do(service, "nap"), range(THREADS)))
    assert [answer.status_code for answer in answers] == [200] * THREADS
    assert time.monotonic() - started_s < 1.0 * THREADS


def test_what_the_worker_measures_is_among_the_metrics_and_outlives_it(service: LocalService) -> None:
    def figures() -> dict[str, float]:
        text = metrics_text(service.url)
        stages = {stage: {"operation": "task", "stage": stage} for stage in ("queued", "nap")}
        return {
            "pictures": sample(text, "enlight_pictures_total", operation="task"),
            "naps": sample(text, "enlight_stage_duration_seconds_count", **stages["nap"]),
            "napped_s": sample(text, "enlight_stage_duration_seconds_sum", **stages["nap"]),
            "queued": sample(text, "enlight_stage_duration_seconds_count", **stages["queued"]),
            "restarts": sample(text, "enlight_child_restarts_total", child="worker"),
            "up": sample(text, "enlight_child_up", child="worker"),
            "waiting": sample(text, "enlight_tasks_waiting"),
        }

    # Given a service that has done nothing: every series is there, so that the first task is seen as growth
    nothing = dict.fromkeys(("pictures", "naps", "napped_s", "queued", "restarts", "waiting"), 0.0)
    assert figures() == {**nothing, "up": 1.0}
    # When a task is done, its stage is measured; what is refused makes no picture
    assert do(service, "nap").status_code == 200
    assert code(do(service, "refuse")) == (422, "invalid_field")
    assert wait_until(lambda: figures()["queued"] == 2, 10)
    assert (figures()["pictures"], figures()["naps"]) == (1, 1)
    assert 1.0 <= figures()["napped_s"] < 10
    # And when the worker is killed, nothing goes backwards
    pid = do(service, "pid").json()["answer"]
    assert wait_until(lambda: figures()["pictures"] == 2, 10)
    os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: figures()["restarts"] == 1 and figures()["up"] == 1, 20)
    assert (figures()["pictures"], figures()["naps"]) == (2, 1)
    assert do(service, "nap").status_code == 200
    assert wait_until(lambda: (figures()["pictures"], figures()["naps"]) == (3, 2), 10)


def test_what_the_worker_says_of_a_request_is_the_answer(service: LocalService) -> None:
    refused = do(service, "refuse")
    assert code(refused) == (422, "invalid_field")
    assert refused.json()["error"]["details"]["fields"][0]["field"] == "picture"
    failed = do(service, "fail")
    assert code(failed) == (500, "internal_error")
    assert "bug" not in failed.text
    assert do(service, "pid").status_code == 200


def test_a_client_that_leaves_takes_its_task_with_it(service: LocalService) -> None:
    clients = [Leaver(service, "work") for _ in range(3)]
    assert wait_until(lambda: worker_state(service)["pending"] == 3, 10)
    assert code(do(service, "pid")) == (503, "queue_full")
    for client in clients:
        client.leave()
    assert wait_until(lambda: worker_state(service)["pending"] == 0, 10)
    assert do(service, "pid").status_code == 200


def test_the_status_tells_what_is_in_work_and_what_waits(tmp_path: Path) -> None:
    with service_in(tmp_path) as service:
        url = f"{service.url}/v1/status"

        def amounts() -> tuple[object, ...]:
            told = requests.get(url, timeout=10).json()
            return told["state"], told["running"], told["queued"]

        # Given a worker that is ready
        assert wait_until(lambda: amounts() == ("ready", 0, 0))
        told = requests.get(url, timeout=10).json()
        assert (told["service"], told["hostname"]) == ("example", socket.gethostname())
        assert told["models"] == [{"model_id": "some-network", "version": None, "tier": "resident"}]
        memory = host_memory()
        assert (told["device"], told["memory_kind"]) == ("cpu", "host")
        assert told["memory_total_bytes"] == memory.total_bytes
        # When more requests come than it has threads
        clients = [Leaver(service, "work") for _ in range(THREADS + 3)]
        # Then those that it has not begun are told apart
        assert wait_until(lambda: amounts() == ("busy", THREADS, 3), 10), amounts()
        # And none is left when nobody waits for them any more
        for client in clients:
            client.leave()
        assert wait_until(lambda: amounts() == ("ready", 0, 0), 10), amounts()


def test_a_task_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with service_in(tmp_path, request_timeout_s=1) as service:
        assert code(do(service, "work")) == (504, "upstream_timeout")
        assert wait_until(lambda: worker_state(service)["pending"] == 0, 10)


def test_a_working_task_is_not_taken_for_hung_and_a_silent_one_is(service: LocalService) -> None:
    pid = do(service, "pid").json()["answer"]
    client = Leaver(service, "work")
    time.sleep(4.5)  # longer than the hang timeout
    assert do(service, "pid").json()["answer"] == pid
    client.leave()
    assert code(do(service, "work-silently")) == (503, "worker_unavailable")
    assert do(service, "pid").json()["answer"] != pid


@pytest.mark.parametrize("how", ["break", "kill"])
def test_a_worker_that_is_of_no_use_is_replaced(service: LocalService, how: str) -> None:
    pid = do(service, "pid").json()["answer"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(do, service, "work")
        assert wait_until(lambda: worker_state(service)["pending"] == 1, 10)
        if how == "kill":
            os.kill(pid, signal.SIGKILL)
        else:
            assert code(do(service, "break")) == (503, "worker_unavailable")
        assert code(waiting.result()) == (503, "worker_unavailable")
    assert do(service, "pid").json()["answer"] != pid
    assert wait_until(lambda: not is_running(pid), 10)


def test_the_exit_of_the_server_waits_for_the_stop_of_the_service(tmp_path: Path) -> None:
    file = tmp_path / "stopped"
    service = service_in(tmp_path, ends_slowly_into=file)
    service.start()
    pid = do(service, "pid").json()["answer"]
    # A request at hand keeps the server's main thread waiting, so that another thread begins the stop.
    with ThreadPoolExecutor(1) as pool:
        last = pool.submit(do, service, "nap")
        assert wait_until(lambda: worker_state(service)["pending"] == 1, 10)
        assert service.stop() == 0
        assert last.result().status_code == 200
    assert file.is_file(), "the server left before the service had stopped"
    assert not is_running(pid)


def test_a_stop_happens_once_and_everybody_waits_for_it() -> None:
    begun, go_on, calls = threading.Event(), threading.Event(), []

    def stop() -> None:
        calls.append(1)
        begun.set()
        go_on.wait(10)

    stop_once = StopOnce(stop)
    before = stop_once.begun
    threads = [threading.Thread(target=stop_once) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert begun.wait(10)
    assert (before, stop_once.begun) == (False, True)
    assert all(thread.is_alive() for thread in threads)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert calls == [1]


class TestUploads:
    def send(self, service: LocalService, body: bytes, content_type: str) -> tuple[int, dict[str, object]]:
        host = service.url.removeprefix("http://")
        connection = http.client.HTTPConnection(host, timeout=10)
        connection.request("POST", "/upload", body, {"Content-Type": content_type})
        response = connection.getresponse()
        status, text = response.status, response.read()
        connection.close()
        return status, json.loads(text)

    def test_bytes_and_forms(self, service: LocalService) -> None:
        url = f"{service.url}/upload"
        for kind in ("image/png", "application/octet-stream"):
            assert self.send(service, b"12345", kind) == (200, {"bytes": 5, "field": "body", "form": {}})
        form = requests.post(url, files={"file": ("a.png", b"123")}, data={"model": "u2net"}, timeout=10)
        assert form.json() == {"bytes": 3, "field": "file", "form": {"model": "u2net"}}

    def test_what_is_missing_or_too_much_is_named(self, service: LocalService) -> None:
        url = f"{service.url}/upload"
        assert self.send(service, b"{}", "application/json")[0] == 415
        status, body = self.send(service, b"", "image/png")
        assert (status, body["message"]) == (422, "body: is empty; the bytes of a picture were expected")

        def refused(files: object, data: object = None) -> str:
            response = requests.post(url, files=files, data=data, timeout=10)  # type: ignore[arg-type]
            assert code(response) == (422, "invalid_field"), response.text
            message: str = response.json()["message"]
            return message

        assert refused({"photo": b"1"}) == "photo: is not a known file field"
        assert refused({"image": ("a", b"")}) == "image: is an empty file"
        assert refused([("image", ("a", b"1")), ("file", ("b", b"2"))]) == "file: only one file is taken"
        assert refused([("image", ("a", b"1")), ("image", ("b", b"2"))]) == "image: only one file is taken"
        assert refused({"image": b"1"}, [("model", "a"), ("model", "b")]) == "model: is given twice"
        no_file = requests.post(url, files={"x": (None, "1")}, timeout=10)
        assert no_file.json()["message"] == "image: is required: a file in the form"

    def test_a_form_of_very_many_parts_is_refused(self, service: LocalService) -> None:
        parts = {f"field-{number}": (None, "1") for number in range(200)}
        response = requests.post(f"{service.url}/upload", files=parts, timeout=10)
        assert response.status_code == 413
