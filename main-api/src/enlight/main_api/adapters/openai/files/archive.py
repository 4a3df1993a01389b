"""The photos in a zip that a client uploaded, which is read as if it were hostile.

Names are checked and shown, and never turned into paths. What the table of contents says is believed only up to limits,
and before a byte of the photos is read; what is read afterwards is counted.
"""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import BinaryIO

from enlight.dreambooth_api.schemas import MAX_PHOTOS
from enlight.main_api.zip_reads import BROKEN_ZIP, BoundedReads, check_readable
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.http_bodies import limit_text
from enlight.servicekit.images import decode_image
from enlight.servicekit.object_store import CHUNK_BYTES

FIELD = "file"
MAX_ENTRIES = 500
"""Of all kinds: a photo of some programs has one of its own beside it."""
MAX_RATIO = 200
"""No picture shrinks by more: what its own format leaves to a zip is a few per cent, or an area of one colour."""

_LOCAL_HEADER_BYTES = 30
_SMALL_BYTES = 64 * 1024
"""A few bytes of one colour may shrink as they like."""
_ZIP_BEGINS = (b"PK\x03\x04", b"PK\x05\x06")
_NO_PHOTOS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
"""What file managers leave in folders."""


@dataclass(frozen=True)
class ArchiveLimits:
    """How large photos may be when they are out of the zip."""

    photo_bytes: int
    all_photos_bytes: int


@dataclass(frozen=True)
class ArchivedPhotos:
    """What a checked zip holds."""

    count: int
    size_bytes: int
    """Out of the zip, all together."""


def check_photos(file: BinaryIO, limits: ArchiveLimits) -> ArchivedPhotos:
    """Reads and decodes every photo of the zip, one after the other.

    Raises:
        InvalidField: it is no zip of photos.
        UnsupportedImage, BrokenImage, ImageTooLarge: an entry, which the message names, is no photo that is read.
    """
    sizes_bytes = []
    for name, photo in photos_of(file, limits):
        shown = f"{name!r} in the zip"
        if photo.startswith(_ZIP_BEGINS):
            raise InvalidField.of(FIELD, f"{shown} is a zip itself; only the outer one is opened")
        decode_image(photo, shown)
        sizes_bytes.append(len(photo))
    return ArchivedPhotos(len(sizes_bytes), sum(sizes_bytes))


def photos_of(file: BinaryIO, limits: ArchiveLimits) -> Iterator[tuple[str, bytes]]:
    """Name and file of each photo, in the zip's order; folders mean nothing. Raises: InvalidField."""
    try:
        with zipfile.ZipFile(BoundedReads(file)) as archive:
            photos = _photo_entries(archive)
            _check_sizes(photos, limits)
            for entry in photos:
                yield _shown(entry), _read(archive, entry)
    except BROKEN_ZIP as error:
        raise InvalidField.of(FIELD, "is no whole zip file; send a ZIP of photos") from error


def _photo_entries(archive: zipfile.ZipFile) -> Sequence[zipfile.ZipInfo]:
    entries = archive.infolist()
    if len(entries) > MAX_ENTRIES:
        raise InvalidField.of(FIELD, f"has {len(entries)} entries; at most {MAX_ENTRIES} are looked at")
    for entry in entries:
        _check_name(entry)
    _check_places(entries, archive.start_dir)
    photos = [entry for entry in entries if not _is_left_out(entry)]
    for entry in photos:
        check_readable(entry, field=FIELD)
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise InvalidField.of(FIELD, f"{_shown(entry)!r} is a link or a device, not a file")
    if not 1 <= len(photos) <= MAX_PHOTOS:
        raise InvalidField.of(FIELD, f"must hold 1 to {MAX_PHOTOS} photos; this one has {len(photos)} files")
    return photos


def _check_name(entry: zipfile.ZipInfo) -> None:
    parts = _parts(entry)
    if parts[0] == "" or parts[0].endswith(":") or ".." in parts:
        raise InvalidField.of(FIELD, f"{_shown(entry)!r} is a path out of the zip")


def _check_places(entries: Sequence[zipfile.ZipInfo], end: int) -> None:
    """Entries that share bytes make much out of little, whatever each says of itself."""
    in_order = sorted(entries, key=lambda entry: entry.header_offset)
    begins = [*(entry.header_offset for entry in in_order), end]
    for entry, (begin, following) in zip(in_order, pairwise(begins), strict=True):
        if begin + _LOCAL_HEADER_BYTES + entry.compress_size > following:
            raise InvalidField.of(FIELD, f"{_shown(entry)!r} overlaps what follows it in the zip")


def _check_sizes(photos: Sequence[zipfile.ZipInfo], limits: ArchiveLimits) -> None:
    for entry in photos:
        if entry.file_size > limits.photo_bytes:
            raise InvalidField.of(FIELD, f"{_shown(entry)!r} is larger than {limit_text(limits.photo_bytes)}")
        if entry.file_size > max(_SMALL_BYTES, MAX_RATIO * entry.compress_size):
            raise InvalidField.of(FIELD, f"{_shown(entry)!r} grows to more than {MAX_RATIO} times its size")
    if sum(entry.file_size for entry in photos) > limits.all_photos_bytes:
        raise InvalidField.of(FIELD, f"its photos are larger than {limit_text(limits.all_photos_bytes)} together")


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    # zipfile ends at the size that the table of contents says, whatever is packed there, and compares the checksum.
    with archive.open(entry) as member:
        return b"".join(iter(partial(member.read, CHUNK_BYTES), b""))


def _is_left_out(entry: zipfile.ZipInfo) -> bool:
    parts = _parts(entry)
    return parts[-1] in _NO_PHOTOS or parts[-1] == "" or parts[-1].startswith("._") or "__MACOSX" in parts


def _parts(entry: zipfile.ZipInfo) -> list[str]:
    # Some programs write the separator of their system. `filename` ends before a NUL, the original name does not.
    return entry.orig_filename.replace("\\", "/").split("/")


def _shown(entry: zipfile.ZipInfo) -> str:
    return entry.orig_filename[:100]
