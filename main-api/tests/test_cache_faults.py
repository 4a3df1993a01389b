"""The gateway while its cache's server hangs, dies, refuses and forgets: the same answers, hardly later."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from functools import partial

import pytest
from cache_users import used_all_the_time
from embedded_servers import EmbeddedServer, valkey_server
from flask_openapi import OpenAPI
from gateways import gateway, surroundings
from redis import Redis
from redis_servers import PROGRAMS, StartServer
from stand_in_service import json_http
from waiting import wait_until
from werkzeug.test import TestResponse

BODIES = [f"body {number}" for number in range(12)]
THREADS = 2
FAULT_S = 2.5
LATE_S = 2.0
"""Far above a budget of 0.2 s, since the machine may do something else, and below a fault's length."""


@pytest.fixture(scope="module", params=PROGRAMS)
def start_server(request: pytest.FixtureRequest) -> StartServer:
    """The cache is Valkey, and then Redis."""
    return partial(valkey_server, program=request.param)


@pytest.fixture(scope="module")
def app(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAPI]:
    """A gateway whose cache is that server, with rate limits."""
    with surroundings(tmp_path_factory.mktemp("faults")) as around:
        around.behind["bgrem"].answer = lambda seen: json_http({"of": hashlib.sha256(seen.body).hexdigest()})
        with gateway(around.settings(keys="off", cache_urls=[server.url], requests_per_minute=10**6)) as app:
            yield app


def hang(server: EmbeddedServer, redis: Redis) -> None:
    server.pause()
    time.sleep(FAULT_S)
    server.resume()


def kill(server: EmbeddedServer, redis: Redis) -> None:
    server.kill()
    time.sleep(0.5)
    server.start()


def flush(server: EmbeddedServer, redis: Redis) -> None:
    redis.flushall()


def refuse_writes(server: EmbeddedServer, redis: Redis) -> None:
    redis.replicaof("127.0.0.1", "1")  # READONLY, as on a primary that was deposed
    time.sleep(0.5)
    redis.replicaof("NO", "ONE")


def pause_clients(server: EmbeddedServer, redis: Redis) -> None:
    redis.client_pause(round(1000 * FAULT_S))
    time.sleep(FAULT_S)


def change_types(server: EmbeddedServer, redis: Redis) -> None:
    for key in redis.scan_iter():
        with redis.pipeline() as both:
            both.delete(key)
            both.rpush(key, "a")
            both.execute()


@pytest.mark.parametrize("fault", [hang, kill, flush, refuse_writes, pause_clients, change_types])
def test_a_fault_of_the_cache_is_no_error_and_no_wrong_answer(
    app: OpenAPI, server: EmbeddedServer, redis: Redis, fault: Callable[[EmbeddedServer, Redis], None]
) -> None:
    def ask(body: str) -> TestResponse:
        return app.test_client().post("/remove", data=body, content_type="application/json")

    def use(body: str) -> str | None:
        answer = ask(body)
        right = {"of": hashlib.sha256(body.encode()).hexdigest()}
        return None if (answer.status_code, answer.json) == (200, right) else f"{body}: {answer.text}"

    def all_are_kept() -> bool:
        return all(ask(body).headers["X-Cache"] == "hit" for body in BODIES)

    # Given clients whose requests are answered out of the cache
    assert wait_until(all_are_kept)
    with used_all_the_time(use, BODIES, threads=THREADS) as uses:
        # When something happens to the cache
        fault(server, redis)
        # Then it is used again by itself when that is over
        assert wait_until(all_are_kept)
    # And every answer was the right one, none waited for the fault's end, and hardly any for a budget
    assert not uses.wrong
    assert max(uses.took_s) < LATE_S
    assert uses.slower_than(0.2) <= 3 * THREADS
