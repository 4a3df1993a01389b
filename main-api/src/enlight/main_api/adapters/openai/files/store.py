"""A tenant's uploaded files: checked before they are kept, and gone when their time is over.

Objects first, records last, and removed the other way round, as with kept pictures: so a record always has its object.

::

    <file_id>/file
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from hashlib import file_digest
from pathlib import Path
from typing import BinaryIO, cast

from enlight.jobkit.database import now_as_kept
from enlight.main_api.adapters.openai.files.archive import ArchiveLimits, check_photos, photos_of
from enlight.main_api.adapters.openai.files.records import UploadedFile, UploadedFileRecords, new_file_id
from enlight.servicekit.errors import Conflict, QuotaExceeded, ServiceError, StorageUnavailable
from enlight.servicekit.object_store import CHUNK_BYTES, ObjectStore, remove_folder, untouched_folders

_log = logging.getLogger(__name__)

UNTOUCHED_S = 3600.0
"""Longer than a request is between a file and its record."""


class UploadedFiles:
    """Keeps uploaded files, and opens them again.

    Args:
        records: What is known of them.
        store: Their bucket.
        limits: Of the photos in one.
        max_bytes: That one tenant may have.
    """

    def __init__(
        self, records: UploadedFileRecords, store: ObjectStore, *, limits: ArchiveLimits, max_bytes: int
    ) -> None:
        self.records = records
        self._store = store
        self._limits = limits
        self._max_bytes = max_bytes

    def keep(self, tenant: str, upload: BinaryIO, filename: str, *, kept_s: int) -> UploadedFile:
        """Keeps a ZIP of photos and gives its record.

        Raises:
            QuotaExceeded: the tenant has as many bytes as it may have.
            InvalidField, UnsupportedImage, BrokenImage, ImageTooLarge: see `check_photos`.
            StorageUnavailable, DatabaseUnavailable: it is not kept.
        """
        with _named(upload) as path, path.open("rb") as file:
            size_bytes = path.stat().st_size
            self._check_room(tenant, size_bytes)
            photos = check_photos(file, self._limits)
            file.seek(0)
            created_at = now_as_kept()
            kept = UploadedFile(
                id=new_file_id(),
                tenant=tenant,
                filename=filename,
                size_bytes=size_bytes,
                sha256=file_digest(file, "sha256").hexdigest(),
                photos=photos.count,
                photos_bytes=photos.size_bytes,
                created_at=created_at,
                expires_at=created_at + timedelta(seconds=kept_s),
            )
            try:
                with suppress(Conflict):  # a try of this call whose answer got lost
                    self._store.put_file(_key(kept.id), path, if_absent=True)
                self.records.add(kept)
            except ServiceError:
                self._try_to_remove_object(kept.id)
                raise
        return kept

    def read(self, kept: UploadedFile) -> bytes:
        """The file as it came. Raises: NotFound when it was removed meanwhile; StorageUnavailable."""
        with self._opened(kept) as file:
            return file.read()

    def photos(self, kept: UploadedFile) -> list[bytes]:
        """The files of the photos in it. Raises: as `read`."""
        with self._opened(kept) as file:
            return [photo for _, photo in photos_of(file, self._limits)]

    def remove(self, tenant: str, file_id: str) -> None:
        """Removes a file. Trainings that were begun with it go on: they have its photos. Raises: NotFound."""
        self.records.remove(tenant, file_id)
        self._try_to_remove_object(file_id)

    def sweep(self, *, untouched_s: float = UNTOUCHED_S) -> None:
        """Removes what has expired, and objects without a record.

        Raises:
            DatabaseUnavailable: nothing is removed on a guess.
            StorageUnavailable: the rest comes with the next call.
        """
        if expired := self.records.remove_expired():
            _log.info("%d uploaded files have expired", expired)
        for file_id in list(untouched_folders(self._store, untouched_s)):
            if not self.records.exists(file_id):
                remove_folder(self._store, file_id)

    def _check_room(self, tenant: str, more_bytes: int) -> None:
        if self.records.total_bytes(tenant) + more_bytes > self._max_bytes:
            raise QuotaExceeded(
                f"{self._max_bytes} bytes of files may be kept; delete some first.",
                details={"limit_bytes": self._max_bytes},
            )

    @contextmanager
    def _opened(self, kept: UploadedFile) -> Iterator[BinaryIO]:
        """The object on the local disk, compared with its record."""
        with tempfile.TemporaryFile(prefix="enlight-file-") as file:
            self._store.download(_key(kept.id), file.write)
            file.seek(0)
            if file_digest(file, "sha256").hexdigest() != kept.sha256:
                raise StorageUnavailable("The file in the bucket is not the one that was uploaded.")
            file.seek(0)
            yield cast(BinaryIO, file)

    def _try_to_remove_object(self, file_id: str) -> None:
        try:
            remove_folder(self._store, file_id)
        except ServiceError as error:
            _log.warning("the object of file %s is left to the sweep: %s", file_id, error.message)


@contextmanager
def _named(upload: BinaryIO) -> Iterator[Path]:
    """The upload as a file with a name, which a bucket takes."""
    with tempfile.NamedTemporaryFile(prefix="enlight-file-") as file:
        while chunk := upload.read(CHUNK_BYTES):
            file.write(chunk)
        file.flush()
        yield Path(file.name)


def _key(file_id: str) -> str:
    return f"{file_id}/file"
