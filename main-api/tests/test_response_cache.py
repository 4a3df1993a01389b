"""ResponseCache with a real Valkey and real buckets: what comes out is what went in, or nothing."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest
from embedded_servers import EmbeddedServer, valkey_server
from fault_proxy import Fault, TcpFaultProxy
from redis import Redis
from waiting import wait_until

from enlight.main_api.cache import response_cache
from enlight.main_api.cache.client import CacheClient
from enlight.main_api.cache.response_cache import CachedResponse, ResponseCache, sweep_response_objects
from enlight.servicekit.directory_store import DirectoryStore
from enlight.servicekit.object_store import SMALL_OBJECT_BYTES

SECRET = b"s" * 32
KEY = "enlight:v1:response:" + "0" * 64
INLINE_BYTES = 1000
MAX_BYTES = 6 << 20


@pytest.fixture
def bucket(tmp_path: Path) -> Path:
    return tmp_path / "bucket"


@pytest.fixture
def objects(bucket: Path) -> DirectoryStore:
    return DirectoryStore(bucket)


def cache_of(client: CacheClient, objects: DirectoryStore | None, secret: bytes = SECRET) -> ResponseCache:
    return ResponseCache(client, objects, secret=secret, ttl_s=600, inline_bytes=INLINE_BYTES, max_bytes=MAX_BYTES)


@pytest.fixture
def cache(client: CacheClient, objects: DirectoryStore) -> ResponseCache:
    return cache_of(client, objects)


def answer(size: int, status: int = 200) -> CachedResponse:
    return CachedResponse(status, "image/png", {"X-Seed": "7", "X-Mask": "ünïcode"}, os.urandom(size))


def object_files(bucket: Path) -> list[Path]:
    return [path for path in (bucket / "responses").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "size", [0, 1, INLINE_BYTES, INLINE_BYTES + 1, SMALL_OBJECT_BYTES, SMALL_OBJECT_BYTES + 1, MAX_BYTES]
)
def test_an_answer_comes_back_as_it_was(cache: ResponseCache, bucket: Path, redis: Redis, size: int) -> None:
    kept = answer(size)
    assert cache.get(KEY) is None
    assert cache.put(KEY, kept)
    assert cache.get(KEY) == kept
    # Only what is large lies in the bucket, and only what is small in the cache server's memory
    assert len(object_files(bucket)) == (size > INLINE_BYTES)
    assert redis.strlen(KEY) < INLINE_BYTES + 500


def test_what_is_not_kept(cache: ResponseCache, client: CacheClient, bucket: Path) -> None:
    for status in (202, 204, 301, 404, 429, 500, 503):
        assert not cache.put(KEY, answer(10, status))
    assert not cache.put(KEY, answer(MAX_BYTES + 1))
    assert not cache_of(client, None).put(KEY, answer(INLINE_BYTES + 1))
    assert cache.get(KEY) is None
    assert object_files(bucket) == []


def test_an_answer_ends_and_answers_made_together_do_not_end_together(cache: ResponseCache, redis: Redis) -> None:
    keys = [f"{KEY}{number}" for number in range(40)]
    for key in keys:
        cache.put(key, answer(10))
    ttls_ms = [redis.pttl(key) for key in keys]
    assert all(530_000 < ttl_ms <= 600_000 for ttl_ms in ttls_ms)
    assert max(ttls_ms) - min(ttls_ms) > 10_000


def test_nothing_but_the_genuine_value_is_served(cache: ResponseCache, client: CacheClient, redis: Redis) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    kept = answer(300)
    cache.put(KEY, kept)
    value = cast("bytes", redis.get(KEY))
    # Given a value that was changed, cut, or made up, then there is none
    for _ in range(200):
        wrong = bytearray(value)
        wrong[chance.randrange(len(wrong))] ^= 1 << chance.randrange(8)
        redis.set(KEY, bytes(wrong))
        assert cache.get(KEY) is None
    for made_up in (b"", b"enl1", value[: len(value) // 2], value + b"x", b'{"status":200}', os.urandom(500)):
        redis.set(KEY, made_up)
        assert cache.get(KEY) is None
    # Nor for a value of another type, of another key (another tenant's), or sealed with another secret
    redis.delete(KEY)
    redis.rpush(KEY, value)
    assert cache.get(KEY) is None
    redis.set(KEY + "other", value)
    assert cache.get(KEY + "other") is None
    redis.delete(KEY)
    redis.set(KEY, value)
    assert cache_of(client, None, secret=b"t" * 32).get(KEY) is None
    # And the genuine one still is one
    assert cache.get(KEY) == kept


def test_a_bucket_that_lost_or_damaged_a_body_is_a_miss_and_heals(cache: ResponseCache, bucket: Path) -> None:
    kept = answer(5000)
    for damage in (b"", kept.body[:-1], kept.body + b"x", b"x" + kept.body[1:], None):
        # Given a body that is not what it was
        cache.put(KEY, kept)
        (file,) = object_files(bucket)
        if damage is None:
            file.unlink()
        else:
            file.write_bytes(damage)
        # Then it is not served, and the next put mends it
        assert cache.get(KEY) is None
        cache.put(KEY, kept)
        assert cache.get(KEY) == kept


def test_no_more_of_a_body_is_read_than_was_put(client: CacheClient, bucket: Path) -> None:
    class Swollen(DirectoryStore):
        given = 0

        def download(self, key: str, sink: Callable[[bytes], object]) -> int:
            while self.given < 1000:
                self.given += 1
                sink(bytes(5000))
            return 5000 * self.given

    # Given a body that grew to a thousand times its size
    objects = Swollen(bucket)
    cache = cache_of(client, objects)
    cache.put(KEY, answer(5000))
    # Then it is a miss as soon as that shows
    assert cache.get(KEY) is None
    assert objects.given == 2


def test_a_bucket_that_fails_is_left_alone_for_a_while(
    cache: ResponseCache, bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = answer(5000)
    cache.put(KEY, kept)
    # Given a bucket that goes away
    bucket.rename(tmp_path / "unmounted")
    assert cache.get(KEY) is None
    # When it is back, then it is still left alone, while small answers are kept as always
    (tmp_path / "unmounted").rename(bucket)
    assert cache.get(KEY) is None
    assert not cache.put(KEY, kept)
    assert cache.put(KEY + "small", answer(10))
    # And used again after the pause
    later_s = time.monotonic() + response_cache.BUCKET_PAUSE_S
    monkeypatch.setattr(time, "monotonic", lambda: later_s)
    assert cache.get(KEY) == kept


def test_nothing_is_uploaded_while_the_cache_server_is_away(tmp_path: Path, bucket: Path) -> None:
    with valkey_server(tmp_path / "data") as server, closing(CacheClient([server.url])) as client:
        cache = cache_of(client, DirectoryStore(bucket))
        server.kill()
        assert cache.get(KEY) is None
        assert not cache.put(KEY, answer(5000))
        assert object_files(bucket) == []


def test_a_line_that_flips_bits_never_gives_a_wrong_answer(server: EmbeddedServer, redis: Redis) -> None:
    kept = answer(100)
    with TcpFaultProxy(("127.0.0.1", server.port)) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/"
        with closing(CacheClient([url])) as client:
            cache_of(client, None).put(KEY, kept)
        length = len(f"${redis.strlen(KEY)}\r\n") + redis.strlen(KEY) + 2
        for at in range(length):
            proxy.inject(Fault(flip_response_at=at))
            with closing(CacheClient([url], probe_every_s=60)) as client:
                assert cache_of(client, None).get(KEY) is None or at >= length - 2, at  # the line end is not looked at


def test_other_processes_see_it_and_an_outage_is_only_a_miss(tmp_path: Path, objects: DirectoryStore) -> None:
    kept = answer(500)
    with (
        valkey_server(tmp_path / "data") as server,
        closing(CacheClient([server.url], probe_every_s=0.05)) as client,
        closing(CacheClient([server.url], probe_every_s=0.05)) as other,
    ):
        assert cache_of(client, objects).put(KEY, kept)
        assert cache_of(other, objects).get(KEY) == kept
        server.pause()
        assert cache_of(client, objects).get(KEY) is None
        server.resume()
        assert wait_until(lambda: cache_of(client, objects).get(KEY) == kept)


def test_old_bodies_are_swept(cache: ResponseCache, objects: DirectoryStore, bucket: Path) -> None:
    # Given bodies of long ago and of now, and somebody else's objects in the bucket
    old, new = answer(5000), answer(6000)
    cache.put(KEY + "old", old)
    (file,) = object_files(bucket)
    os.utime(file, (time.time() - 1000, time.time() - 1000))
    cache.put(KEY + "new", new)
    objects.put_bytes("jobs/one", b"x")
    os.utime(bucket / "jobs/one", (0, 0))
    # When what is older than the ttl is swept, then only the first goes
    assert sweep_response_objects(objects, older_than_s=600) == 1
    assert cache.get(KEY + "old") is None
    assert cache.get(KEY + "new") == new
    assert objects.get_bytes("jobs/one")[0] == b"x"
    # A body that is put again begins anew
    (file,) = object_files(bucket)
    os.utime(file, (time.time() - 1000, time.time() - 1000))
    cache.put(KEY + "again", new)
    assert sweep_response_objects(objects, older_than_s=600) == 0


def test_a_short_secret_is_refused(client: CacheClient) -> None:
    with pytest.raises(ValueError, match="32"):
        cache_of(client, None, secret=b"short")
