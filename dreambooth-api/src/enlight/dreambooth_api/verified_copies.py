"""Whether a version on the disk is what its manifest says, read once per process and then only looked at.

The first check of a version in a process hashes every byte. Later ones compare each file's size, times and
inode with what they were then; any change means hashing again. Damage that changes none of these (a bad
disk sector under a running process) is found by the next process.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

from enlight.dreambooth_api.cache_layout import FILES, LEASE, MANIFEST
from enlight.dreambooth_api.manifest import MANIFEST_BYTES, Manifest, describe_file
from enlight.servicekit.errors import CorruptModel

_DAMAGE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO)
"""Errors that speak of the files, not of this process (which may have run out of descriptors or memory)."""
_REMEMBERED = 1000
_TICK_NS = 20_000_000
"""Longer than a step of any filesystem's clock."""

Fingerprint = tuple[tuple[str, int, int, int, int], ...]


class VerifiedCopies:
    """What this process knows about the versions it has seen. Safe to use from several threads."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._known: dict[Path, tuple[Fingerprint, Manifest]] = {}
        self._checking: dict[Path, threading.Lock] = {}

    def check(self, folder: Path, model_id: str, version: str) -> Manifest:
        """The manifest of a version all of whose bytes are right. Raises: CorruptModel; OSError."""
        with self._guard:
            one_at_a_time = self._checking.setdefault(folder, threading.Lock())
        with one_at_a_time:
            try:
                fingerprint, settled = _look(folder)
                known = self._known.get(folder)
                if known is not None and known[0] == fingerprint:
                    return known[1]
                manifest = self._verify(folder, model_id, version)
            except OSError as error:
                if error.errno in _DAMAGE:
                    raise CorruptModel(f"A file cannot be read: {error.strerror}.") from error
                raise
            if settled:
                self._remember(folder, fingerprint, manifest)
            return manifest

    def trust(self, folder: Path, manifest: Manifest) -> None:
        """Note a version whose bytes were hashed while they were written. Raises: OSError."""
        fingerprint, settled = _look(folder)
        if settled:
            self._remember(folder, fingerprint, manifest)

    def _verify(self, folder: Path, model_id: str, version: str) -> Manifest:
        manifest = read_manifest(folder, model_id, version)
        files = folder / FILES
        present = {path.relative_to(files).as_posix() for path in files.rglob("*") if not path.is_dir()}
        if present != set(manifest.files):
            raise CorruptModel("Files are missing or too many.")
        for path, entry in manifest.files.items():
            if describe_file(files / path) != entry:
                raise CorruptModel(f"{path} has other bytes than the manifest says.")
        return manifest

    def _remember(self, folder: Path, fingerprint: Fingerprint, manifest: Manifest) -> None:
        with self._guard:
            self._known[folder] = (fingerprint, manifest)
            if len(self._known) > _REMEMBERED:
                for gone in [path for path in self._known if not path.exists()]:
                    del self._known[gone]
                    self._checking.pop(gone, None)


def read_manifest(folder: Path, model_id: str, version: str) -> Manifest:
    """The manifest stored beside the files. Raises: CorruptModel; OSError."""
    with (folder / MANIFEST).open("rb") as file:
        data = file.read(MANIFEST_BYTES + 1)
    return Manifest.from_json(data, model_id=model_id, version=version)


def _look(folder: Path) -> tuple[Fingerprint, bool]:
    """The fingerprint, and whether any change from now on will show in it.

    A file that changes twice within one step of the filesystem's clock shows one time, so this waits until the files
    are older than a step. A file from the future never is: then everything is hashed every time.
    """
    while True:
        looked_ns = time.time_ns()
        fingerprint = _fingerprint(folder)
        newest_ns = max((max(modified_ns, changed_ns) for _, _, modified_ns, changed_ns, _ in fingerprint), default=0)
        age_ns = looked_ns - newest_ns
        if not 0 <= age_ns < _TICK_NS:
            return fingerprint, age_ns > 0
        time.sleep((_TICK_NS - age_ns) / 1e9)


def _fingerprint(folder: Path) -> Fingerprint:
    """What changes when a file changes, without reading any: name, size, times and inode of each."""
    rows = []
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            if path == folder / LEASE:
                continue  # its time of modification is the time of the last use
            status = path.stat(follow_symlinks=False)
            rows.append((str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino))
    return tuple(sorted(rows))
