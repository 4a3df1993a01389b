"""Weights that are missing, wrong, replaced, or an operator's own."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from enlight.servicekit.errors import CorruptModel, WeightsUnavailable
from enlight.servicekit.weight_files import WeightFile, WeightFolder

DATA = b"weights"
FILE = WeightFile("net.onnx", hashlib.sha256(DATA).hexdigest(), "run dev-scripts/fetch-weights")
OTHER = WeightFile("net.pth", None, "download it")


def weights(folder: Path, **sha256: str) -> WeightFolder:
    return WeightFolder(folder, setting="BGREM_WEIGHTS_FOLDER", sha256={f"{n}.onnx": s for n, s in sha256.items()})


def test_a_missing_file_is_named_with_its_place_and_its_source(tmp_path: Path) -> None:
    folder = weights(tmp_path / "not-there")
    assert not folder.has(FILE, OTHER)
    with pytest.raises(WeightsUnavailable) as caught:
        folder.find(FILE, OTHER)
    for part in ("net.onnx", "run dev-scripts/fetch-weights", "BGREM_WEIGHTS_FOLDER"):
        assert part in caught.value.message
    assert str(tmp_path) not in caught.value.message
    assert caught.value.details["file"] == "net.onnx"


def test_the_first_alternative_that_is_there_is_taken(tmp_path: Path) -> None:
    (tmp_path / "net.pth").write_bytes(b"anything: nobody publishes its sum")
    assert weights(tmp_path).find(FILE, OTHER) == tmp_path / "net.pth"
    (tmp_path / "net.onnx").write_bytes(DATA)
    assert weights(tmp_path).find(FILE, OTHER) == tmp_path / "net.onnx"
    assert weights(tmp_path).has(FILE)


def test_other_bytes_are_refused_and_seen_when_they_come_later(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(DATA)
    folder = weights(tmp_path)
    assert folder.find(FILE) == path
    path.write_bytes(b"veights")
    os.utime(path, ns=(1, 1))
    with pytest.raises(CorruptModel, match=r"net\.onnx"):
        folder.find(FILE)


def test_a_sum_of_the_settings_goes_before_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"my own")
    own = hashlib.sha256(b"my own").hexdigest().upper()
    assert weights(tmp_path, net=own).find(FILE).name == FILE.name
    with pytest.raises(CorruptModel):
        weights(tmp_path).find(FILE)


def test_a_file_is_read_once_for_all_who_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.onnx").write_bytes(DATA)
    reads: list[str] = []
    digest = hashlib.file_digest

    def counted(file: object, name: str) -> object:
        reads.append(name)
        return digest(file, name)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "file_digest", counted)
    folder = weights(tmp_path)
    threads = [threading.Thread(target=folder.find, args=(FILE,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reads == ["sha256"]
