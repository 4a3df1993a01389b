"""Who uses which version in the cache's folder, and that all of it together stays under the quota.

Everything that changes how many bytes are reserved, or which versions may be removed, happens under one
short lock, ``locks/disk.lock``. Bytes are reserved before the first of them arrives, and room for them is
made before that, so the folder is never over its quota, not even during a download.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from enlight.dreambooth_api import cache_layout
from enlight.dreambooth_api.cache_layout import DISK_LOCK, FILES, FOLDERS, LEASE, REMOVED_NS, StoredVersion
from enlight.dreambooth_api.file_locks import POLL_S, FileLock
from enlight.servicekit.atomic_files import sync_folder, sync_tree
from enlight.servicekit.errors import StorageFull

_QUARANTINE_S = 24 * 3600.0

_logger = logging.getLogger(__name__)


class Pin:
    """A version in use: it is not evicted while this is held. The kernel lets go with the process."""

    def __init__(self, folder: Path, lock: FileLock) -> None:
        self.folder = folder
        self.lock = lock

    @property
    def files(self) -> Path:
        """The folder of the model's files."""
        return self.folder / FILES


@dataclass
class Reservation:
    """A folder that may grow to ``need_bytes``, on its way to become ``final``."""

    folder: Path
    final: Path
    need_bytes: int
    lock: FileLock
    committed: bool = False


class CacheDisk:
    """The folder of one cache, shared by any number of processes.

    Raises: OSError of the folder, from every method; TimeoutError among them where a deadline is given.
    """

    def __init__(
        self,
        root: Path,
        *,
        quota_bytes: int,
        clock: Callable[[], float] = time.time,
        room_wait_s: float = 10.0,
    ) -> None:
        self.root = root
        self.quota_bytes = quota_bytes
        self.evictions = 0
        self._clock = clock
        self._room_wait_s = room_wait_s
        self._newest_use_ns = 0

    def prepare(self) -> None:
        """Make the folders, remove what killed processes left, and fit into the quota."""
        for name in FOLDERS:
            (self.root / name).mkdir(parents=True, exist_ok=True)
        with self._locked(time.monotonic() + self._room_wait_s):
            self._sweep()
            cache_layout.sweep_locks(self.root)
            self._make_room(0)
        self._newest_use_ns = max((stored.last_use_ns for stored in self.versions()), default=0)

    def pin(self, model_id: str, version: str) -> Pin | None:
        """Use a version, if it is there; None also while it is just being evicted."""
        folder = self._version_folder(model_id, version)
        try:
            lock = FileLock.try_hold(folder / LEASE, shared=True, create=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return None if lock is None else Pin(folder, lock)

    def touch(self, pin: Pin) -> None:
        """Note a use. The order holds within a process also when the clock steps back."""
        self._newest_use_ns = max(self._newest_use_ns + 1, int(self._clock() * 1e9))
        with suppress(OSError):  # a read-only volume, or another user's file: the order suffers, nothing else
            os.utime(pin.folder / LEASE, ns=(self._newest_use_ns, self._newest_use_ns))

    def release(self, pin: Pin) -> None:
        """End a use; a version that ``remove`` met in use goes with its last user."""
        removed = cache_layout.last_use_ns(pin.folder) == REMOVED_NS
        if not removed:
            self.touch(pin)  # a use counts until its end
        pin.lock.release()
        if removed:
            with suppress(OSError), self._locked(time.monotonic() + 1.0):
                self._sweep()

    @contextmanager
    def reserve(self, model_id: str, version: str, need_bytes: int, *, deadline: float) -> Iterator[Reservation]:
        """A new folder that may grow to ``need_bytes``; removed at the end unless ``commit`` took it.

        Room is made by removing what was found damaged, then the versions that were used longest ago and
        are not in use. While those in use leave no room, this waits a moment for them.

        Raises: StorageFull.
        """
        if need_bytes > self.quota_bytes:
            sizes = {"size_bytes": need_bytes, "quota_bytes": self.quota_bytes}
            raise StorageFull(
                f"The model has {need_bytes} bytes, the setting model_cache_quota_bytes allows "
                f"{self.quota_bytes} for all models together.",
                details={"setting": "model_cache_quota_bytes", **sizes},
            )
        reservation = self._begin(model_id, version, need_bytes, deadline)
        try:
            yield reservation
        finally:
            if not reservation.committed:
                shutil.rmtree(reservation.folder, ignore_errors=True)
                reservation.lock.release()

    def commit(self, reservation: Reservation, *, deadline: float) -> Pin:
        """Make the reserved folder, complete by now, its version's, and use it."""
        sync_tree(reservation.folder)
        final = reservation.final
        with self._locked(deadline):
            # Under the lock: whoever counts bytes sees the folder in one place or the other, and nobody
            # evicts it before it is pinned.
            final.parent.mkdir(exist_ok=True)
            self._place(reservation)
            reservation.committed = True
            reservation.lock.moved(final / LEASE)
            reservation.lock.share()
            pin = Pin(final, reservation.lock)
            self.touch(pin)
        sync_folder(final.parent)
        sync_folder(final.parent.parent)
        return pin

    def quarantine(self, pin: Pin, *, deadline: float) -> bool:
        """Move a damaged version aside; False when that is done already. The pin is released in any case."""
        with pin.lock, self._locked(deadline):
            if not pin.lock.is_file_of(pin.folder / LEASE):
                return False  # another process was faster, and a good copy may be there by now
            aside = cache_layout.quarantine_folder(self.root, pin.folder)
            pin.folder.rename(aside)
            now_s = self._clock()
            os.utime(aside, (now_s, now_s))  # its age counts from here
            return True

    def remove(self, model_id: str, *, deadline: float) -> int:
        """Remove every version of a model, those in use with their last user; gives how many are in use."""
        in_use = 0
        with self._locked(deadline):
            for stored in [stored for stored in self.versions() if stored.model_id == model_id]:
                lock = self._lock_unused(stored)
                if lock is None:
                    in_use += 1
                    os.utime(stored.folder / LEASE, ns=(REMOVED_NS, REMOVED_NS))
                    continue
                with lock:
                    cache_layout.discard(self.root, stored.folder)
        return in_use

    def evict(self, bytes_to_free: int, *, deadline: float) -> int:
        """Remove versions that are not in use, longest unused first, until enough is freed; gives the
        bytes.
        """
        with self._locked(deadline):
            self._sweep()
            return self._evict(bytes_to_free)

    def versions(self) -> list[StoredVersion]:
        """Every committed version, longest unused first."""
        return cache_layout.stored_versions(self.root)

    def used_bytes(self) -> int:
        """All bytes on the disk that count, and those reserved for downloads."""
        return cache_layout.used_bytes(self.root)

    def _locked(self, deadline: float) -> FileLock:
        return FileLock.hold(self.root / "locks" / DISK_LOCK, deadline=deadline)

    def _version_folder(self, model_id: str, version: str) -> Path:
        return self.root / "models" / model_id / version

    def _begin(self, model_id: str, version: str, need_bytes: int, deadline: float) -> Reservation:
        wait_until = min(deadline, time.monotonic() + self._room_wait_s)
        final = self._version_folder(model_id, version)
        while True:
            with self._locked(deadline):
                self._sweep()
                if self._make_room(need_bytes):
                    folder = self._new_folder(final, need_bytes)
                    lock = FileLock.try_hold(folder / LEASE)
                    assert lock is not None
                    (folder / FILES).mkdir()
                    return Reservation(folder, final, need_bytes, lock)
            if time.monotonic() >= wait_until:
                raise StorageFull("Every model in the local cache is in use, which leaves no room for another.")
            time.sleep(POLL_S)

    def _new_folder(self, final: Path, need_bytes: int) -> Path:
        folder = cache_layout.download_folder(self.root, need_bytes)
        folder.mkdir()
        return folder

    def _place(self, reservation: Reservation) -> None:
        with suppress(FileNotFoundError):  # there is none, unless locks do not hold
            cache_layout.discard(self.root, reservation.final)
        reservation.folder.rename(reservation.final)

    def _make_room(self, need_bytes: int) -> bool:
        excess = self.used_bytes() + need_bytes - self.quota_bytes
        if excess <= 0:
            return True
        evictable = cache_layout.size_bytes(self.root / "quarantine")
        for stored in self.versions():
            if evictable >= excess:
                break
            lock = self._lock_unused(stored)
            if lock is not None:
                lock.release()
                evictable += stored.size_bytes
        # Nothing is thrown away when that would not be enough.
        return evictable >= excess and self._evict(excess) >= excess

    def _evict(self, bytes_to_free: int) -> int:
        freed = 0
        for folder in cache_layout.entries(self.root / "quarantine"):
            freed += cache_layout.size_bytes(folder)
            cache_layout.discard(self.root, folder)
        for stored in self.versions():
            if freed >= bytes_to_free:
                break
            lock = self._lock_unused(stored)
            if lock is not None:
                with lock:
                    cache_layout.discard(self.root, stored.folder)
                freed += stored.size_bytes
                self.evictions += 1
                _logger.info("Evicted %s version %s.", stored.model_id, stored.version)
        return freed

    def _lock_unused(self, stored: StoredVersion) -> FileLock | None:
        return cache_layout.lock_unused(stored.folder)

    def _sweep(self) -> None:
        """Remove what nobody can use. Under the lock: whatever has no living holder then has a dead one."""
        for folder in cache_layout.entries(self.root / "trash"):
            cache_layout.remove_tree(folder)
        for folder in cache_layout.entries(self.root / "downloads"):
            if cache_layout.is_abandoned(folder):
                cache_layout.discard(self.root, folder)
        for folder in cache_layout.version_folders(self.root):
            last_use_ns = cache_layout.last_use_ns(folder)
            if last_use_ns is None or (last_use_ns == REMOVED_NS and cache_layout.is_abandoned(folder)):
                cache_layout.discard(self.root, folder)
        for folder in cache_layout.entries(self.root / "quarantine"):
            with suppress(FileNotFoundError):
                if self._clock() - folder.stat().st_mtime > _QUARANTINE_S:
                    cache_layout.discard(self.root, folder)
