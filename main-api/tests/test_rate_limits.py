"""RateLimiter with a real Valkey or Redis, without one, and with a broken one: never over the limit, never without."""

from __future__ import annotations

import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from embedded_servers import EmbeddedServer, valkey_server
from redis import Redis
from redis_servers import PROGRAMS, StartServer

from enlight.main_api.cache.cache_keys import rate_key
from enlight.main_api.cache.client import CacheClient
from enlight.main_api.limits import rate_limits
from enlight.main_api.limits.rate_limits import RateLimit, RateLimiter
from enlight.main_api.limits.sliding_window import SLICES, fits, seconds_until_room, slice_of, used
from enlight.servicekit.errors import QuotaExceeded

LIMITS = {"requests": RateLimit(10, 60), "gpu_seconds": RateLimit(100.5, 3600), "burst": RateLimit(3, 1)}


@pytest.fixture(scope="module", params=PROGRAMS)
def start_server(request: pytest.FixtureRequest) -> StartServer:
    """The server is Valkey, and then Redis."""
    return partial(valkey_server, program=request.param)


@pytest.fixture(params=["shared", "alone"])
def limiter(request: pytest.FixtureRequest, client: CacheClient) -> RateLimiter:
    """One with a cache server, and one of a process that has none."""
    return RateLimiter(CacheClient([]) if request.param == "alone" else client, limits=LIMITS)


def granted(limiter: RateLimiter, tenant: str, what: str, tries: int, amount: float = 1) -> int:
    count = 0
    for _ in range(tries):
        try:
            limiter.take(tenant, what, amount)
        except QuotaExceeded:
            continue
        count += 1
    return count


def test_a_limit_holds_per_tenant_and_per_kind(limiter: RateLimiter) -> None:
    assert granted(limiter, "acme", "requests", 30) == 10
    assert granted(limiter, "other", "requests", 30) == 10
    assert granted(limiter, "acme", "gpu_seconds", 3, amount=50) == 2
    # What has no limit is free
    assert granted(limiter, "acme", "unlimited", 100) == 100


def test_the_error_says_what_is_used_up_and_when_to_come_back(limiter: RateLimiter) -> None:
    granted(limiter, "acme", "requests", 10)
    with pytest.raises(QuotaExceeded, match="10 requests in 60 s") as caught:
        limiter.take("acme", "requests")
    assert caught.value.retry_after_s is not None
    assert 59 <= caught.value.retry_after_s <= 66
    assert caught.value.details == {"limit": 10, "window_s": 60, "of": "requests"}


def test_after_the_told_time_there_is_room_and_not_before(limiter: RateLimiter) -> None:
    began_s = time.monotonic()
    assert granted(limiter, "acme", "burst", 3) == 3
    with pytest.raises(QuotaExceeded) as caught:
        limiter.take("acme", "burst")
    told_s = caught.value.retry_after_s
    assert told_s is not None
    # No window of a second holds a fourth
    while granted(limiter, "acme", "burst", 1) == 0:
        time.sleep(0.01)
    assert 1.0 <= time.monotonic() - began_s <= told_s + 0.5


def test_what_was_used_is_recorded_even_over_the_limit_and_then_nothing_fits(limiter: RateLimiter) -> None:
    # Given jobs whose seconds are known only afterwards
    limiter.take("acme", "gpu_seconds", 0)
    limiter.record("acme", "gpu_seconds", 100)
    limiter.take("acme", "gpu_seconds", 0)
    limiter.record("acme", "gpu_seconds", 1_000.25)
    # Then the next asks in vain, whatever it wants
    for amount in (0, 0.001, 1):
        with pytest.raises(QuotaExceeded):
            limiter.take("acme", "gpu_seconds", amount)
    limiter.record("acme", "unlimited", 5)


def test_asking_for_room_takes_none_and_more_than_the_limit_never_fits(limiter: RateLimiter) -> None:
    assert granted(limiter, "acme", "requests", 50, amount=0) == 50
    assert granted(limiter, "acme", "requests", 1, amount=10.5) == 0
    assert granted(limiter, "acme", "requests", 1, amount=10) == 1


def test_fifty_at_once_over_two_processes_get_no_more_than_the_limit(server: EmbeddedServer, redis: Redis) -> None:
    with closing(CacheClient([server.url])) as one, closing(CacheClient([server.url])) as other:
        limiters = [RateLimiter(client, limits=LIMITS) for client in (one, other)]
        together = threading.Barrier(50)

        def rush(number: int) -> int:
            together.wait(30)
            return granted(limiters[number % 2], "acme", "requests", 4)

        with ThreadPoolExecutor(50) as threads:
            assert sum(threads.map(rush, range(50))) == 10


def test_many_at_once_in_one_process_alone_get_no_more_than_the_limit() -> None:
    limiter = RateLimiter(CacheClient([]), limits={"requests": RateLimit(500, 60)})
    together = threading.Barrier(8)

    def rush(number: int) -> int:
        together.wait(30)
        return granted(limiter, "acme", "requests", 500)

    usual_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # threads take turns within each operation
    try:
        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(rush, range(8))) == 500
    finally:
        sys.setswitchinterval(usual_s)


def test_counts_leave_the_server_by_themselves(client: CacheClient, redis: Redis) -> None:
    RateLimiter(client, limits=LIMITS).take("acme", "requests")
    key = rate_key(tenant="acme", what="requests", window_s=60)
    assert 60_000 < redis.pttl(key) <= 66_000


def test_while_the_server_is_away_a_process_counts_on_from_what_it_gave(
    start_server: StartServer, tmp_path: Path
) -> None:
    with (
        start_server(tmp_path / "data") as server,
        closing(CacheClient([server.url], probe_every_s=0.05)) as client,
    ):
        limiter = RateLimiter(client, limits=LIMITS)
        assert granted(limiter, "acme", "requests", 6) == 6
        limiter.record("acme", "gpu_seconds", 200)
        # When the server hangs, then the rest is what is left, at once and not after a timeout each
        server.pause()
        began_s = time.monotonic()
        assert granted(limiter, "acme", "requests", 30) == 4
        assert granted(limiter, "acme", "gpu_seconds", 5, amount=0) == 0
        assert time.monotonic() - began_s < 0.45


def test_a_count_that_somebody_broke_is_no_free_ticket(client: CacheClient, redis: Redis) -> None:
    key = rate_key(tenant="acme", what="requests", window_s=60)
    limiter = RateLimiter(client, limits=LIMITS)
    # Given a value of another type, then the process counts for itself, and the key heals
    redis.set(key, "text")
    limiter.take("acme", "requests")
    assert not redis.exists(key)
    # Given fields that are nonsense, then they count for nothing and go
    redis.hset(key, mapping={"x": "y", "5": "nan", "1e308": "1", "-1": "2"})
    assert granted(limiter, "acme", "requests", 30) == 10
    assert redis.hlen(key) <= 2
    # Given a flush, then the tenant has at most its limit again
    redis.flushall()
    assert granted(limiter, "acme", "requests", 30) == 10


def test_memory_for_local_counts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rate_limits, "MAX_LOCAL_COUNTS", 3)
    limiter = RateLimiter(CacheClient([]), limits=LIMITS)
    for tenant in ("a", "b", "c"):
        limiter.take(tenant, "requests", 10)
    # When another comes, then the one that was used longest ago is forgotten, and only that one
    assert granted(limiter, "a", "requests", 1) == 0
    limiter.take("d", "requests", 10)
    assert [granted(limiter, tenant, "requests", 1) for tenant in ("a", "c", "d")] == [0, 0, 0]
    assert granted(limiter, "b", "requests", 1) == 1


def test_no_window_ever_holds_more_than_the_limit_and_the_told_time_is_the_earliest() -> None:
    # Against every instant that was ever counted, with amounts and times by chance
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    window_s, limit = 10.0, 20.0
    now_s, slices, given = 1_000_000.0, dict[int, float](), list[tuple[float, float]]()
    for _ in range(3000):
        now_s += chance.expovariate(4 / window_s * 5)
        amount = chance.choice([0.5, 1, 3, 7])
        newest = slice_of(now_s, window_s)
        if fits(used(slices, newest), amount, limit):
            slices[newest] = slices.get(newest, 0.0) + amount
            given.append((now_s, amount))
            assert sum(more for at_s, more in given if at_s > now_s - window_s) <= limit
        else:
            wait_s = seconds_until_room(slices, now_s, window_s=window_s, room_for=amount, limit=limit)
            assert 0 < wait_s <= window_s * (SLICES + 1) / SLICES
            then = slice_of(now_s + wait_s + 1e-6, window_s)
            assert fits(used(slices, then), amount, limit)
            before = slice_of(now_s + wait_s - 1e-6, window_s)
            assert not fits(used(slices, before), amount, limit)
