"""How the cache's folder is laid out, and how its parts are found, measured and removed.

::

    models/<model_id>/<version>/   lease.lock  manifest.json  files/...     whole and checked
    downloads/<token>-<bytes>/     the same, growing; <bytes> are reserved for it
    quarantine/<model_id>@<version>@<token>/   found damaged, kept for a look while there is room
    trash/<token>/                 being removed
    aliases/<model_id>.json        which version is current, as the bucket said last
    locks/                         locks between processes

There is no index that could be lost or damaged: the folders are the index. The time of the last use is the
modification time of ``lease.lock``, so the order of eviction survives a restart. A use holds a shared lock on
``lease.lock``, a download an exclusive one; the kernel frees both with a killed process.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from enlight.dreambooth_api.file_locks import FileLock

FOLDERS = ("models", "downloads", "quarantine", "trash", "aliases", "locks")
LEASE = "lease.lock"
FILES = "files"
MANIFEST = "manifest.json"
DISK_LOCK = "disk.lock"
REMOVED_NS = 0
"""Time of last use that marks a version to be removed with its last user."""


@dataclass(frozen=True)
class StoredVersion:
    """A committed version on the disk."""

    model_id: str
    version: str
    folder: Path
    size_bytes: int
    last_use_ns: int

    @property
    def removed(self) -> bool:
        """Whether it is only there until its last user is done."""
        return self.last_use_ns == REMOVED_NS


def stored_versions(root: Path) -> list[StoredVersion]:
    """Every committed version, longest unused first."""
    found = []
    for folder in version_folders(root):
        used_ns = last_use_ns(folder)
        if used_ns is not None:
            found.append(StoredVersion(folder.parent.name, folder.name, folder, size_bytes(folder), used_ns))
    return sorted(found, key=lambda stored: stored.last_use_ns)


def version_folders(root: Path) -> list[Path]:
    """Every folder in the place of a version, whole or not."""
    return [folder for model in entries(root / "models") for folder in entries(model)]


def entries(folder: Path) -> list[Path]:
    """What is in the folder; nothing, when another process is just removing it."""
    try:
        with os.scandir(folder) as found:
            return [Path(entry.path) for entry in found]
    except (FileNotFoundError, NotADirectoryError):
        return []


def reserved_bytes(root: Path) -> int:
    """What the downloads in progress may grow to.

    The number is part of the folder's name, so it exists with the folder from its first moment to its last.
    """
    total = 0
    for folder in entries(root / "downloads"):
        number = folder.name.rpartition("-")[2]
        total += int(number) if number.isascii() and number.isdecimal() else size_bytes(folder)
    return total


def used_bytes(root: Path) -> int:
    """All bytes on the disk that count, and those reserved for downloads."""
    return sum(size_bytes(root / name) for name in ("models", "quarantine", "trash")) + reserved_bytes(root)


def download_folder(root: Path, need_bytes: int) -> Path:
    """A new name for a download that reserves ``need_bytes``."""
    return root / "downloads" / f"{secrets.token_hex(8)}-{need_bytes}"


def quarantine_folder(root: Path, version_folder: Path) -> Path:
    """A new name for a damaged version."""
    name = f"{version_folder.parent.name}@{version_folder.name}@{secrets.token_hex(4)}"
    return root / "quarantine" / name


def last_use_ns(folder: Path) -> int | None:
    """Time of a version's last use in nanoseconds since 1970; None for what is no version."""
    try:
        return (folder / LEASE).stat().st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return None


def size_bytes(folder: Path) -> int:
    """Sum of the sizes of all files below ``folder``; 0 when it is gone."""
    total = 0
    for path in entries(folder):
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        total += size_bytes(path) if stat.S_ISDIR(status.st_mode) else status.st_size
    return total


def lock_unused(folder: Path) -> FileLock | None:
    """The exclusive lock of a version or download that nobody holds, or None."""
    try:
        return FileLock.try_hold(folder / LEASE, create=False)
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_abandoned(folder: Path) -> bool:
    """Whether a version or download has no living holder, or never got as far as to have one."""
    if last_use_ns(folder) is None:
        return True
    lock = lock_unused(folder)
    if lock is not None:
        lock.release()
    return lock is not None


def sweep_locks(root: Path) -> None:
    """Remove lock files that killed processes left."""
    for path in entries(root / "locks"):
        if path.name != DISK_LOCK and (lock := FileLock.try_hold(path)) is not None:
            lock.release_and_remove()


def discard(root: Path, folder: Path) -> None:
    """Remove a folder below ``root``; it disappears at once and its bytes are free at the end."""
    # Renamed first: whoever looks at the old name finds all of it or nothing, also when this is killed.
    trash = root / "trash" / secrets.token_hex(8)
    folder.rename(trash)
    remove_tree(trash)
    with suppress(OSError):  # other versions of the model are there
        if folder.parent.parent == root / "models":
            folder.parent.rmdir()


def remove_tree(path: Path) -> None:
    """Remove a file or folder, also while another process removes it. Raises: OSError when it stays."""
    for _ in range(3):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
        if not path.exists():
            return
    raise OSError(errno.EIO, "cannot be removed", str(path))
