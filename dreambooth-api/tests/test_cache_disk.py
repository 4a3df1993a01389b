"""Reservations, commits and quarantine of the cache's folder, without a bucket."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_folder import memory_folder
from model_samples import cache_bytes

from enlight.dreambooth_api.cache_disk import CacheDisk, Pin
from enlight.dreambooth_api.cache_layout import entries
from enlight.servicekit.errors import StorageFull


@pytest.fixture
def root() -> Iterator[Path]:
    with memory_folder() as folder:
        yield folder / "cache"


@pytest.fixture
def disk(root: Path) -> CacheDisk:
    disk = CacheDisk(root, quota_bytes=1_000, room_wait_s=0.0)
    disk.prepare()
    return disk


def soon() -> float:
    return time.monotonic() + 10.0


def bring(disk: CacheDisk, model_id: str, data: bytes) -> Pin:
    with disk.reserve(model_id, "v1", len(data), deadline=soon()) as reservation:
        (reservation.folder / "files" / "weights").write_bytes(data)
        return disk.commit(reservation, deadline=soon())


def test_a_reservation_counts_before_any_byte_is_there(disk: CacheDisk, root: Path) -> None:
    with disk.reserve("a", "v1", 600, deadline=soon()):
        assert disk.used_bytes() == 600
        assert cache_bytes(root) == 0
        # Another process does not get what is reserved
        other = CacheDisk(root, quota_bytes=1_000, room_wait_s=0.0)
        with pytest.raises(StorageFull), other.reserve("b", "v1", 401, deadline=soon()):
            pass
        with other.reserve("b", "v1", 400, deadline=soon()):
            assert disk.used_bytes() == 1_000
    assert disk.used_bytes() == 0
    assert entries(root / "downloads") == []


def test_an_error_while_downloading_frees_the_room(disk: CacheDisk, root: Path) -> None:
    def broken_download() -> None:
        with disk.reserve("a", "v1", 600, deadline=soon()) as reservation:
            (reservation.folder / "files" / "weights").write_bytes(b"x" * 300)
            raise KeyError

    with pytest.raises(KeyError):
        broken_download()
    assert disk.used_bytes() == 0
    assert disk.pin("a", "v1") is None


def test_what_is_committed_is_in_use_from_the_first_moment(disk: CacheDisk, root: Path) -> None:
    pin = bring(disk, "a", b"x" * 600)
    assert (pin.files / "weights").read_bytes() == b"x" * 600
    assert disk.evict(600, deadline=soon()) == 0
    disk.release(pin)
    assert disk.evict(600, deadline=soon()) == 600
    assert disk.pin("a", "v1") is None
    assert entries(root / "models") == []


def test_only_one_of_those_who_find_damage_moves_it_aside(disk: CacheDisk, root: Path) -> None:
    # Given two processes that found the same damage
    disk.release(bring(disk, "a", b"bad"))
    first, second = disk.pin("a", "v1"), disk.pin("a", "v1")
    assert first is not None
    assert second is not None
    # When the first has moved it aside, and a good copy is there
    assert disk.quarantine(first, deadline=soon())
    disk.release(bring(disk, "a", b"good"))
    # Then the second leaves that one where it is
    assert not disk.quarantine(second, deadline=soon())
    good = disk.pin("a", "v1")
    assert good is not None
    assert (good.files / "weights").read_bytes() == b"good"
    assert len(entries(root / "quarantine")) == 1


def test_two_versions_of_a_model_are_two(disk: CacheDisk) -> None:
    for version in ("v1", "v2"):
        with disk.reserve("a", version, 10, deadline=soon()) as reservation:
            disk.release(disk.commit(reservation, deadline=soon()))
    assert [stored.version for stored in disk.versions()] == ["v1", "v2"]
    assert disk.remove("a", deadline=soon()) == 0
    assert disk.versions() == []


def test_waits_for_the_lock_no_longer_than_the_deadline(disk: CacheDisk) -> None:
    with disk._locked(soon()), pytest.raises(TimeoutError):
        disk.evict(1, deadline=time.monotonic() + 0.1)
