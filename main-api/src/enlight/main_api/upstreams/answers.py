"""What a service behind the gateway answered, read to its end and checked before a byte of it is passed on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from urllib3.response import BaseHTTPResponse

from enlight.servicekit.errors import UpstreamFailed, WireError, error_from_wire

Promise = Literal["json", "picture"]
"""What a route's good answer is."""

PIECE_BYTES = 256 * 1024
"""Of an answer without a length, read at a time."""
PARSED_BYTES = 1 << 20
"""JSON up to this size is parsed to see that it is JSON; of a longer one only the type and the ends are looked at."""

_PASSED_ON = frozenset({"content-disposition", "retry-after"})
_OUR_OWN = frozenset(
    {"x-request-id", "x-cache", "x-content-type-options", "x-frame-options", "x-model-id", "x-powered-by"}
)
_UNPRINTABLE = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
MAX_HEADER_CHARS = 2000


@dataclass(frozen=True)
class UpstreamAnswer:
    """A whole answer: of a status below 300 and as promised, or an error in the suite's JSON."""

    status: int
    content_type: str
    headers: dict[str, str] = field(default_factory=dict)
    """Those that are the client's business, besides the content type."""
    body: bytes | bytearray = b""
    """Never changed, by anybody."""


def read_answer(
    response: BaseHTTPResponse,
    *,
    service: str,
    promise: Promise,
    limit_bytes: int,
    take_bytes: Callable[[int], None],
) -> UpstreamAnswer:
    """Reads an answer to its end; ``take_bytes`` is told of the memory before it is used, and may raise.

    Raises:
        UpstreamFailed: the answer is not one that this service gives: too large, without a length, encoded, of
            another type than promised, a redirection, an error without the suite's body.
        urllib3.exceptions.HTTPError: it was cut short, or nothing came for too long.
    """
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _wrong(service, "an encoded answer")
    body = _read(response, service, limit_bytes, take_bytes)
    content_type = response.headers.get("Content-Type", "")[:200]
    _check(service, response.status, content_type, body, promise)
    return UpstreamAnswer(response.status, content_type, _headers(service, response.headers), body)


def _read(
    response: BaseHTTPResponse, service: str, limit_bytes: int, take_bytes: Callable[[int], None]
) -> bytes | bytearray:
    length = response.headers.get("Content-Length")
    if length is None:
        return _read_chunked(response, service, limit_bytes, take_bytes)
    length_bytes = int(length) if length.isascii() and length.isdigit() else -1
    if not 0 <= length_bytes <= limit_bytes:
        raise _wrong(service, "an answer of an impossible length")
    take_bytes(length_bytes)
    # All at once: http.client receives into the very memory that it returns; pieces would be copied together.
    return response.read(decode_content=False)


def _read_chunked(
    response: BaseHTTPResponse, service: str, limit_bytes: int, take_bytes: Callable[[int], None]
) -> bytearray:
    if response.headers.get("Transfer-Encoding", "").lower() != "chunked":
        raise _wrong(service, "an answer whose end cannot be told from a lost connection")
    body = bytearray()
    for piece in response.stream(PIECE_BYTES, decode_content=False):
        take_bytes(len(piece))
        if len(body) + len(piece) > limit_bytes:
            raise _wrong(service, "an answer that is too large")
        body += piece
    return body


def _check(service: str, status: int, content_type: str, body: bytes | bytearray, promise: Promise) -> None:
    media_type = content_type.partition(";")[0].strip().lower()
    if _UNPRINTABLE.search(content_type):
        raise _wrong(service, "a malformed content type")
    if 200 <= status < 300:
        if promise == "picture" and not media_type.startswith("image/"):
            raise _wrong(service, "something else than a picture")
        if promise == "json" and not (media_type == "application/json" and _is_json_object(body)):
            raise _wrong(service, "something else than JSON")
    elif not 400 <= status < 600:
        raise _wrong(service, f"the status {status}")
    elif not (media_type == "application/json" and _is_error_body(body)):
        raise _wrong(service, f"the status {status} without the suite's error body")


def _headers(service: str, given: Mapping[str, str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in given.items():
        known = name.lower()
        if known in _OUR_OWN or not (known in _PASSED_ON or known.startswith("x-")):
            continue
        if _UNPRINTABLE.search(name + value) or len(value) > MAX_HEADER_CHARS:
            raise _wrong(service, "a malformed header")
        headers[name] = value
    return headers


def renamed(answer: UpstreamAnswer, bucket_id: str, name: str) -> UpstreamAnswer:
    """The answer with the tenant's name in the bucket id's place, wherever it stands.

    An id has more random characters than could turn up in a picture's base64 by chance, and neither it nor a name
    holds a character that JSON would write otherwise.
    """
    body = answer.body.replace(bucket_id.encode(), name.encode())
    headers = {key: value.replace(bucket_id, name) for key, value in answer.headers.items()}
    return UpstreamAnswer(answer.status, answer.content_type, headers, body)


def json_of(answer: UpstreamAnswer) -> dict[str, Any]:
    """A JSON answer's object, which `read_answer` has looked at.

    Raises:
        UpstreamFailed: a long one was no JSON after all.
    """
    try:
        value = json.loads(answer.body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UpstreamFailed("A service gave something else than JSON.")
    return value


def raise_error_of(answer: UpstreamAnswer) -> None:
    """Nothing, for a good answer. Raises: the service's own error, as it is."""
    if answer.status >= 300:
        told = json_of(answer)
        error = told["error"]
        raise error_from_wire(WireError(error["code"], told["message"], error.get("details") or {}))


def _is_json_object(body: bytes | bytearray) -> bool:
    if len(body) <= PARSED_BYTES:
        return isinstance(_parsed(body), dict)
    return body[:1] == b"{" and body[-64:].rstrip().endswith(b"}")


def _is_error_body(body: bytes | bytearray) -> bool:
    value = _parsed(body) if len(body) <= PARSED_BYTES else None
    return isinstance(value, dict) and isinstance(value.get("error"), dict) and "message" in value


def _parsed(body: bytes | bytearray) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _wrong(service: str, what: str) -> UpstreamFailed:
    return UpstreamFailed(f"{service} gave {what}.", details={"service": service})
