"""Naive variants of store and cache, each without one guard. A test that passes for one of them tests nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from enlight.dreambooth_api import cache_layout
from enlight.dreambooth_api.cache_disk import CacheDisk, Reservation
from enlight.dreambooth_api.cache_layout import StoredVersion
from enlight.dreambooth_api.file_locks import FileLock
from enlight.dreambooth_api.manifest import FileEntry, Manifest
from enlight.dreambooth_api.model_cache import ModelCache
from enlight.dreambooth_api.model_store import ModelStore
from enlight.dreambooth_api.verified_copies import VerifiedCopies, read_manifest


class ManifestFirstStore(ModelStore):
    """Says that a version exists before its files do."""

    def _upload_files(self, manifest: Manifest, folder: Path) -> None:
        self._commit(manifest)
        super()._upload_files(manifest, folder)


class TrustingStore(ModelStore):
    """Believes whatever bytes arrive."""

    def _matches(self, entry: FileEntry, size_bytes: int, sha256: str) -> bool:
        return True


class _TrustingCopies(VerifiedCopies):
    def _verify(self, folder: Path, model_id: str, version: str) -> Manifest:
        return read_manifest(folder, model_id, version)


class TrustingCache(ModelCache):
    """Believes whatever bytes are on the disk."""

    copies_type = _TrustingCopies


class _InPlaceDisk(CacheDisk):
    def _new_folder(self, final: Path, need_bytes: int) -> Path:
        final.mkdir(parents=True, exist_ok=True)
        return final

    def _place(self, reservation: Reservation) -> None:
        """It is there already."""


class InPlaceCache(ModelCache):
    """Downloads into the folder that others read."""

    disk_type = _InPlaceDisk


class _IgnoredLock(FileLock):
    def __init__(self) -> None:
        super().__init__(Path(), -1)

    def release(self) -> None:
        """Nothing was held."""


class _PinBlindDisk(CacheDisk):
    def _lock_unused(self, stored: StoredVersion) -> FileLock | None:
        return _IgnoredLock()


class PinBlindCache(ModelCache):
    """Evicts what was used longest ago, whoever uses it."""

    disk_type = _PinBlindDisk


class _UnreservedDisk(CacheDisk):
    def used_bytes(self) -> int:
        return super().used_bytes() - cache_layout.reserved_bytes(self.root)


class UnreservedCache(ModelCache):
    """Counts only what is there, not what downloads will bring."""

    disk_type = _UnreservedDisk


class EveryoneFetchesCache(ModelCache):
    """Downloads without asking whether somebody else does."""

    @contextmanager
    def _single_flight(self, model_id: str, version: str, deadline: float) -> Iterator[None]:
        yield


MUTANT_STORES: dict[str, type[ModelStore]] = {"manifest first": ManifestFirstStore, "trusts the bucket": TrustingStore}
MUTANT_CACHES: dict[str, type[ModelCache]] = {
    "trusts the disk": TrustingCache,
    "downloads in place": InPlaceCache,
    "ignores pins": PinBlindCache,
    "reserves nothing": UnreservedCache,
    "everyone fetches": EveryoneFetchesCache,
}
MUTANTS = (*MUTANT_STORES, *MUTANT_CACHES)
