"""A request's body, received once: into memory that was asked for first, its SHA-256 computed as it comes."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Self

from flask import Request

from enlight.main_api.limits.admission import BudgetShare
from enlight.servicekit.http_bodies import READ_BYTES

HASHED_BESIDE_BYTES = 128 * 1024
"""A smaller body is hashed faster than another thread begins."""


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
    with _Digest(data, hashing) as digest:
        filled = 0
        while filled < length_bytes:
            # The stream ends at the length or raises: it never returns nothing before.
            filled += request.stream.readinto(data[filled : filled + READ_BYTES])  # type: ignore[attr-defined]
            digest.arrived(filled)
    return ReceivedBody(data, digest.hexdigest(), request.content_type or "")


class _Digest:
    """The SHA-256 of a body that is still arriving, computed beside its reader, who never waits for it.

    Where no thread is free to do so, as when slow clients have them all, it is computed at the end.
    """

    def __init__(self, data: memoryview, hashing: Executor) -> None:
        self._data = data
        self._digest = hashlib.sha256()
        self._hashed = self._arrived = 0
        self._over = False
        self._changed = threading.Condition()
        self._beside = hashing.submit(self._follow) if len(data) >= HASHED_BESIDE_BYTES else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with self._changed:
            self._over = True
            self._changed.notify()

    def arrived(self, count: int) -> None:
        """So many bytes are there in all, which nobody changes any more."""
        with self._changed:
            self._arrived = count
            self._changed.notify()

    def hexdigest(self) -> str:
        """Of the whole body, after the block."""
        if self._beside is not None and not self._beside.cancel():
            self._beside.result()
        self._digest.update(self._data[self._hashed :])
        return self._digest.hexdigest()

    def _follow(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._over or self._arrived > self._hashed)
                arrived = self._arrived
            if arrived == self._hashed:
                return
            self._digest.update(self._data[self._hashed : arrived])
            self._hashed = arrived


def _chunked(request: Request, share: BudgetShare) -> bytearray:
    body = bytearray()
    while piece := request.stream.read(READ_BYTES):
        share.take(len(piece))
        body += piece
    return body
