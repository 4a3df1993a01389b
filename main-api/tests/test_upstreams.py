"""A service behind: its addresses take turns, its faults have names, and nothing hostile gets through."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from fault_proxy import Fault, TcpFaultProxy
from stand_in_service import Seen, StandIn, error_http, http, json_http, stand_in_service
from waiting import wait_until

from enlight.main_api.limits.admission import ByteBudget
from enlight.main_api.upstreams.answers import PARSED_BYTES, Promise, UpstreamAnswer
from enlight.main_api.upstreams.client_watch import ClientWatch
from enlight.main_api.upstreams.upstream import Upstream, UpstreamRequest
from enlight.servicekit.errors import (
    ClientGone,
    QueueFull,
    UpstreamFailed,
    UpstreamTimeout,
    WorkerUnavailable,
)

LIMIT_BYTES = 3 << 20


@pytest.fixture(scope="module")
def watch() -> Iterator[ClientWatch]:
    clients = ClientWatch()
    clients.start()
    yield clients
    clients.stop()


@pytest.fixture
def service() -> Iterator[StandIn]:
    with stand_in_service() as stand_in:
        yield stand_in


@pytest.fixture
def second() -> Iterator[StandIn]:
    with stand_in_service() as stand_in:
        yield stand_in


@contextmanager
def upstream_at(watch: ClientWatch, *urls: str, timeout_s: float = 10) -> Iterator[Upstream]:
    upstream = Upstream(
        "bgrem", urls, connect_timeout_s=0.5, read_timeout_s=timeout_s, limit_bytes=LIMIT_BYTES, watch=watch
    )
    yield upstream
    upstream.close()


def ask(
    upstream: Upstream,
    body: bytes = b"{}",
    *,
    promise: Promise = "json",
    gone: Callable[[], bool] = lambda: False,
    take: Callable[[int], None] = lambda size: None,
    affinity: str | None = None,
) -> UpstreamAnswer:
    request = UpstreamRequest("POST", "/remove?a=b", promise, {"Content-Type": "application/json"}, memoryview(body))
    return upstream.ask(request, client_gone=gone, take_bytes=take, affinity=affinity)


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


# Well


def test_a_request_arrives_as_it_is(watch: ClientWatch, service: StandIn) -> None:
    body = b"x" * (2 * (1 << 20) + 17)
    with upstream_at(watch, service.url) as upstream:
        answer = ask(upstream, body)
    assert json.loads(answer.body) == {"path": "/remove?a=b"}
    (seen,) = service.seen
    assert (seen.method, seen.body == body) == ("POST", True)
    assert seen.headers["Content-Length"] == str(len(body))
    assert "Transfer-Encoding" not in seen.headers


def test_connections_are_kept(watch: ClientWatch, service: StandIn) -> None:
    with upstream_at(watch, service.url) as upstream:
        for _ in range(5):
            ask(upstream)
    assert service.connections == 1


def test_a_connection_that_the_service_let_go_is_no_failure(watch: ClientWatch, service: StandIn) -> None:
    # Given a service that closes a connection just as the next request is on its way
    service.answer = lambda seen: b"" if len(service.seen) % 2 == 0 else json_http({"n": len(service.seen)})
    with upstream_at(watch, service.url) as upstream:
        assert ask(upstream).status == 200
        # When the second request meets the end of its connection
        # Then it is asked again on a new one
        assert json.loads(ask(upstream).body) == {"n": 3}


def test_a_service_that_hangs_up_on_a_new_connection_is_not_asked_again(watch: ClientWatch, service: StandIn) -> None:
    service.answer = lambda seen: b""
    with upstream_at(watch, service.url) as upstream, pytest.raises(UpstreamFailed):
        ask(upstream)
    assert len(service.seen) == 1


# Several addresses


def test_addresses_take_turns(watch: ClientWatch, service: StandIn, second: StandIn) -> None:
    with upstream_at(watch, service.url, second.url) as upstream:
        for _ in range(6):
            ask(upstream)
    assert (len(service.seen), len(second.seen)) == (3, 3)


def test_a_refused_connection_is_followed_by_the_next_address(watch: ClientWatch, service: StandIn) -> None:
    with upstream_at(watch, closed_port(), service.url) as upstream:
        for _ in range(4):
            assert ask(upstream).status == 200


def test_an_address_that_is_full_is_followed_by_the_next(watch: ClientWatch, service: StandIn, second: StandIn) -> None:
    service.answer = lambda seen: error_http(503, "queue_full")
    with upstream_at(watch, service.url, second.url) as upstream:
        assert [ask(upstream).status for _ in range(4)] == [200] * 4


def test_when_all_are_full_it_is_their_own_refusal(watch: ClientWatch, service: StandIn) -> None:
    service.answer = lambda seen: error_http(503, "queue_full", headers={"Retry-After": "7"})
    with upstream_at(watch, closed_port(), service.url) as upstream:
        answer = ask(upstream)
    assert answer.status == 503
    assert json.loads(answer.body)["error"]["code"] == "queue_full"
    assert answer.headers["Retry-After"] == "7"


def test_when_none_can_be_reached_it_says_so(watch: ClientWatch) -> None:
    with upstream_at(watch, closed_port(), closed_port()) as upstream, pytest.raises(WorkerUnavailable) as caught:
        ask(upstream)
    assert caught.value.retry_after_s
    assert caught.value.details == {"service": "bgrem"}


def test_a_model_stays_with_its_address_and_only_it_moves(watch: ClientWatch) -> None:
    # Given three addresses and many models
    with ExitStack() as stack:
        services = [stack.enter_context(stand_in_service()) for _ in range(3)]
        by_url = {service.url: service for service in services}
        models = [f"model-{number}" for number in range(24)]

        def homes(urls: list[str]) -> dict[str, str]:
            for service in services:
                service.answer = lambda seen, url=service.url: json_http({"url": url})  # type: ignore[misc]
            with upstream_at(watch, *urls) as upstream:
                return {model: json.loads(ask(upstream, affinity=model).body)["url"] for model in models * 2}

        before = homes(list(by_url))
        assert set(before.values()) == set(by_url)
        # When one address goes
        gone, *left = list(by_url)
        after = homes(left)
        # Then only its models moved
        assert {model for model in models if before[model] != after[model]} == {
            model for model in models if before[model] == gone
        }


# Faults


def big_header(seen: Seen) -> bytes:
    return json_http({}, headers={"X-Big": "a" * 100_000})


def many_headers(seen: Seen) -> bytes:
    return json_http({}, headers={f"X-{number}": "a" for number in range(500)})


def raw(text: str) -> Callable[[Seen], bytes]:
    return lambda seen: text.encode("latin-1")


JSON_TYPE = "Content-Type: application/json\r\n"
HOSTILE: dict[str, Callable[[Seen], bytes]] = {
    "a huge header": big_header,
    "too many headers": many_headers,
    "no HTTP": raw("220 mail.example.org ESMTP\r\n"),
    "a strange status line": raw("HTTP/1.1 abc OK\r\n\r\n"),
    "a length that is none": raw(f"HTTP/1.1 200 OK\r\n{JSON_TYPE}Content-Length: many\r\n\r\n{{}}"),
    "a negative length": raw(f"HTTP/1.1 200 OK\r\n{JSON_TYPE}Content-Length: -1\r\n\r\n{{}}"),
    "two lengths": raw(f"HTTP/1.1 200 OK\r\n{JSON_TYPE}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}} "),
    "a huge length": raw(f"HTTP/1.1 200 OK\r\n{JSON_TYPE}Content-Length: {LIMIT_BYTES + 1}\r\n\r\n{{}}"),
    "a length in other digits": raw(f"HTTP/1.1 200 OK\r\n{JSON_TYPE}Content-Length: \xb2\r\n\r\n{{}}"),
    "no length": raw(f"HTTP/1.1 200 OK\r\n{JSON_TYPE}Connection: close\r\n\r\n{{}}"),
    "broken chunks": raw(f"HTTP/1.1 200 OK\r\n{JSON_TYPE}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{}}\r\n"),
    "too many chunks": lambda seen: (
        f"HTTP/1.1 200 OK\r\n{JSON_TYPE}Transfer-Encoding: chunked\r\n\r\n".encode()
        + b"1\r\n{\r\n"
        + (b"100000\r\n" + b" " * 0x100000 + b"\r\n") * 4
        + b"1\r\n}\r\n0\r\n\r\n"
    ),
    "HTML": lambda seen: http(b"<html>Bad gateway</html>", content_type="text/html"),
    "broken JSON": lambda seen: http(b'{"output_image": "aGk='),
    "deep JSON": lambda seen: http(b"[" * 100_000),
    "a JSON list": lambda seen: http(b"[]"),
    "long broken JSON": lambda seen: http(b'{"output_image": "' + b"a" * PARSED_BYTES),
    "an encoding": lambda seen: http(b"{}", headers={"Content-Encoding": "gzip"}),
    "a redirection": lambda seen: error_http(302, "moved", headers={"Location": "http://example.org/"}),
    "no content": lambda seen: b"HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n",
    "a strange status": lambda seen: error_http(799, "strange"),
    "an error without a body": lambda seen: http(b"", status=500, content_type="text/plain"),
    "an error of another's": lambda seen: json_http({"detail": "no"}, status=500),
    "a header with a control character": lambda seen: json_http({}, headers={"X-Seed": "1\x00\x1b[2J"}),
    "a type with a control character": lambda seen: http(b"{}", content_type="application/json; a=\x01"),
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_answer_is_the_service_s_failure(
    watch: ClientWatch, service: StandIn, answer: Callable[[Seen], bytes]
) -> None:
    service.answer = answer
    service.closes_after_answer = True
    with upstream_at(watch, service.url) as upstream:
        with pytest.raises(UpstreamFailed) as caught:
            ask(upstream)
        assert caught.value.details == {"service": "bgrem"}
        # And the next answer is heard as usual
        service.answer, service.closes_after_answer = lambda seen: json_http({"well": 1}), False
        assert ask(upstream).status == 200


@pytest.mark.parametrize("sent_bytes", [0, 20, 200, 1000])
def test_an_answer_cut_short_is_the_service_s_failure(watch: ClientWatch, service: StandIn, sent_bytes: int) -> None:
    service.answer = lambda seen: json_http({"a": "x" * 2000})[:sent_bytes]
    service.closes_after_answer = True
    with upstream_at(watch, service.url) as upstream, pytest.raises(UpstreamFailed):
        ask(upstream)


def test_a_picture_is_promised_and_comes(watch: ClientWatch, service: StandIn) -> None:
    service.answer = lambda seen: http(b"\x89PNG", content_type="image/png", headers={"X-Width": "3"})
    with upstream_at(watch, service.url) as upstream:
        answer = ask(upstream, promise="picture")
        assert (answer.body, answer.headers) == (b"\x89PNG", {"X-Width": "3"})
        service.answer = lambda seen: json_http({})
        with pytest.raises(UpstreamFailed):
            ask(upstream, promise="picture")


def test_only_headers_of_the_answer_itself_come_back(watch: ClientWatch, service: StandIn) -> None:
    given = {"Set-Cookie": "a=b", "Server": "x", "X-Request-ID": "theirs", "X-Seed": "4", "Keep-Alive": "1", "Via": "z"}
    service.answer = lambda seen: json_http({}, headers=given)
    with upstream_at(watch, service.url) as upstream:
        assert ask(upstream).headers == {"X-Seed": "4"}


def test_a_folded_header_is_one_line(watch: ClientWatch, service: StandIn) -> None:
    service.answer = lambda seen: json_http({}, headers={"X-Seed": "1\r\n X-Injected: 2"})
    with upstream_at(watch, service.url) as upstream:
        (value,) = ask(upstream).headers.values()
    assert value.split() == ["1", "X-Injected:", "2"]
    assert "\n" not in value


def test_the_service_s_own_error_is_passed_on(watch: ClientWatch, service: StandIn) -> None:
    service.answer = lambda seen: error_http(422, "invalid_field")
    with upstream_at(watch, service.url) as upstream:
        answer = ask(upstream, promise="picture")
    assert answer.status == 422
    assert json.loads(answer.body)["error"]["code"] == "invalid_field"


def test_silence_has_a_limit(watch: ClientWatch, service: StandIn) -> None:
    release = threading.Event()
    service.answer = lambda seen: b"" * release.wait(20)
    with upstream_at(watch, service.url, timeout_s=0.3) as upstream:
        started_s = time.monotonic()
        with pytest.raises(UpstreamTimeout):
            ask(upstream)
        assert time.monotonic() - started_s < 5
    release.set()


def test_an_answer_that_drips_has_a_limit_too(watch: ClientWatch, service: StandIn) -> None:
    # Given a service that sends a byte now and then, for ever
    ended = threading.Event()

    def drip(seen: Seen) -> bytes:
        seen.connection.sendall(f"HTTP/1.1 200 OK\r\n{JSON_TYPE}Content-Length: 1000\r\n\r\n".encode())
        try:
            for _ in range(200):
                seen.connection.sendall(b" ")
                time.sleep(0.05)
        except OSError:
            ended.set()
        return b""

    service.answer = drip
    # When it is asked with a limit of half a second
    with upstream_at(watch, service.url, timeout_s=0.5) as upstream, pytest.raises(UpstreamTimeout):
        ask(upstream)
    # Then it was hung up on
    assert ended.wait(5)


def test_an_address_that_does_not_answer_connections_is_left(watch: ClientWatch, service: StandIn) -> None:
    # Given a listener whose queue is full: connecting there ends in nothing
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fill = [socket.socket() for _ in range(4)]
        for one in fill:
            one.settimeout(0)
            one.connect_ex(deaf.getsockname())
        with upstream_at(watch, f"http://127.0.0.1:{deaf.getsockname()[1]}", service.url) as upstream:
            assert ask(upstream).status == 200
            # Then it is the last choice for a while
            started_s = time.monotonic()
            assert [ask(upstream).status for _ in range(4)] == [200] * 4
            assert time.monotonic() - started_s < 0.45
        for one in fill:
            one.close()


@pytest.mark.parametrize("after_bytes", [0, 300_000])
def test_a_connection_that_breaks_under_the_way_there_is_a_failure(
    watch: ClientWatch, service: StandIn, after_bytes: int
) -> None:
    port = int(re.findall(r"\d+$", service.url)[0])
    with TcpFaultProxy(("127.0.0.1", port)) as proxy:
        proxy.inject(Fault(cut_request_after=after_bytes))
        with upstream_at(watch, f"http://127.0.0.1:{proxy.port}") as upstream:
            with pytest.raises(UpstreamFailed):
                ask(upstream, b"x" * 2_000_000)
            assert ask(upstream).status == 200


# Clients and memory


def test_a_client_that_leaves_takes_its_request_along(watch: ClientWatch, service: StandIn) -> None:
    # Given a service that computes until it is hung up on
    hung_up = threading.Event()

    def compute(seen: Seen) -> bytes:
        seen.connection.settimeout(20)
        if seen.connection.recv(1) == b"":
            hung_up.set()
        return b""

    service.answer = compute
    left = threading.Event()
    with upstream_at(watch, service.url) as upstream:
        # When the client leaves
        threading.Timer(0.2, left.set).start()
        with pytest.raises(ClientGone):
            ask(upstream, gone=left.is_set)
    # Then the service is hung up on, and not asked again
    assert hung_up.wait(5)
    assert len(service.seen) == 1


def test_a_connection_is_left_alone_after_its_request(watch: ClientWatch, service: StandIn) -> None:
    # Given a client that is gone just after its answer
    with upstream_at(watch, service.url) as upstream:
        gone = threading.Event()
        ask(upstream, gone=gone.is_set)
        gone.set()
        # When the connection is used for others
        started_s = time.monotonic()
        assert wait_until(lambda: ask(upstream).status == 200 and time.monotonic() - started_s > 0.6)
    # Then it was never hung up on
    assert service.connections == 1


def test_the_answer_s_memory_is_asked_for_first(watch: ClientWatch, service: StandIn) -> None:
    service.answer = lambda seen: json_http({"a": "x" * 5000})
    budget = ByteBudget(1000)
    with upstream_at(watch, service.url) as upstream:
        with budget.share() as share, pytest.raises(QueueFull):
            ask(upstream, take=share.take)
        assert budget.taken_bytes == 0
        service.answer = lambda seen: json_http({})
        with budget.share() as share:
            assert ask(upstream, take=share.take).status == 200
            assert budget.taken_bytes == 2


def test_memory_for_an_impossible_length_is_not_asked_for(watch: ClientWatch, service: StandIn) -> None:
    service.answer = raw(f"HTTP/1.1 200 OK\r\n{JSON_TYPE}Content-Length: {LIMIT_BYTES + 1}\r\n\r\n{{}}")
    taken: list[int] = []
    with upstream_at(watch, service.url) as upstream, pytest.raises(UpstreamFailed, match="length"):
        ask(upstream, take=taken.append)
    assert taken == []


def test_how_the_addresses_are(watch: ClientWatch, service: StandIn, second: StandIn) -> None:
    second.version = "2"
    away = closed_port()
    with upstream_at(watch, service.url, second.url, away) as upstream:
        assert upstream.looks() == [
            {"url": service.url, "state": "ready", "version": "1"},
            {"url": second.url, "state": "ready", "version": "2"},
            {"url": away, "state": "away", "version": ""},
        ]
