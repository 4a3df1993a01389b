"""How processes are found and asked: side by side, each once in a while, and none that hangs delays anybody twice."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from stand_in_service import http, json_http, stand_in_service
from status_services import IDLE, Process, held, process
from waiting import wait_until

from enlight.main_api.workers import instance_looks, instances
from enlight.main_api.workers.background_value import BackgroundValue
from enlight.main_api.workers.instance_looks import InstanceLooks, SeenInstance
from enlight.main_api.workers.instances import Instance, instances_at
from enlight.servicekit.local_process import free_port
from enlight.servicekit.service_status import ServiceStatus

LONG_S = 30.0


@pytest.fixture(autouse=True)
def asked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_looks, "ASK_EVERY_S", 0.0)


def looks_at(*processes: Process, **more: list[str]) -> InstanceLooks:
    return InstanceLooks({"dreambooth-api": [each.url for each in processes], **more})


def states(seen: list[SeenInstance]) -> list[str]:
    return [each.status.state if each.status and each.is_reachable else "unreachable" for each in seen]


# What is fetched in the background


def test_a_value_is_fetched_once_whoever_asks_and_not_again_for_a_while() -> None:
    fetched: list[int] = []
    together = threading.Barrier(20)

    def fetch() -> int:
        fetched.append(1)
        time.sleep(0.2)
        return len(fetched)

    value = BackgroundValue(fetch, every_s=60)

    def read(_: int) -> int | None:
        together.wait()
        value.begin()
        return value.read(time.monotonic() + 30).value

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(read, range(20))) == [1] * 20
    value.begin()
    assert (value.read(time.monotonic() + 30).value, len(fetched)) == (1, 1)


def test_a_value_that_is_late_is_waited_for_once_until_it_is_in_time_again() -> None:
    go_on = threading.Event()
    value = BackgroundValue(lambda: go_on.wait(60), every_s=0)
    value.begin()
    reading = value.read(time.monotonic() + 0.2)
    assert (reading.value, reading.fetched_at, reading.is_current) == (None, None, False)
    # Nobody waits again
    value.begin()
    began_s = time.monotonic()
    assert not value.read(began_s + LONG_S).is_current
    assert time.monotonic() - began_s < LONG_S / 2
    # When it comes after all, it is the value
    go_on.set()
    assert wait_until(lambda: value.read(0).is_current)
    assert value.read(0).fetched_at is not None


def test_a_fetch_that_fails_leaves_the_last_value_as_one_that_is_not_current() -> None:
    given: list[Any] = ["first"]
    value = BackgroundValue(lambda: given.pop(), every_s=0)
    for is_current in (True, False):
        value.begin()
        reading = value.read(time.monotonic() + 30)
        assert wait_until(lambda: not value._fetching)
        assert (reading.value, reading.is_current) == ("first", is_current)


# Which processes there are


def test_a_name_stands_for_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a name with three addresses, one of them twice, as a name server would say it (there is none here)
    port = free_port()

    def several(host: str, of_port: int, **more: Any) -> list[Any]:
        assert (host, of_port) == ("pods", port)
        ends = [("127.0.0.2", port), ("127.0.0.1", port), ("127.0.0.2", port), ("127.0.0.3", port)]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", end) for end in ends]

    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *a, **m: (several if host == "pods" else real)(host, *a, **m)
    )
    with process(port=port), process(host="127.0.0.2", port=port):
        seen = InstanceLooks({"dreambooth-api": [f"http://pods:{port}"]}).seen()
    # Then each is asked, and the one where nobody is does not answer
    assert [each.instance.url for each in seen] == [f"http://127.0.0.{number}:{port}" for number in (1, 2, 3)]
    assert states(seen) == ["ready", "ready", "unreachable"]


def test_addresses_are_those_of_version_4_where_there_are_both(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = [(socket.AF_INET6, ("::1", 4000, 0, 0)), (socket.AF_INET, ("127.0.0.1", 4000))]
    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", lambda *_, **__: [(at, 1, 6, "", end) for at, end in ends])
        assert [each.url for each in instances_at("bgrem", "http://both:4000")] == ["http://127.0.0.1:4000"]
    assert [each.url for each in instances_at("bgrem", "http://localhost:4000")] == ["http://127.0.0.1:4000"]
    assert [each.url for each in instances_at("bgrem", "http://[::1]:4000")] == ["http://[::1]:4000"]
    assert [each.host_header for each in instances_at("bgrem", "http://localhost")] == ["localhost"]


def test_with_tls_the_name_stays() -> None:
    assert instances_at("bgrem", "https://localhost:4000") == [
        Instance("bgrem", "https://localhost:4000", "localhost:4000")
    ]


def test_a_name_that_leads_nowhere_is_a_process_that_cannot_be_reached() -> None:
    (seen,) = InstanceLooks({"bgrem": ["http://nowhere.invalid:4000"]}).seen()
    assert (seen.instance.url, seen.status, seen.is_reachable) == ("http://nowhere.invalid:4000", None, False)


def test_what_a_name_led_to_stays_while_the_name_server_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    with process() as there:
        url = there.url.replace("127.0.0.1", "localhost")
        looks = InstanceLooks({"bgrem": [url]})
        assert states(looks.seen()) == ["ready"]

        def away(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_AGAIN, "away")

        monkeypatch.setattr(socket, "getaddrinfo", lambda host, *a, **m: away())
        for _ in range(3):
            (seen,) = looks.seen()
            assert seen.instance.url == there.url


# What they say


def test_all_are_asked_side_by_side() -> None:
    with process() as one, process() as other:
        one.status = ServiceStatus("ready", {**IDLE, "pending": 3, "running": 1}, [held("cat", "host")])
        one_seen, other_seen = looks_at(one, other).seen()
    assert one_seen.status is not None
    assert (one_seen.status.state, one_seen.status.queued, one_seen.status.running) == ("busy", 2, 1)
    assert one_seen.status.models == [held("cat", "host")]
    assert other_seen.status is not None
    assert (other_seen.status.state, other_seen.status.models) == ("ready", [])
    assert one_seen.seen_at is not None


def test_one_that_hangs_is_unreachable_and_delays_nobody_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instances, "ASK_TIMEOUT_S", 2 * LONG_S)
    with process() as good, process() as hanging:
        looks = looks_at(good, hanging)
        assert states(looks.seen()) == ["ready", "ready"]
        # When it hangs, then whoever asks first waits as long as there is time, and the others not at all
        hanging.answers.clear()
        seen_before = good.asked
        assert states(looks.seen()) == ["ready", "unreachable"]
        monkeypatch.setattr(instance_looks, "WAIT_S", LONG_S)
        for _ in range(5):
            began_s = time.monotonic()
            seen = looks.seen()
            assert time.monotonic() - began_s < LONG_S / 2
            assert states(seen) == ["ready", "unreachable"]
            # And what was known of it last is still known
            assert seen[1].status is not None
        assert good.asked > seen_before
        # When it goes on, then it is seen again
        hanging.answers.set()
        assert wait_until(lambda: states(looks.seen()) == ["ready", "ready"], 10)


def test_each_is_asked_once_in_a_while_whoever_wants_to_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(instance_looks, "ASK_EVERY_S", 60.0)
    with process() as there:
        looks = looks_at(there)
        with ThreadPoolExecutor(16) as pool:
            for seen in pool.map(lambda _: looks.seen(), range(200)):
                assert states(seen) == ["ready"]
        assert there.asked == 1


def test_one_that_went_and_came_is_seen_to() -> None:
    port = free_port()
    looks = InstanceLooks({"bgrem": [f"http://127.0.0.1:{port}"]})
    assert states(looks.seen()) == ["unreachable"]
    with process(port=port):
        assert wait_until(lambda: states(looks.seen()) == ["ready"], 10)
    assert wait_until(lambda: states(looks.seen()) == ["unreachable"], 10)


STATUS = {
    "service": "bgrem", "hostname": "h", "state": "ready", "device": "cpu", "memory_kind": "host",
    "memory_used_bytes": 1, "memory_total_bytes": 2, "models": [], "queued": 0, "running": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (json_http(STATUS), "ready"),
        (json_http({**STATUS, "of_a_newer_version": 1}), "ready"),
        (json_http(STATUS, status=503), "unreachable"),
        (json_http({**STATUS, "models": "many"}), "unreachable"),
        (json_http([]), "unreachable"),
        (http(b"<html>", content_type="text/html"), "unreachable"),
        (http(b"{" * 2_000_000), "unreachable"),
        (b"", "unreachable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "unreachable"),
    ],
    ids=["as it is", "more", "an error", "a wrong type", "no object", "no JSON", "too long", "nothing", "cut off"],
)
def test_only_a_status_is_one(answer: bytes, state: str) -> None:
    with stand_in_service() as service:
        service.answer = lambda seen: answer
        assert states(InstanceLooks({"bgrem": [service.url]}).seen()) == [state]
