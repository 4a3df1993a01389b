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
"""Longer than the steps of a filesystem's clock: a file may change twice within one and show one time."""

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
                looked_ns = time.time_ns()
                fingerprint = _fingerprint(folder)
                known = self._known.get(folder)
                if known is not None and known[0] == fingerprint:
                    return known[1]
                manifest = self._verify(folder, model_id, version)
            except OSError as error:
                if error.errno in _DAMAGE:
                    raise CorruptModel(f"A file cannot be read: {error.strerror}.") from error
                raise
            self._remember(folder, fingerprint, looked_ns, manifest)
            return manifest

    def trust(self, folder: Path, manifest: Manifest) -> None:
        """Note a version whose bytes were hashed while they were written. Raises: OSError."""
        looked_ns = time.time_ns()
        self._remember(folder, _fingerprint(folder), looked_ns, manifest)

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

    def _remember(self, folder: Path, fingerprint: Fingerprint, looked_ns: int, manifest: Manifest) -> None:
        newest_ns = max((max(modified_ns, changed_ns) for _, _, modified_ns, changed_ns, _ in fingerprint), default=0)
        if newest_ns + _TICK_NS > looked_ns:
            return  # a change right now would leave the same times: hashed again next time
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
