"""A tenant's pictures: kept whole or not at all, and removed with everything that belongs to them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from enlight.jobkit.database import now_as_kept
from enlight.main_api.gallery.files import PictureFiles
from enlight.main_api.gallery.records import KeptPicture, PictureKind, PictureRecords, new_picture_id
from enlight.main_api.gallery.thumbnails import size_px_of, thumbnail_of
from enlight.servicekit.errors import QuotaExceeded, ServiceError

_log = logging.getLogger(__name__)

UNTOUCHED_S = 7 * 24 * 3600.0
"""Far longer than a request is between a picture's files and its record: whoever restored an older database has a week
to notice that it does not know the newest pictures."""


@dataclass(frozen=True)
class NewPicture:
    """A picture that was just made."""

    kind: PictureKind
    data: bytes
    content_type: str
    parameters: Mapping[str, Any]
    model: str | None = None
    source: KeptPicture | None = None


class Gallery:
    """Keeps pictures: files first, record last; removes them the other way round.

    So a record always has its files. What a crash leaves between the two is removed by `sweep`.

    Args:
        records: What is known of them.
        files: Their bytes.
        max_pictures: That one tenant may have.
        kept: Is told the kind of each picture that is kept.
    """

    def __init__(
        self,
        records: PictureRecords,
        files: PictureFiles,
        *,
        max_pictures: int,
        kept: Callable[[PictureKind], object] = lambda kind: None,
    ) -> None:
        self.records = records
        self.files = files
        self._max_pictures = max_pictures
        self._kept = kept

    def check_room(self, tenant: str, more: int) -> None:
        """Raises: QuotaExceeded when the tenant may not keep ``more`` pictures."""
        if self.records.count(tenant, up_to=self._max_pictures) + more > self._max_pictures:
            raise QuotaExceeded(
                f"{self._max_pictures} pictures may be kept; remove some first.", details={"limit": self._max_pictures}
            )

    def keep(self, tenant: str, made: NewPicture) -> KeptPicture:
        """Keeps a picture and gives its record.

        Raises:
            UpstreamFailed: it is no picture.
            StorageUnavailable, DatabaseUnavailable: it is not kept.
        """
        width_px, height_px = size_px_of(made.data)
        picture = KeptPicture(
            id=new_picture_id(),
            tenant=tenant,
            kind=made.kind,
            model=made.model,
            source_id=made.source.id if made.source else None,
            parameters=made.parameters,
            width_px=width_px,
            height_px=height_px,
            content_type=made.content_type,
            size_bytes=len(made.data),
            sha256=sha256(made.data).hexdigest(),
            created_at=now_as_kept(),
        )
        try:
            self.files.put(picture.id, made.data, self._thumbnail(made))
            self.records.add(picture)
        except ServiceError:
            self._try_to_remove_files(picture.id)
            raise
        self._kept(picture.kind)
        return picture

    def remove(self, tenant: str, picture_id: str) -> None:
        """Removes a picture; those that were made of it stay. Raises: NotFound."""
        self.records.remove(tenant, picture_id)
        self._try_to_remove_files(picture_id)

    def sweep(self, *, untouched_s: float = UNTOUCHED_S) -> None:
        """Removes files without a record.

        Raises:
            DatabaseUnavailable: nothing is removed on a guess.
            StorageUnavailable: the rest comes with the next call.
        """
        for picture_id in list(self.files.untouched(untouched_s)):
            if not self.records.exists(picture_id):
                self.files.remove(picture_id)
                _log.info("removed the files of picture %s, which nobody has", picture_id)

    def _thumbnail(self, made: NewPicture) -> bytes:
        # An enlarged picture looks like its source, and has up to 67 megapixels that need not be decoded for it.
        if made.kind == "upscale" and made.source is not None:
            return self.files.read_thumbnail(made.source)
        return thumbnail_of(made.data)

    def _try_to_remove_files(self, picture_id: str) -> None:
        try:
            self.files.remove(picture_id)
        except ServiceError as error:
            _log.warning("the files of picture %s are left to the sweep: %s", picture_id, error.message)
