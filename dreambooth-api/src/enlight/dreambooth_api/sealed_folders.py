"""Folders that are whole or absent, and whose every byte is checked when they are opened.

A sealed folder holds its files and ``SEAL.json`` with the SHA-256 of each. It is written under a temporary
name and renamed; safetensors itself would load flipped bits without a word.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from enlight.servicekit import atomic_files

_SEAL = "SEAL.json"


class BrokenSealError(Exception):
    """The folder is not whole, or not what was written."""


@contextlib.contextmanager
def sealed_folder(final: Path) -> Iterator[Path]:
    """Gives an empty folder to write into; at the end of the block it appears, sealed, as ``final``.

    When the block raises, nothing appears and an older ``final`` stays.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = atomic_files.temporary_beside(final)
    temporary.mkdir()
    try:
        yield temporary
        (temporary / _SEAL).write_text(json.dumps(_hashes(temporary), indent=2, sort_keys=True))
        atomic_files.replace_folder(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # gone already unless something raised


def check_seal(folder: Path) -> dict[str, str]:
    """Read every byte of a sealed folder, and give the SHA-256 of each file by its path.

    Raises:
        BrokenSealError: a file is missing, was added or has changed, or there is no folder.
    """
    try:
        sealed = json.loads((folder / _SEAL).read_bytes())
        found = _hashes(folder)
    except (OSError, ValueError) as error:
        raise BrokenSealError(f"{folder}: {error}") from error
    if sealed != found:
        raise BrokenSealError(f"{folder} is not what was written")
    return found


def _hashes(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != _SEAL)
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
