"""Records of which version is current."""

from __future__ import annotations

import os
import random
from pathlib import Path

from enlight.dreambooth_api.alias_records import Alias, AliasRecords


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_record_is_fresh_for_its_time(tmp_path: Path) -> None:
    clock = Clock()
    records = AliasRecords(tmp_path, clock=clock)
    assert records.read("dog") is None
    records.write("dog", "v1", valid_s=5.0)
    assert AliasRecords(tmp_path, clock=clock).read("dog") == Alias("v1", fresh=True)
    clock.now += 4.9
    assert records.read("dog") == Alias("v1", fresh=True)
    clock.now += 0.2
    assert records.read("dog") == Alias("v1", fresh=False)


def test_a_clock_that_steps_back_makes_nothing_fresh(tmp_path: Path) -> None:
    clock = Clock()
    records = AliasRecords(tmp_path, clock=clock)
    records.write("dog", "v1", valid_s=5.0)
    clock.now -= 3600
    assert records.read("dog") == Alias("v1", fresh=False)


def test_no_time_at_all(tmp_path: Path) -> None:
    records = AliasRecords(tmp_path, clock=Clock())
    records.write("dog", "v1", valid_s=0.0)
    assert records.read("dog") == Alias("v1", fresh=False)


def test_dropping_forgets(tmp_path: Path) -> None:
    records = AliasRecords(tmp_path, clock=Clock())
    records.write("dog", "v1", valid_s=5.0)
    records.drop("dog")
    records.drop("dog")
    assert records.read("dog") is None
    assert [*tmp_path.iterdir()] == []


def test_damage_is_noticed(tmp_path: Path) -> None:
    # Given a record, and every way to flip a bit of it or to cut it
    records = AliasRecords(tmp_path, clock=Clock())
    records.write("dog", "v1", valid_s=5.0)
    data = (tmp_path / "dog.json").read_bytes()
    for at in range(len(data) * 8):
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << at % 8
        (tmp_path / "dog.json").write_bytes(bytes(damaged))
        # Then it says what it said, or nothing
        assert records.read("dog") in (None, Alias("v1", fresh=True))
    for length in range(len(data) - 1):
        (tmp_path / "dog.json").write_bytes(data[:length])
        assert records.read("dog") in (None, Alias("v1", fresh=True))


def test_another_models_record_is_refused(tmp_path: Path) -> None:
    records = AliasRecords(tmp_path, clock=Clock())
    records.write("dog", "v1", valid_s=5.0)
    (tmp_path / "dog.json").rename(tmp_path / "cat.json")
    assert records.read("cat") is None


def test_garbage_is_refused(tmp_path: Path) -> None:
    records = AliasRecords(tmp_path, clock=Clock())
    chance = random.Random(1)
    for size in (0, 1, 10, 1000):
        (tmp_path / "dog.json").write_bytes(chance.randbytes(size))
        assert records.read("dog") is None
    (tmp_path / "dog.json").unlink()
    (tmp_path / "dog.json").mkdir()
    assert records.read("dog") is None


def test_without_a_folder_to_write_to_it_remembers_by_itself(tmp_path: Path) -> None:
    clock = Clock()
    records = AliasRecords(tmp_path / "missing", clock=clock)
    records.write("dog", "v1", valid_s=5.0)
    assert records.read("dog") == Alias("v1", fresh=True)
    records.drop("dog")
    assert records.read("dog") is None


def test_temporaries_of_killed_writers_are_swept(tmp_path: Path) -> None:
    left = tmp_path / ".dog.json.0123.tmp"
    left.touch()
    os.utime(left, (1.0, 1.0))
    AliasRecords(tmp_path, clock=Clock()).sweep()
    assert [*tmp_path.iterdir()] == []
