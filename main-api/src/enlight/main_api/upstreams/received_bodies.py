"""A request's body, received once: into memory that was asked for first, its SHA-256 computed as it comes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from flask import Request

from enlight.main_api.limits.admission import BudgetShare
from enlight.servicekit.http_bodies import READ_BYTES


@dataclass(frozen=True, eq=False)
class ReceivedBody:
    """A body as it came."""

    data: memoryview
    sha256: str
    content_type: str


def receive_body(request: Request, share: BudgetShare) -> ReceivedBody:
    """Reads the body of ``request``; nothing of it is parsed.

    Raises:
        QueueFull: the budget has no room for it; nothing of it was read, or of a chunked one a part.
        BodyTooLarge, ClientGone, InvalidRequest: as servicekit's body stream.
    """
    length_bytes = request.content_length
    digest = hashlib.sha256()
    if length_bytes is None:
        data = memoryview(_chunked(request, share))
        digest.update(data)
    else:
        share.take(length_bytes)
        data = memoryview(bytearray(length_bytes))  # the system gives its pages when they are written
        filled = 0
        while filled < length_bytes:
            # The stream ends at the length or raises: it never returns nothing before.
            read: int = request.stream.readinto(data[filled : filled + READ_BYTES])  # type: ignore[attr-defined]
            digest.update(data[filled : filled + read])
            filled += read
    return ReceivedBody(data, digest.hexdigest(), request.content_type or "")


def _chunked(request: Request, share: BudgetShare) -> bytearray:
    body = bytearray()
    while piece := request.stream.read(READ_BYTES):
        share.take(len(piece))
        body += piece
    return body
