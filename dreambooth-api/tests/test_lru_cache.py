"""The eviction policy: never over the quota, least recently used first."""

from __future__ import annotations

from collections import OrderedDict

from hypothesis import given, settings
from hypothesis import strategies as st

from enlight.dreambooth_api.lru_cache import LruCache

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["put", "get", "remove", "room"]), st.sampled_from("abcdef"), st.integers(0, 12)),
    max_size=60,
)


def test_the_least_recently_used_goes_first() -> None:
    # Given a full cache of which the older value was used again
    cache: LruCache[str] = LruCache(10)
    assert cache.put("a", "A", 5)
    assert cache.put("b", "B", 5)
    assert cache.get("a") == "A"
    # When another one comes
    assert cache.put("c", "C", 5)
    # Then the one that nobody used goes
    assert cache.keys() == ["a", "c"]
    assert cache.get("b") is None


def test_what_is_larger_than_the_quota_is_not_kept_and_pushes_nothing_out() -> None:
    cache: LruCache[str] = LruCache(10)
    cache.put("a", "A", 5)
    assert not cache.put("b", "B", 11)
    assert not cache.make_room(11)
    assert cache.keys() == ["a"]


def test_nothing_is_kept_without_a_quota() -> None:
    cache: LruCache[str] = LruCache(0)
    assert not cache.put("a", "A", 1)
    cache.clear()
    assert cache.used_bytes == 0


@settings(max_examples=150, deadline=None)
@given(operations=OPERATIONS, quota_bytes=st.integers(0, 20))
def test_any_history_keeps_the_quota_and_the_order(operations: list[tuple[str, str, int]], quota_bytes: int) -> None:
    # Given a plain model of the policy
    cache: LruCache[int] = LruCache(quota_bytes)
    model: OrderedDict[str, int] = OrderedDict()

    def make_room(size_bytes: int) -> bool:
        if size_bytes > quota_bytes:
            return False
        while sum(model.values()) + size_bytes > quota_bytes:
            model.popitem(last=False)
        return True

    for operation, key, size_bytes in operations:
        # When something happens, then both agree
        if operation == "put":
            model.pop(key, None)
            fits = make_room(size_bytes)
            if fits:
                model[key] = size_bytes
            assert cache.put(key, size_bytes, size_bytes) is fits
        elif operation == "get":
            assert cache.get(key) == model.get(key)
            if key in model:
                model.move_to_end(key)
        elif operation == "room":
            assert cache.make_room(size_bytes) is make_room(size_bytes)
        else:
            cache.remove(key)
            model.pop(key, None)
        assert cache.keys() == list(model)
        assert cache.used_bytes == sum(model.values()) <= quota_bytes
