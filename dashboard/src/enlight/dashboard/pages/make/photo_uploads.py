"""Photos on their way from a browser to main-api: spooled to disk as they come, sent on as JSON piece by piece."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import SEEK_END, SEEK_SET
from threading import BoundedSemaphore
from typing import IO

from flask import request

from enlight.servicekit.errors import InvalidField, QueueFull

MAX_PHOTOS = 50
"""As main-api takes."""
PIECE_BYTES = 192 << 10
"""Of a photo at once; three bytes become four letters, so that pieces join without a seam."""
_MAX_FORM_PARTS = 100
_ROOM_FOR_FIELDS_BYTES = 256 << 10


class PhotoUploads:
    """Requests with photos, of which there are only so many at once.

    Args:
        max_uploads: At the same time.
        max_body_bytes: Largest request.
    """

    def __init__(self, max_uploads: int, *, max_body_bytes: int) -> None:
        self._places = BoundedSemaphore(max_uploads)
        # In JSON, which main-api takes as much of, photos are a third larger.
        self.max_photo_bytes = max(0, (max_body_bytes - _ROOM_FOR_FIELDS_BYTES) * 3 // 4)
        """Of all photos of a training together."""

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one request; to be taken before its form is read. Raises QueueFull."""
        if not self._places.acquire(blocking=False):
            raise QueueFull("Others send files at this moment. Try again in a few seconds.", retry_after_s=5)
        try:
            request.max_form_parts = _MAX_FORM_PARTS
            yield
        finally:
            self._places.release()


def sent_photos() -> list[IO[bytes]]:
    """The files of the form's field ``photos``, in order. Raises InvalidField: none, or more than may be."""
    photos = [file.stream for file in request.files.getlist("photos") if file.filename]
    if not photos:
        raise InvalidField.of("photos", "pick at least one photo")
    if len(photos) > MAX_PHOTOS:
        raise InvalidField.of("photos", f"{len(photos)} photos are too many: {MAX_PHOTOS} at most")
    return photos


class JsonWithPhotos:
    """A JSON object with the photos in its field ``photos``, never whole in memory.

    Args:
        fields: What else is in it.
        photos: The files.
    """

    def __init__(self, fields: Mapping[str, object], photos: Sequence[IO[bytes]]) -> None:
        self._photos = photos
        start = json.dumps({**fields, "photos": []}).encode()
        self._head, self._tail = start[:-2], start[-2:]  # before and after the list's content
        sizes = [photo.seek(0, SEEK_END) for photo in photos]
        quotes_and_commas = 3 * len(sizes) - 1
        self.length_bytes = len(start) + sum(-(-size // 3) * 4 for size in sizes) + quotes_and_commas

    def __iter__(self) -> Iterator[bytes]:
        before = self._head + b'"'
        for photo in self._photos:
            yield before
            photo.seek(0, SEEK_SET)
            while piece := photo.read(PIECE_BYTES):
                yield b64encode(piece)
            before = b'","'
        yield b'"' + self._tail
