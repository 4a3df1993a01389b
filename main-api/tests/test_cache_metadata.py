"""MetadataCache with a real Valkey: never older than promised, never written over a delete."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from embedded_servers import valkey_server
from redis import Redis
from waiting import wait_until

from enlight.main_api.cache.client import CacheClient
from enlight.main_api.cache.metadata_cache import MetadataCache
from enlight.servicekit.errors import NotFound

SECRET = b"s" * 32
KEY = "enlight:v1:metadata:model:0"


class Record:
    """What the database would hold; counts how often it is asked."""

    def __init__(self) -> None:
        self.value: object = {"name": "dog", "versions": [1, 2], "none": None}
        self.loads = 0

    def load(self) -> object:
        self.loads += 1
        return self.value


@pytest.fixture
def cache(client: CacheClient) -> MetadataCache:
    return MetadataCache(client, secret=SECRET)


@pytest.fixture
def record() -> Record:
    return Record()


def test_a_record_is_loaded_once_and_again_after_a_delete(cache: MetadataCache, record: Record, redis: Redis) -> None:
    for _ in range(3):
        assert cache.get_or_load(KEY, record.load, 60) == record.value
    assert record.loads == 1
    assert 50_000 < redis.pttl(KEY) <= 60_000
    record.value = ["changed"]
    assert cache.delete(KEY)
    assert cache.get_or_load(KEY, record.load, 60) == ["changed"]
    assert record.loads == 2


def test_what_loading_raises_passes_through_and_is_not_kept(cache: MetadataCache, record: Record) -> None:
    def fail() -> object:
        raise NotFound("no such model")

    with pytest.raises(NotFound):
        cache.get_or_load(KEY, fail, 60)
    assert cache.get_or_load(KEY, record.load, 60) == record.value


def test_a_ttl_of_0_keeps_nothing(cache: MetadataCache, record: Record) -> None:
    for _ in range(2):
        cache.get_or_load(KEY, record.load, 0)
    assert record.loads == 2


def test_a_reader_never_writes_over_a_delete(cache: MetadataCache, record: Record) -> None:
    # Given a reader that has loaded the old record and did not write it yet
    def load_and_be_overtaken() -> object:
        old = record.load()
        record.value = "new"
        assert cache.delete(KEY)
        return old

    cache.get_or_load(KEY, load_and_be_overtaken, 60)
    # Then the old record is not what others find
    assert cache.get_or_load(KEY, record.load, 60) == "new"


def test_nor_when_another_reader_began_since(cache: MetadataCache, record: Record) -> None:
    loaded, overtaken = threading.Event(), threading.Event()

    def slow() -> object:
        old = record.load()
        loaded.set()
        overtaken.wait(10)
        return old

    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(cache.get_or_load, KEY, slow, 60)
        loaded.wait(10)
        # Given a change, and a second reader whose record is kept, while the first still holds the old one
        record.value = "new"
        cache.delete(KEY)
        assert cache.get_or_load(KEY, record.load, 60) == "new"
        overtaken.set()
        first.result()
    # Then the second's stays
    loads = record.loads
    assert cache.get_or_load(KEY, record.load, 60) == "new"
    assert record.loads == loads


@pytest.mark.parametrize("wrong", [b"", b"{}", b'enl1"dog"', b"loading", b"\xff" * 100])
def test_a_value_that_is_not_ours_is_replaced(cache: MetadataCache, record: Record, redis: Redis, wrong: bytes) -> None:
    redis.set(KEY, wrong)
    assert cache.get_or_load(KEY, record.load, 60) == record.value
    assert cache.get_or_load(KEY, record.load, 60) == record.value
    assert cache.get_or_load(KEY, record.load, 60) == record.value
    assert record.loads == 2


def test_a_value_of_another_type_is_replaced(cache: MetadataCache, record: Record, redis: Redis) -> None:
    redis.rpush(KEY, "a")
    for _ in range(3):
        assert cache.get_or_load(KEY, record.load, 60) == record.value
    assert record.loads <= 2


def test_a_delete_that_did_not_come_through_is_owed(tmp_path: Path, record: Record) -> None:
    with (
        valkey_server(tmp_path / "data", appendonly=True) as server,
        closing(CacheClient([server.url], probe_every_s=0.05)) as client,
    ):
        cache = MetadataCache(client, secret=SECRET)
        cache.get_or_load(KEY, record.load, 600)
        # Given a record that is changed while the cache, which keeps its data here, is dead
        server.kill()
        record.value = "new"
        assert not cache.delete(KEY)
        assert cache.get_or_load(KEY, record.load, 600) == "new"
        server.start()
        # Then this process never gives the old one, although it is still in the cache
        assert wait_until(lambda: not client.is_away())
        assert cache.get_or_load(KEY, record.load, 600) == "new"
        loads = record.loads
        assert cache.get_or_load(KEY, record.load, 600) == "new"
        assert record.loads == loads
