"""Sealed values: only what was sealed, under its key, in its time, comes out."""

from __future__ import annotations

import time

import pytest

from enlight.main_api.cache.sealed_values import Sealer

SECRET = b"s" * 32


def test_what_was_sealed_comes_out() -> None:
    sealer = Sealer(SECRET)
    for payload in (b"", b"\0", b"x" * 10_000):
        assert sealer.open("key", sealer.seal("key", payload, ttl_s=60)) == payload


def test_every_flipped_bit_and_every_cut_is_found() -> None:
    sealer = Sealer(SECRET)
    value = sealer.seal("key", b"payload", ttl_s=60)
    for at in range(8 * len(value)):
        wrong = bytearray(value)
        wrong[at // 8] ^= 1 << at % 8
        assert sealer.open("key", bytes(wrong)) is None, at
    for length in range(len(value)):
        assert sealer.open("key", value[:length]) is None, length
    assert sealer.open("key", value + b"\0") is None
    assert sealer.open("key", None) is None


def test_a_value_is_bound_to_its_key_its_secret_and_its_time() -> None:
    value = Sealer(SECRET).seal("key", b"payload", ttl_s=60)
    assert Sealer(SECRET).open("other", value) is None
    assert Sealer(b"t" * 32).open("key", value) is None
    # A value that outlives its time, because somebody restored a copy, is none
    assert Sealer(SECRET).open("key", Sealer(SECRET).seal("key", b"payload", ttl_s=-0.001)) is None
    soon = Sealer(SECRET).seal("key", b"payload", ttl_s=0.05)
    while Sealer(SECRET).open("key", soon) is not None:
        time.sleep(0.005)


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="32 are needed"):
        Sealer(b"s" * 31)
