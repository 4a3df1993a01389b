"""When bytes are hashed again."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from memory_folder import memory_folder
from model_samples import DESCRIPTION, write_model

from enlight.dreambooth_api.manifest import Manifest, describe_files
from enlight.dreambooth_api.verified_copies import VerifiedCopies
from enlight.servicekit.errors import CorruptModel

TICK_S = 0.05
"""Longer than the steps of any filesystem's clock."""


class Counting(VerifiedCopies):
    """Counts how often everything is hashed."""

    hashed = 0

    def _verify(self, folder: Path, model_id: str, version: str) -> Manifest:
        self.hashed += 1
        return super()._verify(folder, model_id, version)


@pytest.fixture
def folder() -> Iterator[Path]:
    with memory_folder() as folder:
        write_model(folder / "files", seed=1)
        files = describe_files(folder / "files")
        manifest = Manifest.describe("dog", "v1", DESCRIPTION, files, datetime.now(UTC))
        (folder / "manifest.json").write_bytes(manifest.to_json())
        (folder / "lease.lock").touch()
        yield folder


def test_hashes_once(folder: Path) -> None:
    copies = Counting()
    time.sleep(TICK_S)
    for _ in range(3):
        assert copies.check(folder, "dog", "v1").model_id == "dog"
    assert copies.hashed == 1


def test_a_use_is_no_change(folder: Path) -> None:
    copies = Counting()
    time.sleep(TICK_S)
    copies.check(folder, "dog", "v1")
    os.utime(folder / "lease.lock")
    copies.check(folder, "dog", "v1")
    assert copies.hashed == 1


def test_a_change_at_once_after_a_check_is_noticed(folder: Path) -> None:
    # Given files as young as a filesystem's clock can tell
    for _ in range(5):
        copies = Counting()
        path = folder / "files/unet/config.json"
        good = path.read_bytes()
        path.write_bytes(good)
        copies.check(folder, "dog", "v1")
        # When one changes right after it was checked
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        # Then the next check sees it
        with pytest.raises(CorruptModel):
            copies.check(folder, "dog", "v1")
        path.write_bytes(good)


def test_waits_until_files_are_older_than_a_step_of_the_clock(folder: Path) -> None:
    path = folder / "files/unet/config.json"
    path.write_bytes(path.read_bytes())
    VerifiedCopies().check(folder, "dog", "v1")
    assert time.time_ns() - path.stat().st_mtime_ns > 15_000_000


def test_files_from_the_future_are_hashed_every_time(folder: Path) -> None:
    # Given files written before the clock stepped back
    copies = Counting()
    later = time.time() + 3600
    os.utime(folder / "files/unet/config.json", (later, later))
    for _ in range(2):
        copies.check(folder, "dog", "v1")
    assert copies.hashed == 2


@pytest.mark.parametrize("name", ["files/unet/config.json", "manifest.json"])
def test_a_touched_or_replaced_file_is_hashed_again(folder: Path, name: str) -> None:
    copies = Counting()
    time.sleep(TICK_S)
    copies.check(folder, "dog", "v1")
    os.utime(folder / name, (1.0, 1.0))
    time.sleep(TICK_S)
    copies.check(folder, "dog", "v1")
    assert copies.hashed == 2
    (folder / "copy").write_bytes((folder / name).read_bytes())
    (folder / "copy").replace(folder / name)
    os.utime(folder / name, (1.0, 1.0))
    time.sleep(TICK_S)
    copies.check(folder, "dog", "v1")
    assert copies.hashed == 3


def test_what_was_hashed_while_written_is_trusted(folder: Path) -> None:
    copies = Counting()
    manifest = copies.check(folder, "dog", "v1")
    copies = Counting()
    time.sleep(TICK_S)
    copies.trust(folder, manifest)
    assert copies.check(folder, "dog", "v1") == manifest
    assert copies.hashed == 0


def test_another_versions_copy_is_damage(folder: Path) -> None:
    with pytest.raises(CorruptModel):
        VerifiedCopies().check(folder, "dog", "v2")
    with pytest.raises(CorruptModel):
        VerifiedCopies().check(folder, "cat", "v1")


def test_a_link_is_damage(folder: Path) -> None:
    path = folder / "files/unet/config.json"
    path.rename(folder / "aside")
    path.symlink_to(folder / "nowhere")
    with pytest.raises(CorruptModel):
        VerifiedCopies().check(folder, "dog", "v1")
