"""Models on this machine's disk: brought from the bucket once, checked, and kept while there is room.

What holds, for any number of processes and containers that share the folder:

- Only whole, checked versions are given out: every byte is hashed as it arrives, again at the first use in
  each process, and again whenever a file's size, times or inode changed. What is found damaged is moved
  aside and fetched once more.
- The folder stays within its quota at every moment, downloads in progress included.
- What is leased is not evicted, and a killed process's leases end with it.
- A version is downloaded once, whoever asks; when the process that downloads is killed, the next one takes
  over.
- With the bucket away, cached models are served as they were.

``cache_layout`` says how the folder looks, ``cache_disk`` keeps quota and uses, ``verified_copies`` checks,
``current_versions`` knows which version is meant, ``file_locks`` says what all of this relies on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from enlight.dreambooth_api.alias_records import AliasRecords
from enlight.dreambooth_api.cache_disk import CacheDisk, Pin
from enlight.dreambooth_api.cache_layout import FILES, MANIFEST
from enlight.dreambooth_api.current_versions import CurrentVersions
from enlight.dreambooth_api.file_locks import FileLock, excludes
from enlight.dreambooth_api.manifest import Manifest, check_model_id, check_version
from enlight.dreambooth_api.model_store import ModelStore
from enlight.dreambooth_api.verified_copies import VerifiedCopies
from enlight.servicekit.errors import (
    CorruptModel,
    InvalidField,
    NotFound,
    StorageFull,
    StorageUnavailable,
)

__all__ = ["CacheStats", "CachedModel", "ModelCache"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedModel:
    """A version of a model in a folder, to be read while its lease lasts."""

    manifest: Manifest
    folder: Path
    """Holds the manifest's files under their paths; nothing may be written there."""
    source: Literal["disk", "bucket"]
    """Where it was when it was asked for."""


@dataclass(frozen=True)
class CacheStats:
    """Figures for metrics. The counts are those of this process, the rest is the folder's."""

    used_bytes: int
    """Including what downloads in progress reserved."""
    quota_bytes: int
    versions: int
    hits: int
    misses: int
    evictions: int
    quarantined: int


class ModelCache:
    """The cached models in one folder. Safe to use from several threads and processes at once.

    ``alias_ttl_s``: how long the version that ``current`` names is believed without asking the bucket.
    ``fetch_timeout_s``: limit of one ``lease``, waiting for other processes included.
    ``room_wait_s``: how long a model waits while all the others are in use and leave no room.
    ``clock`` gives seconds since 1970.

    A folder that cannot be written to (full, read-only) does not keep the cache from starting: what is in
    it is served, and what is not ends in StorageFull.

    Raises: InvalidField naming ``model_cache_folder`` when locks do not work on its filesystem.
    """

    disk_type: ClassVar[type[CacheDisk]] = CacheDisk
    copies_type: ClassVar[type[VerifiedCopies]] = VerifiedCopies

    def __init__(
        self,
        folder: Path,
        store: ModelStore,
        *,
        quota_bytes: int,
        alias_ttl_s: float,
        fetch_timeout_s: float,
        room_wait_s: float = 10.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._fetch_timeout_s = fetch_timeout_s
        self._damaged_ttl_s = alias_ttl_s
        self._locks = folder / "locks"
        self._disk = self.disk_type(folder, quota_bytes=quota_bytes, clock=clock, room_wait_s=room_wait_s)
        self._copies = self.copies_type()
        records = AliasRecords(folder / "aliases", clock=clock)
        self._current = CurrentVersions(store, self._disk, records, ttl_s=alias_ttl_s, locks=self._locks)
        self._guard = threading.Lock()
        self._counts = {"hits": 0, "misses": 0, "quarantined": 0}
        self._damaged_until: dict[tuple[str, str], float] = {}
        self._records = records
        self._prepare(folder)

    def _prepare(self, folder: Path) -> None:
        try:
            self._disk.prepare()
            self._records.sweep()
            locks_work = excludes(self._locks)
        except OSError as error:
            _logger.warning("The model cache's folder cannot be written to: %s.", error)
            return
        if not locks_work:
            raise InvalidField.of("model_cache_folder", f"{folder} is on a filesystem whose locks do not exclude")

    @contextmanager
    def lease(self, model_id: str, *, version: str | None = None) -> Iterator[CachedModel]:
        """The model's current version (or the one named) on the disk; it stays there until the block ends.

        Raises: InvalidField for a name that is none; NotFound; CorruptModel when the bucket's copy is
        damaged; StorageUnavailable when it is not cached and the bucket is away or slow; StorageFull when
        it is not cached and there is no room.
        """
        check_model_id(model_id)
        if version is not None:
            check_version(version)
        deadline = time.monotonic() + self._fetch_timeout_s
        try:
            try:
                cached, pin = self._acquire(model_id, version, deadline)
            except FileNotFoundError:  # the folder was emptied, or its volume is there only now
                self._prepare(self._disk.root)
                cached, pin = self._acquire(model_id, version, deadline)
        except TimeoutError as error:
            raise _too_slow(model_id) from error
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise StorageFull(f"The model cache's folder cannot be used: {reason}.") from error
        try:
            yield cached
        finally:
            self._disk.release(pin)

    def remove(self, model_id: str) -> int:
        """Remove the model from this machine, what is in use with its last user; gives how many versions are.

        Raises: StorageUnavailable when the folder cannot be used.
        """
        check_model_id(model_id)
        self._current.forget(model_id)
        try:
            return self._disk.remove(model_id, deadline=time.monotonic() + self._fetch_timeout_s)
        except OSError as error:
            raise StorageUnavailable(f"{model_id} cannot be removed from the model cache.") from error

    def counts(self) -> Mapping[str, int]:
        """What this process did: ``evictions``, ``quarantined``, ``hits``, ``misses``. Looks at no file."""
        with self._guard:
            return {**self._counts, "evictions": self._disk.evictions}

    def stats(self) -> CacheStats:
        """How full the cache is and what it did. Looks at every cached file's size."""
        return CacheStats(
            used_bytes=self._disk.used_bytes(),
            quota_bytes=self._disk.quota_bytes,
            versions=len(self._disk.versions()),
            **self.counts(),
        )

    def _acquire(self, model_id: str, version: str | None, deadline: float) -> tuple[CachedModel, Pin]:
        if version is not None:
            return self._get(model_id, version, deadline)
        current = self._current.resolve(model_id, deadline=deadline)
        try:
            return self._get(model_id, current, deadline)
        except NotFound:
            # Removed and trained again within the time for which the alias is believed.
            self._current.forget(model_id)
            newer = self._current.resolve(model_id, deadline=deadline)
            if newer == current:
                raise
            return self._get(model_id, newer, deadline)

    def _get(self, model_id: str, version: str, deadline: float) -> tuple[CachedModel, Pin]:
        return self._open(model_id, version, deadline) or self._fetch(model_id, version, deadline)

    def _open(self, model_id: str, version: str, deadline: float) -> tuple[CachedModel, Pin] | None:
        """The version as it is on the disk, pinned and checked; None when it is not there or was damaged."""
        pin = self._disk.pin(model_id, version)
        if pin is None:
            return None
        try:
            manifest = self._copies.check(pin.folder, model_id, version)
        except CorruptModel as error:
            _logger.warning("The cached copy of %s version %s is damaged: %s", model_id, version, error)
            if self._disk.quarantine(pin, deadline=deadline):
                self._count("quarantined")
            return None
        except BaseException:
            self._disk.release(pin)
            raise
        self._disk.touch(pin)
        self._count("hits")
        return CachedModel(manifest, pin.files, "disk"), pin

    def _fetch(self, model_id: str, version: str, deadline: float) -> tuple[CachedModel, Pin]:
        with self._single_flight(model_id, version, deadline):
            found = self._open(model_id, version, deadline)
            if found is not None:
                return found  # another process was faster
            self._count("misses")
            self._refuse_known_damage(model_id, version)
            try:
                return self._bring(self._store.manifest(model_id, version), deadline)
            except CorruptModel:
                # Not fetched again at once: a damaged model that everybody asks for would be all that is
                # fetched.
                with self._guard:
                    self._damaged_until[model_id, version] = time.monotonic() + self._damaged_ttl_s
                raise

    def _refuse_known_damage(self, model_id: str, version: str) -> None:
        now = time.monotonic()
        with self._guard:
            self._damaged_until = {key: until for key, until in self._damaged_until.items() if until > now}
            if (model_id, version) not in self._damaged_until:
                return
        raise CorruptModel(
            f"The bucket's copy of model {model_id} is damaged.",
            details={"model_id": model_id, "version": version},
        )

    def _bring(self, manifest: Manifest, deadline: float) -> tuple[CachedModel, Pin]:
        try:
            return self._download(manifest, deadline)
        except TimeoutError:
            raise
        except OSError as error:
            _logger.warning("The model cache's folder failed, making room: %s.", error)
            self._disk.evict(_need_bytes(manifest), deadline=deadline)
            return self._download(manifest, deadline)

    def _download(self, manifest: Manifest, deadline: float) -> tuple[CachedModel, Pin]:
        model_id, version = manifest.model_id, manifest.version

        def check_time(size_bytes: int) -> None:
            if time.monotonic() > deadline:
                raise _too_slow(model_id)

        with self._disk.reserve(model_id, version, _need_bytes(manifest), deadline=deadline) as reservation:
            (reservation.folder / MANIFEST).write_bytes(manifest.to_json())
            self._store.download(manifest, reservation.folder / FILES, on_bytes=check_time)
            pin = self._disk.commit(reservation, deadline=deadline)
        try:
            self._copies.trust(pin.folder, manifest)
        except BaseException:
            self._disk.release(pin)
            raise
        return CachedModel(manifest, pin.files, "bucket"), pin

    @contextmanager
    def _single_flight(self, model_id: str, version: str, deadline: float) -> Iterator[None]:
        lock = FileLock.hold(self._locks / f"{model_id}@{version}.fetch.lock", deadline=deadline)
        try:
            yield
        finally:
            lock.release_and_remove()

    def _count(self, name: str) -> None:
        with self._guard:
            self._counts[name] += 1


def _need_bytes(manifest: Manifest) -> int:
    return manifest.size_bytes + len(manifest.to_json())


def _too_slow(model_id: str) -> StorageUnavailable:
    return StorageUnavailable(f"Model {model_id} did not arrive in time (setting model_fetch_timeout_s).")
