"""Which version of a model is current: what the bucket says, or said lately, or said last before it went
away.
"""

from __future__ import annotations

import logging
import time
from contextlib import suppress
from pathlib import Path

from enlight.dreambooth_api.alias_records import AliasRecords
from enlight.dreambooth_api.cache_disk import CacheDisk
from enlight.dreambooth_api.file_locks import FileLock
from enlight.dreambooth_api.manifest import Manifest
from enlight.dreambooth_api.model_store import ModelStore
from enlight.dreambooth_api.verified_copies import read_manifest
from enlight.servicekit.errors import CorruptModel, NotFound, StorageUnavailable, UpstreamTimeout

_BUCKET_AWAY_S = 5.0
"""How long a bucket that failed is not asked again about a model whose last known version is cached."""
_WAIT_S = 2.0
"""How long another process's question to the bucket is waited for, before asking as well."""

_logger = logging.getLogger(__name__)


class CurrentVersions:
    """Resolves model ids for all processes that share the cache's folder."""

    def __init__(self, store: ModelStore, disk: CacheDisk, records: AliasRecords, *, ttl_s: float, locks: Path) -> None:
        self._store = store
        self._disk = disk
        self._records = records
        self._ttl_s = ttl_s
        self._locks = locks
        self._bucket_away_until = 0.0

    def resolve(self, model_id: str, *, deadline: float) -> str:
        """The current version. Raises: NotFound; StorageUnavailable or CorruptModel when nobody knows."""
        alias = self._records.read(model_id)
        if alias is not None and alias.fresh:
            return alias.version
        lock: FileLock | None = None
        # One process asks, the others wait for what it learns; not for long, since the bucket may be hanging.
        with suppress(OSError):
            wait_until = min(deadline, time.monotonic() + _WAIT_S)
            lock = FileLock.hold(self._locks / f"{model_id}.alias.lock", deadline=wait_until)
        try:
            alias = self._records.read(model_id)
            if alias is not None and alias.fresh:
                return alias.version
            return self._ask(model_id, alias.version if alias else None)
        finally:
            if lock is not None:
                lock.release_and_remove()

    def forget(self, model_id: str) -> None:
        """Ask the bucket next time."""
        self._records.drop(model_id)

    def _ask(self, model_id: str, last_known: str | None) -> str:
        if time.monotonic() < self._bucket_away_until:
            fallback = self._last_cached(model_id, last_known)
            if fallback is not None:
                return fallback
        try:
            version = self._store.current_version(model_id)
        except NotFound:
            self._records.drop(model_id)
            with suppress(OSError):  # deleted in the bucket: nothing of it stays here
                self._disk.remove(model_id, deadline=time.monotonic() + 1.0)
            raise
        except (StorageUnavailable, UpstreamTimeout, CorruptModel) as error:
            fallback = self._last_cached(model_id, last_known)
            if fallback is None:
                raise
            _logger.warning("The bucket does not say which version of %s is current: %s", model_id, error)
            self._bucket_away_until = time.monotonic() + _BUCKET_AWAY_S
            self._records.write(model_id, fallback, valid_s=_BUCKET_AWAY_S)
            return fallback
        self._records.write(model_id, version, valid_s=self._ttl_s)
        return version

    def _last_cached(self, model_id: str, last_known: str | None) -> str | None:
        """The version to serve while the bucket is away: the last known one, if it is here.

        Where nothing is known, because the record was lost or damaged, the newest one that is here.
        """
        newest: Manifest | None = None
        for stored in self._disk.versions():
            if stored.model_id != model_id or stored.removed:
                continue
            if stored.version == last_known:
                return last_known
            with suppress(CorruptModel, OSError):
                manifest = read_manifest(stored.folder, model_id, stored.version)
                if newest is None or manifest.created_at > newest.created_at:
                    newest = manifest
        return newest.version if newest and last_known is None else None
