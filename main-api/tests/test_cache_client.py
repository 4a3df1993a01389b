"""CacheClient against a real Valkey and a real Redis that die, hang, are slow, refuse and talk nonsense."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from embedded_servers import EmbeddedServer, valkey_server
from fault_proxy import Fault, TcpFaultProxy
from redis import Redis
from redis_servers import PROGRAMS, StartServer
from tls_front import tls_front, write_certificate
from waiting import wait_until

from enlight.main_api.cache.client import CacheClient
from enlight.servicekit.errors import InvalidField

SLOW_MACHINE_S = 0.25
"""What is allowed on top of a budget of 0.2 s on a machine that does something else."""
BUSY = "for i = 1, 3e6 do end return 1"
"""Keeps the server, and the connection, for tens of milliseconds."""


@pytest.fixture(scope="module", params=PROGRAMS)
def start_server(request: pytest.FixtureRequest) -> StartServer:
    """The server is Valkey, and then Redis."""
    return partial(valkey_server, program=request.param)


@contextmanager
def client_of(
    *urls: str, probe_every_s: float = 0.05, max_connections: int = 64, budget_s: float = 0.2
) -> Iterator[CacheClient]:
    client = CacheClient(urls, probe_every_s=probe_every_s, max_connections=max_connections, budget_s=budget_s)
    with closing(client):
        yield client


@pytest.fixture
def client(server: EmbeddedServer, redis: Redis) -> Iterator[CacheClient]:
    with client_of(server.url) as client:
        yield client


@pytest.fixture
def proxy(server: EmbeddedServer) -> Iterator[TcpFaultProxy]:
    with TcpFaultProxy(("127.0.0.1", server.port)) as proxy:
        yield proxy


def url_of(proxy: TcpFaultProxy) -> str:
    return f"redis://127.0.0.1:{proxy.port}/"


def use_ten_times(client: CacheClient) -> float:
    """Seconds that ten operations take, none of which may raise or find anything."""
    began_s = time.monotonic()
    for _ in range(5):
        assert client.get("key") is None
        assert not client.set("key", b"value", ttl_s=60)
    return time.monotonic() - began_s


def test_values_come_stay_and_go(client: CacheClient, redis: Redis) -> None:
    assert client.get("key") is None
    assert client.set("key", b"\0value\r\n", ttl_s=60)
    assert client.get("key") == b"\0value\r\n"
    assert 59_000 < redis.pttl("key") <= 60_000
    assert client.delete("key")
    assert client.delete("key")
    assert client.get("key") is None
    assert client.run_script("return {KEYS[1], ARGV[1], 3}", "key", ["one"]) == [b"key", b"one", 3]
    assert client.ping()


def test_the_shortest_ttl_is_a_millisecond(client: CacheClient) -> None:
    assert client.set("key", b"value", ttl_s=0.0)
    assert wait_until(lambda: client.get("key") is None)


def test_without_a_url_there_is_no_cache() -> None:
    with client_of() as client:
        assert not client.set("key", b"value", ttl_s=60)
        assert client.get("key") is None
        assert not client.delete("key")
        assert client.run_script("return 1", "key", []) is None
        assert client.is_away()
        assert not client.ping()


@pytest.mark.parametrize(
    "url", ["http://host", "redis://", "unix:///socket", "rediss", "redis://:hidden@host:port", "redis://:hidden@"]
)
def test_a_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidField, match="cache_urls") as caught:
        CacheClient([url])
    assert "hidden" not in str(caught.value)


FAULTS = {
    "connections are reset": Fault(reset=True, times=None),
    "nobody answers": Fault(black_hole=True, times=None),
    "every answer is late": Fault(latency_s=0.3, times=None),
    "the answer is cut": Fault(cut_response_after=2, times=None),
    "the answer is cut by a reset": Fault(cut_response_after=2, reset=True, times=None),
    "the answer hangs in the middle": Fault(hang_response_after=2, times=None),
    "the request is cut": Fault(cut_request_after=5, times=None),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_broken_line_costs_one_budget_and_heals_by_itself(proxy: TcpFaultProxy, redis: Redis, fault: Fault) -> None:
    redis.set("other", b"here")
    with client_of(url_of(proxy)) as client:
        # Given a cache behind a line that breaks
        proxy.inject(fault)
        # When it is used again and again, then nothing raises, and the time is that of one failure
        assert use_ten_times(client) < 0.2 + SLOW_MACHINE_S
        assert client.is_away()
        # And when the line is well, then the cache is back, and no thread is left
        proxy.clear()
        assert wait_until(lambda: client.get("other") == b"here")
        assert client.set("key", b"value", ttl_s=60)
        assert wait_until(lambda: not probers())


def test_a_line_that_is_only_just_too_slow_is_not_tried_by_requests_again_and_again(proxy: TcpFaultProxy) -> None:
    # Given answers that come just within a request's budget some times, and late at others
    with client_of(url_of(proxy)) as client:
        proxy.inject(Fault(black_hole=True), Fault(latency_s=0.15, times=None))
        assert client.get("key") is None
        # Then the background does not take it for well
        assert not wait_until(lambda: not client.is_away(), timeout_s=1)


def test_a_value_that_drips_ends_with_the_budget(proxy: TcpFaultProxy, redis: Redis) -> None:
    # Given a line on which something always comes before any single wait is over, and the whole takes seconds
    redis.set("large", bytes(1 << 20))
    proxy.inject(Fault(bandwidth_bytes_per_s=160 * 1024, times=None))
    with client_of(url_of(proxy)) as client:
        began_s = time.monotonic()
        assert client.get("large") is None
        assert time.monotonic() - began_s < 0.2 + SLOW_MACHINE_S
        assert client.is_away()


def test_a_flipped_bit_anywhere_raises_nothing(proxy: TcpFaultProxy, redis: Redis) -> None:
    redis.set("key", b"v" * 20)
    answer_bytes = len(b"$20\r\n") + 20 + len(b"\r\n")
    for at in range(answer_bytes):
        with client_of(url_of(proxy)) as client:
            proxy.inject(Fault(flip_response_at=at))
            client.get("key")  # whether the value is genuine is for sealed values to find out
            proxy.clear()
            assert wait_until(partial(is_value, client)), at


def is_value(client: CacheClient) -> bool:
    return client.get("key") == b"v" * 20


def test_nonsense_in_place_of_any_answer_raises_nothing() -> None:
    broken = [
        b"",
        b"\r\n",
        b"$-2\r\n",
        b"$x\r\n",
        b"*2\r\n$1\r\n",
        b"*-1\r\n",
        b":x\r\n",
        b"-\r\n",
        b"-ERR \xff\r\n",
        b"%1\r\n",
    ]
    foreign = [b"hello\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\0" * 100, b"+OK\r\n+OK\r\n", b":1\r\n"]
    for answer in broken + foreign:
        with server_that_says(answer) as port, client_of(f"redis://127.0.0.1:{port}/") as client:
            client.get("key")
            client.set("key", b"value", ttl_s=1)
            client.delete("key")
            client.run_script("return 1", "key", [])


def test_idle_connections_that_died_unnoticed_cost_one_failure_in_all(proxy: TcpFaultProxy, redis: Redis) -> None:
    redis.set("key", b"value")
    with client_of(url_of(proxy), budget_s=2) as client, ThreadPoolExecutor(3) as threads:
        together = threading.Barrier(3)

        def run_busy(_: int) -> object:
            together.wait(30)
            return client.run_script(BUSY, "key", [])

        # Given three connections that answered once, to three operations at the same time, and then never again
        proxy.inject(Fault(hang_response_after=len(b":1\r\n"), times=3))
        assert [*threads.map(run_busy, range(3))] == [1, 1, 1]
        assert proxy.connections == 3
        # When the first of them has failed, and the cache is back
        assert client.get("key") is None
        assert wait_until(lambda: not client.is_away())
        # Then none of the others is met any more
        assert [*threads.map(run_busy, range(3))] == [1, 1, 1]


def test_a_server_that_is_killed_and_comes_back(start_server: StartServer, tmp_path: Path) -> None:
    with start_server(tmp_path / "data") as server, client_of(server.url) as client:
        assert client.set("key", b"value", ttl_s=60)
        # When the server dies, then nothing raises and nothing waits
        server.kill()
        assert use_ten_times(client) < 0.2 + SLOW_MACHINE_S
        assert client.is_away()
        # And when it is back, empty, then it is used again
        server.start()
        assert wait_until(lambda: client.set("key", b"other", ttl_s=60))
        assert client.get("key") == b"other"


def test_a_server_that_restarted_between_two_calls_is_simply_used(start_server: StartServer, tmp_path: Path) -> None:
    # Given idle connections to a server that is then replaced
    with start_server(tmp_path / "data") as server, client_of(server.url) as client:
        assert client.set("key", b"value", ttl_s=60)
        server.stop()
        server.start()
        # Then the next call does not even fail: it finds its connection closed and opens another
        assert client.set("key", b"value", ttl_s=60)


def test_a_server_that_hangs_costs_many_callers_one_budget_each(server: EmbeddedServer, client: CacheClient) -> None:
    client.set("key", b"value", ttl_s=60)
    server.pause()
    try:
        # When twenty threads meet it at once
        with ThreadPoolExecutor(20) as threads:
            took_s = [*threads.map(lambda _: use_ten_times(client), range(20))]
        assert max(took_s) < 0.2 + SLOW_MACHINE_S
        # Then later callers, even after the time at which somebody would try again, wait for nothing
        time.sleep(0.2)
        began_s = time.monotonic()
        for _ in range(100):
            assert client.get("key") is None
        assert time.monotonic() - began_s < 0.1
    finally:
        server.resume()
    assert wait_until(lambda: client.get("key") == b"value")


def test_a_server_that_is_not_there_at_the_start(start_server: StartServer, tmp_path: Path) -> None:
    with start_server(tmp_path / "data") as server:
        server.stop()
        with client_of(server.url) as client:
            assert client.get("key") is None
            server.start()
            assert wait_until(lambda: client.set("key", b"value", ttl_s=60))


def test_what_a_server_refuses_does_not_keep_it_from_being_read(client: CacheClient, redis: Redis) -> None:
    client.set("key", b"value", ttl_s=60)
    # Given a server that became a replica
    redis.replicaof("127.0.0.1", "1")
    try:
        assert not client.set("key", b"other", ttl_s=60)
        assert not client.delete("key")
        assert client.get("key") == b"value"
    finally:
        redis.replicaof("NO", "ONE")
    assert client.set("key", b"other", ttl_s=60)
    # And one without memory
    redis.config_set("maxmemory", "1")
    try:
        assert not client.set("key", b"value", ttl_s=60)
        assert client.get("key") == b"other"
    finally:
        redis.config_set("maxmemory", "0")
    assert not client.is_away()


def test_a_key_of_another_type_is_no_value_and_heals(client: CacheClient, redis: Redis) -> None:
    redis.rpush("key", "a", "b")
    assert client.get("key") is None
    assert client.set("key", b"value", ttl_s=60)
    assert client.get("key") == b"value"
    # A script does not write over it: it is taken away
    assert client.run_script("return redis.call('HGETALL', KEYS[1])", "key", []) is None
    assert client.run_script("return redis.call('HSET', KEYS[1], 'a', 1)", "key", []) == 1
    assert not client.is_away()


def test_a_script_that_fails_and_a_flush_are_no_errors(client: CacheClient, redis: Redis) -> None:
    assert client.run_script("not lua", "key", []) is None
    assert client.run_script("return redis.call('NOCOMMAND')", "key", []) is None
    client.set("key", b"value", ttl_s=60)
    redis.flushall()
    assert client.get("key") is None
    assert not client.is_away()


def test_a_password_is_used_and_a_wrong_one_is_an_absent_cache(server: EmbeddedServer, redis: Redis) -> None:
    redis.config_set("requirepass", "correct horse")
    try:
        with client_of(f"redis://:correct%20horse@127.0.0.1:{server.port}/0") as client:
            assert client.set("key", b"value", ttl_s=60)
        with client_of(f"redis://:wrong@127.0.0.1:{server.port}/0") as client:
            assert use_ten_times(client) < 0.2 + SLOW_MACHINE_S
            assert client.is_away()
    finally:
        redis.auth("correct horse")
        redis.config_set("requirepass", "")


def test_over_tls_the_servers_certificate_is_checked(server: EmbeddedServer, redis: Redis, tmp_path: Path) -> None:
    certificate, key = write_certificate(tmp_path, address="127.0.0.1")
    with tls_front(server.port, certificate, key) as port:
        # Given an authority that signed the server's certificate
        with client_of(f"rediss://127.0.0.1:{port}/?ssl_ca_certs={certificate}", budget_s=1) as client:
            assert wait_until(lambda: client.set("key", b"value", ttl_s=60))
            assert client.get("key") == b"value"
        # Or another one, then nothing is sent to whoever that is
        with client_of(f"rediss://:secret@127.0.0.1:{port}/") as client:
            assert use_ten_times(client) < 0.2 + SLOW_MACHINE_S
            assert client.is_away()
    # A server that begins to speak and then hangs costs one budget
    with TcpFaultProxy(("127.0.0.1", server.port)) as proxy:
        proxy.inject(Fault(black_hole=True, times=None))
        with client_of(f"rediss://127.0.0.1:{proxy.port}/?ssl_ca_certs={certificate}") as client:
            assert use_ten_times(client) < 0.2 + SLOW_MACHINE_S


def test_one_operation_too_many_at_once_is_a_miss_and_no_outage(server: EmbeddedServer, redis: Redis) -> None:
    redis.set("key", b"value")
    with client_of(server.url, max_connections=1, probe_every_s=60, budget_s=1) as client:
        # Given the only connection in use, for tens of milliseconds
        with ThreadPoolExecutor(1) as threads:
            held = threads.submit(client.run_script, BUSY, "key", [])
            answers = []
            while not held.done():
                answers.append(client.get("key"))
        # Then others found nothing, and nobody took the server for dead
        assert held.result() == 1
        assert None in answers
        assert not client.is_away()
        assert client.get("key") == b"value"


def test_a_closed_client_is_an_absent_cache(server: EmbeddedServer, redis: Redis) -> None:
    client = CacheClient([server.url], probe_every_s=60)
    server.pause()
    try:
        assert client.get("key") is None
        assert probers()
        # When it is closed while its thread waits, then the thread ends at once
        client.close()
        assert not probers()
    finally:
        server.resume()
    assert client.get("key") is None
    assert client.is_away()


def probers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "cache-prober"]


@contextmanager
def server_that_says(answer: bytes) -> Iterator[int]:
    """A port where each connection gets these bytes for whatever it sends."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        while connection.recv(4096):
                            connection.sendall(answer)
                            if not answer:
                                break
                    except OSError:
                        pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)
