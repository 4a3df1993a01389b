"""Models in the bucket: what is published is whole, stays as it is, and is checked byte by byte when read.

The order carries the guarantee. ``publish`` writes files first, then
the manifest under the condition that there is none, then ``current`` under the condition that nobody
changed it meanwhile. Whoever is killed on the way leaves files without a manifest, which nobody lists and
``sweep_orphans`` removes. ``delete`` goes the other way.

``bucket_layout`` draws where everything lies, ``model_removal`` takes it away again.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from enlight.dreambooth_api.bucket_layout import TOMBSTONE, VersionName, committed_version, current_key, manifest_key
from enlight.dreambooth_api.manifest import (
    MANIFEST_BYTES,
    FileEntry,
    Manifest,
    ModelDescription,
    check_model_id,
    check_version,
    describe_files,
    text_to_time,
    time_to_text,
)
from enlight.dreambooth_api.model_removal import delete_model, delete_version, sweep
from enlight.dreambooth_api.sealed_json import seal, unseal
from enlight.servicekit.atomic_files import sync_folder
from enlight.servicekit.errors import Conflict, CorruptModel, InvalidField, NotFound, StorageUnavailable
from enlight.servicekit.object_store import ObjectStore

__all__ = ["FileEntry", "Manifest", "ModelDescription", "ModelStore", "check_model_id"]

_CURRENT_BYTES = 4096
_CURRENT_KEYS = {"model_id", "version", "created_at"}
_ATTEMPTS = 30

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Current:
    version: str
    created_at: datetime


class ModelStore:
    """The models in one bucket. Safe to use from several threads, processes and machines at once.

    Every method raises StorageUnavailable when the bucket cannot be reached in time, and InvalidField for a
    name that is none. ``clock`` gives seconds since 1970.
    """

    def __init__(self, objects: ObjectStore, *, clock: Callable[[], float] = time.time) -> None:
        self._objects = objects
        self._clock = clock

    def new_version(self) -> str:
        """A name for a version: sorts by time, and no two are the same."""
        moment = datetime.fromtimestamp(self._clock(), UTC)
        return f"{moment:%Y%m%dT%H%M%S%f}-{secrets.token_hex(4)}"

    def publish(
        self,
        model_id: str,
        folder: Path,
        description: ModelDescription,
        *,
        version: str | None = None,
        move_alias: bool = True,
    ) -> Manifest:
        """Store every file below ``folder`` as a version of the model; with ``move_alias`` it becomes the current one.

        Publishing the same content under the same version again is no error and changes nothing, so that a job may
        repeat it after a crash (the first one's ``parameters`` stay). ``current`` goes to the version that was
        created last, whoever writes last.

        Raises: Conflict when the version exists with other content or is being removed; InvalidField for a
        description or file names that could not be read again.
        """
        check_model_id(model_id)
        version = check_version(version or self.new_version())
        draft = Manifest.describe(model_id, version, description, describe_files(folder), self._next_time(model_id))
        self._upload_files(draft, folder)
        manifest = self._commit(draft)
        # A sweep of orphans may have removed the files of an attempt long ago that this one reused.
        self._upload_files(manifest, folder)
        if move_alias:
            self._point_current(manifest)
        return manifest

    def make_current(self, model_id: str, version: str) -> Manifest:
        """Make a published version the current one, unless one that was created later is; may be repeated.

        Raises: NotFound when there is no such version; CorruptModel when its manifest is damaged.
        """
        manifest = self.manifest(model_id, version)
        self._point_current(manifest)
        return manifest

    def current_version(self, model_id: str) -> str:
        """The version to use. Raises: NotFound; CorruptModel when no version of the model can be read."""
        try:
            current, _ = self._read_current(model_id)
        except CorruptModel:
            newest = self._newest(model_id)
            if newest is None:
                raise
            _logger.warning("%s/current is damaged; its newest version is used.", model_id)
            return newest.version
        if current is None:
            raise NotFound(f"There is no model {model_id}.")
        return current.version

    def manifest(self, model_id: str, version: str) -> Manifest:
        """What the version is. Raises: NotFound; CorruptModel."""
        manifest, _ = self._read_manifest(model_id, version)
        if manifest is None:
            raise NotFound(f"Model {model_id} has no version {version}.")
        return manifest

    def versions(self, model_id: str) -> list[str]:
        """Every version of the model, in order of names; none for an unknown model."""
        check_model_id(model_id)
        return sorted(version for _, version in self._committed(f"{model_id}/"))

    def model_ids(self) -> list[str]:
        """Every model that has a version. Lists the whole bucket: a page of 1,000 objects is one call."""
        return sorted({model_id for model_id, _ in self._committed("")})

    def delete(self, model_id: str) -> None:
        """Remove the model with all of its versions; a call that was killed is finished by the next one.

        Raises: NotFound when nothing of it is there.
        """
        delete_model(self._objects, model_id)

    def delete_version(self, model_id: str, version: str) -> None:
        """Remove a version that is not the current one; a missing one is no error.

        Raises: Conflict when it is the current one.
        """
        with suppress(NotFound):
            if self.current_version(model_id) == version:
                raise Conflict(f"Version {version} is the current one of model {model_id}.")
        delete_version(self._objects, model_id, version)

    def download(self, manifest: Manifest, folder: Path, *, on_bytes: Callable[[int], object] | None = None) -> None:
        """Write the version's files below ``folder`` (which exists), synced to the disk, checking every byte.

        ``on_bytes`` is told the size of each piece that arrived; what it raises ends the download.

        Raises: CorruptModel when the bucket gives other bytes than the manifest says, twice; OSError of
        ``folder``. What is in ``folder`` then is not to be used.
        """
        for path, entry in manifest.files.items():
            target = folder.joinpath(*path.split("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            for last_attempt in (False, True):
                if self._download_file(manifest.object_key(path), entry, target, on_bytes):
                    break
                if last_attempt:
                    raise CorruptModel(
                        f"The bucket's copy of {path} of model {manifest.model_id} is damaged.",
                        details={"model_id": manifest.model_id, "version": manifest.version, "file": path},
                    )
                _logger.warning("%s arrived damaged and is fetched again.", manifest.object_key(path))
            sync_folder(target.parent)

    def sweep_orphans(self, older_than_s: float) -> int:
        """Remove what killed publishers left behind longer ago than this; gives the number of objects.

        Removes files without a manifest, files that no manifest names, tombstones, and a ``current``
        without any version. The age is that of the youngest object of the version, so it must exceed the
        longest upload.
        """
        return sweep(
            self._objects,
            lambda model_id, version: self._read_manifest(model_id, version)[0],
            written_before_s=self._clock() - older_than_s,
        )

    def _upload_files(self, manifest: Manifest, folder: Path) -> None:
        prefix = f"{manifest.model_id}/{manifest.version}/"
        present = {info.key: info.size_bytes for info in self._objects.list(prefix)}
        for path, entry in manifest.files.items():
            key = manifest.object_key(path)
            if present.get(key) == entry.size_bytes:
                continue
            if key in present:  # the key holds the hash, so these are not the bytes it promises
                self._objects.delete(key)
            with suppress(Conflict):  # an attempt at the same time was faster, with the same bytes
                self._objects.put_file(key, folder.joinpath(*path.split("/")), if_absent=True)

    def _commit(self, draft: Manifest) -> Manifest:
        key = manifest_key(draft.model_id, draft.version)
        generation: int | None = None
        for _ in range(_ATTEMPTS):
            try:
                self._objects.put_bytes(key, draft.to_json(), if_absent=generation is None, if_generation=generation)
                return draft
            except Conflict:
                # There is a manifest: an earlier attempt's, this one's whose answer got lost, or somebody
                # else's.
                try:
                    existing, generation = self._read_manifest(draft.model_id, draft.version)
                except CorruptModel:
                    generation = self._generation_of_damaged(key)
                    continue  # it is of no use to anybody: replaced
                if existing is not None and existing.same_content(draft):
                    return existing
                if generation is not None:
                    raise Conflict(
                        f"Version {draft.version} of model {draft.model_id} exists with other content, "
                        "or is being removed."
                    ) from None
        raise StorageUnavailable("The manifest is made and removed again and again by others.")

    def _point_current(self, manifest: Manifest) -> None:
        key = current_key(manifest.model_id)
        for _ in range(_ATTEMPTS):
            try:
                current, generation = self._read_current(manifest.model_id)
            except CorruptModel:
                manifest = self._newest(manifest.model_id) or manifest
                current = None
                generation = self._generation_of_damaged(key)
            if current and (current.created_at, current.version) >= (manifest.created_at, manifest.version):
                return
            record = {
                "model_id": manifest.model_id,
                "version": manifest.version,
                "created_at": time_to_text(manifest.created_at),
            }
            try:
                self._objects.put_bytes(key, seal(record), if_absent=generation is None, if_generation=generation)
                return
            except Conflict:
                time.sleep(random.uniform(0.0, 0.05))  # another publisher of this model was faster: look again
        raise StorageUnavailable(f"{key} is changed by others all the time.")

    def _generation_of_damaged(self, key: str) -> int | None:
        try:
            return self._objects.get_bytes(key)[1]
        except NotFound:
            return None
        except CorruptModel:  # far too large to be ours
            self._objects.delete(key)
            return None

    def _next_time(self, model_id: str) -> datetime:
        # A publisher whose clock is behind must not lose against the version that it replaces.
        now = datetime.fromtimestamp(self._clock(), UTC)
        try:
            current, _ = self._read_current(check_model_id(model_id))
            latest = current.created_at if current else None
        except CorruptModel:
            newest = self._newest(model_id)
            latest = newest.created_at if newest else None
        return now if latest is None else max(now, latest + timedelta(microseconds=1))

    def _newest(self, model_id: str) -> Manifest | None:
        found: list[Manifest] = []
        for version in self.versions(model_id):
            with suppress(NotFound, CorruptModel):
                found.append(self.manifest(model_id, version))
        return max(found, key=lambda manifest: (manifest.created_at, manifest.version), default=None)

    def _read_current(self, model_id: str) -> tuple[_Current | None, int | None]:
        what = current_key(model_id)
        try:
            data, generation = self._objects.get_bytes(what, max_bytes=_CURRENT_BYTES)
        except NotFound:
            return None, None
        record = unseal(data, what)
        try:
            if set(record) != _CURRENT_KEYS or record["model_id"] != model_id:
                raise ValueError("not the record of this model")
            version = check_version(str(record["version"]))
            return _Current(version, text_to_time(str(record["created_at"]))), generation
        except (ValueError, InvalidField) as error:
            raise CorruptModel(f"{what} cannot be used.") from error

    def _read_manifest(self, model_id: str, version: str) -> tuple[Manifest | None, int | None]:
        key = manifest_key(model_id, version)
        try:
            data, generation = self._objects.get_bytes(key, max_bytes=MANIFEST_BYTES)
        except NotFound:
            return None, None
        if data == TOMBSTONE:
            return None, generation
        return Manifest.from_json(data, model_id=model_id, version=version), generation

    def _committed(self, prefix: str) -> Iterator[VersionName]:
        for info in self._objects.list(prefix):
            name = committed_version(info)
            if name is not None:
                yield name

    def _download_file(
        self, key: str, entry: FileEntry, target: Path, on_bytes: Callable[[int], object] | None
    ) -> bool:
        digest, size_bytes = hashlib.sha256(), 0
        target.unlink(missing_ok=True)
        with target.open("xb") as file:

            def add(chunk: bytes) -> None:
                nonlocal size_bytes
                size_bytes += len(chunk)
                if size_bytes > entry.size_bytes:  # never more on the disk than was reserved for it
                    raise _TooLongError
                digest.update(chunk)
                file.write(chunk)
                if on_bytes is not None:
                    on_bytes(len(chunk))

            try:
                self._objects.download(key, add)
            except (_TooLongError, NotFound):
                return False
            file.flush()
            os.fsync(file.fileno())
        return self._matches(entry, size_bytes, digest.hexdigest())

    def _matches(self, entry: FileEntry, size_bytes: int, sha256: str) -> bool:
        return (size_bytes, sha256) == (entry.size_bytes, entry.sha256)


class _TooLongError(Exception):
    """More bytes arrived than the manifest says."""
