"""A request's body, received once: into memory that was asked for first, its SHA-256 computed as it comes."""

from __future__ import annotations

import hashlib
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from flask import Request

from enlight.main_api.limits.admission import BudgetShare
from enlight.servicekit.http_bodies import READ_BYTES

HASHED_BESIDE_BYTES = 128 * 1024
"""A smaller piece is hashed faster than it is handed to another thread."""


@dataclass(frozen=True, eq=False)
class ReceivedBody:
    """A body as it came."""

    data: memoryview
    sha256: str
    content_type: str


def receive_body(request: Request, share: BudgetShare, hashing: Executor) -> ReceivedBody:
    """Reads the body of ``request``; nothing of it is parsed. ``hashing`` runs what needs no turn of the reader's.

    Raises:
        QueueFull: the budget has no room for it; nothing of it was read, or of a chunked one a part.
        BodyTooLarge, ClientGone, InvalidRequest: as servicekit's body stream.
    """
    length_bytes = request.content_length
    if length_bytes is None:
        data = memoryview(_chunked(request, share))
        return ReceivedBody(data, hashlib.sha256(data).hexdigest(), request.content_type or "")
    share.take(length_bytes)
    data = memoryview(bytearray(length_bytes))  # the system gives its pages when they are written
    digest = _Digest(hashing)
    filled = 0
    while filled < length_bytes:
        # The stream ends at the length or raises: it never returns nothing before.
        read: int = request.stream.readinto(data[filled : filled + READ_BYTES])  # type: ignore[attr-defined]
        digest.update(data[filled : filled + read])
        filled += read
    return ReceivedBody(data, digest.hexdigest(), request.content_type or "")


class _Digest:
    """The SHA-256 of a body, computed beside its reader: the pieces of a large one are hashed while more arrive."""

    def __init__(self, hashing: Executor) -> None:
        self._hashing = hashing
        self._digest = hashlib.sha256()
        self._last: Future[None] | None = None

    def update(self, piece: memoryview) -> None:
        """Takes the next piece, which nobody may change any more."""
        self._wait()
        if len(piece) < HASHED_BESIDE_BYTES:
            self._digest.update(piece)
        else:
            self._last = self._hashing.submit(self._digest.update, piece)

    def hexdigest(self) -> str:
        """Of all pieces."""
        self._wait()
        return self._digest.hexdigest()

    def _wait(self) -> None:
        if self._last is not None:
            self._last.result()
            self._last = None


def _chunked(request: Request, share: BudgetShare) -> bytearray:
    body = bytearray()
    while piece := request.stream.read(READ_BYTES):
        share.take(len(piece))
        body += piece
    return body
