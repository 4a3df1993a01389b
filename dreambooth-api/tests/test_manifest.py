"""Manifests are read as if they were hostile."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from model_samples import DESCRIPTION, write_model

from enlight.dreambooth_api.manifest import (
    FileEntry,
    Manifest,
    ModelDescription,
    check_model_id,
    check_version,
    describe_files,
    text_to_time,
    time_to_text,
)
from enlight.dreambooth_api.sealed_json import seal, unseal
from enlight.servicekit.errors import CorruptModel, InvalidField

WHEN = datetime(2026, 11, 22, 14, 7, 18, 123456, UTC)
ENTRY = FileEntry("0" * 64, 10)


def manifest(**changes: object) -> Manifest:
    files = changes.pop("files", {"unet/x.safetensors": ENTRY})
    assert isinstance(files, dict)
    description = ModelDescription(**{**vars(DESCRIPTION), **changes})
    return Manifest.describe("dog", "v1", description, files, WHEN)


def read(data: bytes) -> Manifest:
    return Manifest.from_json(data, model_id="dog", version="v1")


def test_reads_what_it_writes() -> None:
    assert read(manifest().to_json()) == manifest()
    assert manifest().size_bytes == 10
    assert manifest().object_key("unet/x.safetensors") == f"dog/v1/{'0' * 64}/unet/x.safetensors"


def test_parameters_are_what_json_makes_of_them() -> None:
    assert manifest(parameters={"betas": (0.9, 0.999)}).parameters == {"betas": [0.9, 0.999]}


@pytest.mark.parametrize("model_id", ["dog", "a", "A-b_c.d", "0", "a" * 64, "a..b", "v1.0", "current"])
def test_good_model_ids(model_id: str) -> None:
    assert check_model_id(model_id) == model_id


BAD_NAMES = [
    *("", ".", "..", "../x", "a/b", "/a", "a\n", "a\0", "a b", "-a", "_a", ".a", "a" * 65, "é", "ａ", "a\\b", "%2e"),
    *("．．／", "a\u202eb", "١", "a;b", "$(id)", "a'b", "{{7*7}}"),
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_names(name: str) -> None:
    with pytest.raises(InvalidField) as caught:
        check_model_id(name)
    assert caught.value.details == {"fields": [{"field": "model_id", "message": caught.value.message[10:]}]}
    with pytest.raises(InvalidField, match=r"^version"):
        check_version(name)


def test_a_version_cannot_be_called_current() -> None:
    with pytest.raises(InvalidField):
        check_version("current")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"parameters": {"x": float("nan")}}, "parameters"),
        ({"parameters": {"x": object()}}, "parameters"),
        ({"parameters": {"x": "a" * (2 << 20)}}, "parameters"),
        ({"base_name": ""}, "base_name"),
        ({"kind": "half"}, "kind"),
        ({"instance_prompt": "a" * 10_001}, "instance_prompt"),
        ({"files": {}}, "files"),
        ({"files": {"a": ENTRY, "a/b": ENTRY}}, "files"),
        ({"files": {".hidden": ENTRY}}, "files"),
        ({"files": {f"f{n}": ENTRY for n in range(257)}}, "files"),
    ],
)
def test_what_could_not_be_read_is_not_written(changes: dict[str, object], field: str) -> None:
    with pytest.raises(InvalidField, match=f"^{field}"):
        manifest(**changes)


def put(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    return lambda record: record.update({name: value})


def puts(name: str, *values: object) -> list[Callable[[dict[str, Any]], None]]:
    return [put(name, value) for value in values]


def put_file(path: str, entry: object = None) -> Callable[[dict[str, Any]], None]:
    entry = {"sha256": "0" * 64, "size_bytes": 1} if entry is None else entry
    return lambda record: record["files"].update({path: entry})


HOSTILE: list[Callable[[dict[str, Any]], None]] = [
    *(put_file(path) for path in ("../x", "/etc/passwd", "a/../../x", "a//b", "a\0b", "a\nb", "", ".", "~/x", "a\\b")),
    *(put_file(path) for path in ("a" * 400, "a/" * 200 + "a", ".ssh/id", "a/.b", "．．/x", "C:x", "unet")),
    put_file("x", 1),
    put_file("x", []),
    put_file("x", {"sha256": "0" * 64}),
    put_file("x", {"sha256": "0", "size_bytes": 1}),
    *(put_file("x", {"sha256": "0" * 64, "size_bytes": size}) for size in (-1, 1.0, True, "1", 1 << 41, None)),
    put_file("x", {"sha256": "0" * 63 + "G", "size_bytes": 1}),
    put_file("x", {"sha256": "0" * 64, "size_bytes": 1, "mode": 4}),
    lambda record: record["files"].clear(),
    put("files", []),
    put("files", {f"f{n}": {"sha256": "0" * 64, "size_bytes": 1 << 40} for n in range(2)}),
    *puts("format", 0, 2, True, "1", None),  # noqa: FBT003
    *puts("model_id", "cat", "../dog", "", 1, None),
    *puts("version", "v2", "", None),
    *puts("base_name", "", 1, None, "a" * 201),
    *puts("base_revision", 1, [], "a" * 201),
    *puts("kind", "", None, "FULL", ["full"]),
    *puts("instance_prompt", None, 1, "a" * 10_001),
    *puts("parameters", None, [], "x"),
    *puts("created_at", None, 0, "", "yesterday", "2026-11-22", "2026-13-22T00:00:00.0Z"),
    put("extra", 1),
    lambda record: record.pop("kind"),
]


@pytest.mark.parametrize("change", HOSTILE)
def test_hostile_manifests_are_refused(change: Callable[[dict[str, Any]], None]) -> None:
    # Given a manifest with one thing wrong, properly sealed
    record = unseal(manifest().to_json(), "it")
    change(record)
    # Then it is refused
    with pytest.raises(CorruptModel):
        read(seal(record))


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{}", b"null", b"[]", b'"x"', b"\xff\xfe", b"{" * 100_000, b"[" * 100_000, b'{"sha256": NaN}'),
        *(b"{}\0", b'{"sha256":"' + b"0" * 64 + b'"}', b'{"a":1e999}'),
    ],
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptModel):
        read(data)


def test_every_flipped_bit_and_cut_is_noticed_or_harmless() -> None:
    data = manifest().to_json()
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    for _ in range(500):
        damaged = bytearray(data)
        damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        try:
            assert read(bytes(damaged)) == manifest()  # a space became another white space
        except CorruptModel:
            continue
    for length in range(len(data) - 2):
        with pytest.raises(CorruptModel):
            read(data[:length])


def test_describe_files_hashes_every_file(tmp_path: Path) -> None:
    content = write_model(tmp_path, seed=1)
    assert {path: entry.sha256 for path, entry in describe_files(tmp_path).items()} == content


def test_describe_files_takes_files_only(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidField, match="link"):
        describe_files(folder)
    (folder / "link").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(InvalidField, match="pipe"):
        describe_files(folder)


def test_times_are_utc_and_sort_as_text() -> None:
    other = WHEN.astimezone(timezone(timedelta(hours=9)))
    assert time_to_text(other) == time_to_text(WHEN) == "2026-11-22T14:07:18.123456Z"
    assert text_to_time(time_to_text(WHEN)) == WHEN
    assert time_to_text(WHEN) < time_to_text(WHEN + timedelta(microseconds=1))


def test_same_content_ignores_time_and_parameters() -> None:
    later = Manifest.describe("dog", "v1", DESCRIPTION, manifest().files, WHEN + timedelta(days=1))
    assert manifest().same_content(later)
    assert manifest().same_content(manifest(parameters={"took_s": 1.5}))
    assert not manifest().same_content(manifest(files={"unet/x.safetensors": FileEntry("1" * 64, 10)}))
    assert not manifest().same_content(manifest(instance_prompt="a photo of zwx cat"))


def test_a_sealed_record_is_plain_json() -> None:
    record = json.loads(seal({"b": 1, "a": "é"}))
    assert (record["a"], record["b"], len(record["sha256"])) == ("é", 1, 64)
    with pytest.raises(ValueError, match="JSON compliant"):
        seal({"a": float("inf")})
