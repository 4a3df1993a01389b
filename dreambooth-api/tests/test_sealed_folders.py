from __future__ import annotations

from pathlib import Path

import pytest

from enlight.dreambooth_api.sealed_folders import BrokenSealError, check_seal, sealed_folder


def _write(final: Path, content: bytes = b"some bytes") -> None:
    with sealed_folder(final) as folder:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_bytes(content)
        (folder / "other").write_bytes(b"")


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    _write(tmp_path / "deep" / "final")
    check_seal(tmp_path / "deep" / "final")
    assert (tmp_path / "deep" / "final" / "inner" / "file").read_bytes() == b"some bytes"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["final"]


def test_nothing_appears_when_writing_fails(tmp_path: Path) -> None:
    # Given a folder that exists
    _write(tmp_path / "final")

    # When a new one fails half way
    def fail() -> None:
        with sealed_folder(tmp_path / "final") as folder:
            (folder / "file").write_bytes(b"new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    # Then the old one is there, whole, and nothing else
    check_seal(tmp_path / "final")
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_a_folder_is_replaced(tmp_path: Path) -> None:
    _write(tmp_path / "final")
    _write(tmp_path / "final", b"new")
    check_seal(tmp_path / "final")
    assert (tmp_path / "final" / "inner" / "file").read_bytes() == b"new"


@pytest.mark.parametrize("position", [0, 4, 9])
def test_every_flipped_byte_is_seen(tmp_path: Path, position: int) -> None:
    _write(tmp_path / "final")
    path = tmp_path / "final" / "inner" / "file"
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(BrokenSealError):
        check_seal(tmp_path / "final")


@pytest.mark.parametrize("name", ["inner/file", "other", "SEAL.json"])
def test_a_missing_file_is_seen(tmp_path: Path, name: str) -> None:
    _write(tmp_path / "final")
    (tmp_path / "final" / name).unlink()
    with pytest.raises(BrokenSealError):
        check_seal(tmp_path / "final")


def test_a_truncated_file_is_seen(tmp_path: Path) -> None:
    _write(tmp_path / "final")
    (tmp_path / "final" / "inner" / "file").write_bytes(b"some")
    with pytest.raises(BrokenSealError):
        check_seal(tmp_path / "final")


def test_an_added_file_is_seen(tmp_path: Path) -> None:
    _write(tmp_path / "final")
    (tmp_path / "final" / "more").write_bytes(b"")
    with pytest.raises(BrokenSealError):
        check_seal(tmp_path / "final")


def test_a_damaged_seal_is_seen(tmp_path: Path) -> None:
    _write(tmp_path / "final")
    (tmp_path / "final" / "SEAL.json").write_bytes(b"{")
    with pytest.raises(BrokenSealError):
        check_seal(tmp_path / "final")


def test_no_folder_is_a_broken_seal(tmp_path: Path) -> None:
    with pytest.raises(BrokenSealError):
        check_seal(tmp_path / "none")
