"""CacheClient against a real cluster of six nodes: slots, a node that hangs, dies, moves, and comes back."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from cache_users import used_all_the_time
from redis.crc import key_slot
from redis_cluster import ClusterOfSix, cluster_of_six
from redis_servers import PROGRAMS
from waiting import wait_until

from enlight.main_api.cache.client import CacheClient
from enlight.main_api.limits.rate_limits import RateLimit, RateLimiter
from enlight.servicekit.errors import QuotaExceeded

KEYS = [f"key-{number}" for number in range(60)]
THREADS = 4
FAULT_S = 2.5
LATE_S = 2.0
"""Far above a budget of 0.2 s, since the machine may do something else, and below a fault's length."""


@pytest.fixture(scope="module", params=PROGRAMS)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterOfSix]:
    """Six of Valkey, and then six of Redis."""
    with cluster_of_six(tmp_path_factory.mktemp("cluster"), request.param) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: ClusterOfSix) -> Iterator[CacheClient]:
    with closing(CacheClient(cluster.urls, probe_every_s=0.1)) as client:
        assert wait_until(lambda: all(client.set(key, key.encode(), ttl_s=600) for key in KEYS))
        yield client


def keys_of(first_primary: int) -> list[str]:
    """The keys in the slots that this node began with."""
    bounds = (0, 5461, 10923, 16384)
    return [key for key in KEYS if bounds[first_primary] <= key_slot(key.encode()) < bounds[first_primary + 1]]


def has_all(client: CacheClient, keys: list[str]) -> bool:
    return all(client.get(key) == key.encode() for key in keys)


def test_every_key_finds_its_node_and_scripts_and_limits_work(client: CacheClient) -> None:
    assert all(keys_of(node) for node in (0, 1, 2))
    assert has_all(client, KEYS)
    assert all(client.run_script("return redis.call('GET', KEYS[1])", key, []) == key.encode() for key in KEYS)
    assert all(client.delete(key) for key in KEYS)
    limiter = RateLimiter(client, limits={"requests": RateLimit(2, 60)})
    for tenant in KEYS[:9]:
        limiter.take(tenant, "requests")
        limiter.take(tenant, "requests")
        with pytest.raises(QuotaExceeded):
            limiter.take(tenant, "requests")
    assert client.ping()


def test_a_slot_that_moves_is_followed(cluster: ClusterOfSix, client: CacheClient) -> None:
    # Given a client that knows the cluster, and a primary that hands over to its replica
    keys = keys_of(0)
    assert has_all(client, KEYS)
    cluster.fail_over_to(3)
    # Then its keys are found again by themselves, and written where they now belong
    assert wait_until(lambda: all(client.set(key, key.encode(), ttl_s=600) for key in keys))
    assert has_all(client, KEYS)
    # And the way back
    cluster.fail_over_to(0)
    assert wait_until(lambda: all(client.set(key, key.encode(), ttl_s=600) for key in KEYS))


def test_a_node_that_hangs_costs_one_budget_and_only_its_own_keys(cluster: ClusterOfSix, client: CacheClient) -> None:
    assert has_all(client, KEYS)
    # Given a primary that hangs
    cluster.signal(1, signal.SIGSTOP)
    try:
        # When every key is asked for, then the others' are there, and the time is that of one failure
        began_s = time.monotonic()
        found = [key for key in KEYS if client.get(key) is not None]
        assert time.monotonic() - began_s < 0.5, "two failures would take as long"
        assert set(found) == {*keys_of(0), *keys_of(2)}
        assert client.is_away()
        assert client.is_away(keys_of(1)[0])
        assert not client.is_away(keys_of(0)[0])
        # And when its replica has taken over, then all keys are back while it still hangs
        assert wait_until(lambda: all(client.set(key, key.encode(), ttl_s=600) for key in KEYS), timeout_s=30)
        assert wait_until(lambda: not client.is_away())
    finally:
        cluster.signal(1, signal.SIGCONT)
    # And when it comes back as a replica, then nothing is disturbed
    assert wait_until(lambda: not cluster.is_primary(1), timeout_s=30)
    assert wait_until(lambda: all(client.set(key, key.encode(), ttl_s=600) for key in KEYS))


def pause_clients(cluster: ClusterOfSix) -> None:
    with closing(cluster.redis(2)) as redis:
        redis.client_pause(round(1000 * FAULT_S))
    time.sleep(FAULT_S)


def flush(cluster: ClusterOfSix) -> None:
    for node in filter(cluster.is_primary, range(6)):
        with closing(cluster.redis(node)) as redis:
            redis.flushall()


def change_types(cluster: ClusterOfSix) -> None:
    with closing(cluster.redis(2)) as redis:
        for key in keys_of(2):
            with redis.pipeline() as both:
                both.delete(key)
                both.rpush(key, "a")
                both.execute()


def refuse_writes(cluster: ClusterOfSix) -> None:
    with closing(cluster.redis(2)) as redis:
        redis.config_set("min-replicas-to-write", 5)
        time.sleep(0.5)
        redis.config_set("min-replicas-to-write", 0)


def kill(cluster: ClusterOfSix) -> None:
    cluster.signal(2, signal.SIGKILL)
    time.sleep(0.5)


@pytest.mark.parametrize("fault", [pause_clients, flush, change_types, refuse_writes, kill])
def test_a_fault_of_a_node_costs_a_budget_each_and_gives_no_wrong_answer(
    cluster: ClusterOfSix, client: CacheClient, fault: Callable[[ClusterOfSix], None]
) -> None:
    def use(key: str) -> bytes | None:
        value = client.get(key)
        client.set(key, key.encode(), ttl_s=600)
        return None if value in (None, key.encode()) else value

    # Given threads that use every key all the time
    with used_all_the_time(use, KEYS, threads=THREADS) as uses:
        # When something happens to a primary, and goes on for a while
        fault(cluster)
        # Then all is well again by itself; with a killed one, when its replica has taken over
        assert wait_until(lambda: not client.is_away() and has_all(client, KEYS), timeout_s=30)
    # And nothing raised, nothing was wrong, nobody waited for the fault's end, and hardly anybody for a budget
    assert not uses.wrong
    assert max(uses.took_s) < LATE_S
    assert uses.slower_than(0.2) <= 3 * THREADS


def test_a_seed_that_is_dead_is_no_hindrance(cluster: ClusterOfSix) -> None:
    urls = ["redis://127.0.0.1:1", cluster.url(2), cluster.url(0)]
    urls[0] = cluster.url(0).replace(str(cluster.ports[0]), "1")
    with closing(CacheClient(urls, probe_every_s=0.1)) as client:
        assert wait_until(lambda: client.set("key", b"value", ttl_s=60))


def test_a_cluster_that_is_gone_and_comes_back(cluster: ClusterOfSix, client: CacheClient) -> None:
    # Given a cluster of which nothing is left
    cluster.stop()
    began_s = time.monotonic()
    assert all(client.get(key) is None for key in KEYS)
    assert not any(client.set(key, b"", ttl_s=60) for key in KEYS)
    assert time.monotonic() - began_s < 1
    # And a client that never saw it
    with closing(CacheClient(cluster.urls, probe_every_s=0.1)) as other:
        assert other.get("key") is None
        # When it is back, then both use it
        cluster.start()
        for one in (client, other):
            assert wait_until(lambda: all(one.set(key, key.encode(), ttl_s=600) for key in KEYS))  # noqa: B023
            assert has_all(one, KEYS)
