"""Which models an instance says that it has, and where: of its engine's memory and of the folder of its cache."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from enlight.dreambooth_api import held_models
from enlight.dreambooth_api.cache_disk import CacheDisk, Pin
from enlight.dreambooth_api.held_models import VersionsOnDisk
from enlight.servicekit.service_status import HeldModel


@pytest.fixture
def disk(tmp_path: Path) -> CacheDisk:
    disk = CacheDisk(tmp_path / "cache", quota_bytes=10_000)
    disk.prepare()
    return disk


def bring(disk: CacheDisk, model_id: str) -> Pin:
    with disk.reserve(model_id, "v1", 10, deadline=time.monotonic() + 10) as reservation:
        return disk.commit(reservation, deadline=time.monotonic() + 10)


def held(model_id: str, tier: str, version: str | None = "1") -> HeldModel:
    return HeldModel.model_validate({"model_id": model_id, "version": version, "tier": tier})


def test_each_version_is_in_its_quickest_place() -> None:
    engine = {
        "bases": ["enlight/pocket"],
        "models": {"resident": ["cat@1"], "gpu": ["cat@1", "dog@1"], "host": ["cat@1", "dog@1", "cup@2"]},
    }
    assert held_models.held_models(engine, ["cat@1", "cup@2", "toy@1"]) == [
        held("enlight/pocket", "resident", None),
        held("cat", "resident"),
        held("dog", "gpu"),
        held("cup", "host", "2"),
        held("toy", "disk"),
    ]


def test_an_engine_that_has_not_said_anything_has_nothing() -> None:
    assert held_models.held_models({}, ["cat@1"]) == [held("cat", "disk")]


def test_the_folder_s_versions_are_those_that_can_be_used(disk: CacheDisk) -> None:
    on_disk = VersionsOnDisk(disk.root)
    assert on_disk.names() == []
    # The one that was used last comes first
    for name in ("cat", "dog", "cup"):
        disk.release(bring(disk, name))
    in_use = disk.pin("cat", "v1")
    assert in_use is not None
    disk.touch(in_use)
    assert on_disk.names() == ["cat@v1", "cup@v1", "dog@v1"]
    # One that goes with its last user is not at hand
    disk.remove("cat", deadline=time.monotonic() + 10)
    assert on_disk.names() == ["cup@v1", "dog@v1"]
    disk.release(in_use)


def test_not_more_are_told_of_than_one_can_read(disk: CacheDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_models, "MAX_ON_DISK", 2)
    for name in ("cat", "dog", "cup"):
        disk.release(bring(disk, name))
    assert VersionsOnDisk(disk.root).names() == ["cup@v1", "dog@v1"]


def test_a_folder_that_is_not_there_has_nothing(tmp_path: Path) -> None:
    assert VersionsOnDisk(tmp_path / "none").names() == []


def test_a_folder_that_hangs_costs_one_thread(disk: CacheDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a folder that was seen once, and hangs for whoever looks
    disk.release(bring(disk, "cat"))
    on_disk = VersionsOnDisk(disk.root)
    assert on_disk.names() == ["cat@v1"]
    looking, go_on = threading.Event(), threading.Event()

    def hang(root: Path) -> list[str]:
        looking.set()
        assert go_on.wait(30)
        return ["dog@v1"]

    monkeypatch.setattr(held_models, "_names", hang)
    hanging = threading.Thread(target=on_disk.names)
    hanging.start()
    assert looking.wait(30)
    # When others look meanwhile, then they get what was seen last
    assert on_disk.names() == ["cat@v1"]
    go_on.set()
    hanging.join()
    assert on_disk.names() == ["dog@v1"]
