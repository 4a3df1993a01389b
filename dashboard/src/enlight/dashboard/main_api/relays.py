"""Answers of main-api that go to the browser as they come: pictures, files and event streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from threading import BoundedSemaphore

from flask import Response, request
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError

from enlight.dashboard.main_api.browser_watch import BrowserWatch
from enlight.dashboard.main_api.client import Query, current_api
from enlight.servicekit.errors import QueueFull, UpstreamFailed
from enlight.servicekit.http import client_gone

PIECE_BYTES = 256 << 10
EVENT_SILENCE_S = 60.0
"""main-api sends a comment after 10 s without an event."""
PICTURE_TYPES = frozenset({"image/png", "image/jpeg", "image/webp"})
_HANDED_ON = ("Content-Length", "Content-Disposition", "ETag", "Cache-Control")


def relay_picture(path: str, query: Query | None = None) -> Response:
    """A picture; the browser is told one of three types, whatever its bytes are."""
    answer = _open(path, query)
    media_type = answer.headers.get("Content-Type", "").partition(";")[0]
    if answer.status != 304 and media_type not in PICTURE_TYPES:
        answer.close()
        raise UpstreamFailed("main-api answered something that is no picture.")
    return _relay(answer, media_type or "image/png")


def relay_file(path: str, query: Query | None = None) -> Response:
    """A file to save."""
    answer = _open(path, query)
    response = _relay(answer, "application/octet-stream")
    response.headers.setdefault("Content-Disposition", "attachment")
    return response


class EventRelay:
    """Event streams, of which there are only so many at once.

    Args:
        max_streams: Open at the same time.
    """

    def __init__(self, max_streams: int) -> None:
        self._places = BoundedSemaphore(max_streams)
        self._watch = BrowserWatch()

    def relay(
        self, method: str, path: str, data: bytes | None = None, *, silence_s: float = EVENT_SILENCE_S
    ) -> Response:
        """A stream of server-sent events, resumed where the browser asks for that. Raises QueueFull, and what main-api
        answers. ``silence_s``: longest time without a byte."""
        if not self._places.acquire(blocking=False):
            raise QueueFull("Too many pages are open here that follow something. Close some.", retry_after_s=10)
        last_seen = request.headers.get("Last-Event-ID", "")
        try:
            answer = current_api().open(
                method, path, data=data, timeout_s=silence_s, headers={"Last-Event-ID": last_seen} if last_seen else {}
            )
        except BaseException:
            self._places.release()
            raise
        forget = self._watch.add(partial(client_gone, request.environ), partial(_end_reading, answer))
        response = Response(_events(answer), mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})

        def end() -> None:
            forget()
            answer.close()  # main-api sees that nobody listens
            self._places.release()

        response.call_on_close(end)
        return response


def _events(answer: BaseHTTPResponse) -> Iterator[bytes]:
    try:
        while piece := answer.read1(PIECE_BYTES):
            yield piece
    except (HTTPError, OSError):
        return  # the browser connects again, and says what it has seen


def _end_reading(answer: BaseHTTPResponse) -> None:
    with suppress(ValueError, RuntimeError, OSError):  # it is at its end already
        answer.shutdown()


def _open(path: str, query: Query | None) -> BaseHTTPResponse:
    seen = request.headers.get("If-None-Match", "")
    return current_api().open("GET", path, query=query, headers={"If-None-Match": seen} if seen else {})


def _relay(answer: BaseHTTPResponse, media_type: str) -> Response:
    response = Response(answer.stream(PIECE_BYTES, decode_content=False), status=answer.status, content_type=media_type)
    for name in _HANDED_ON:
        if name in answer.headers:
            response.headers[name] = answer.headers[name]
    response.call_on_close(answer.close)
    return response
