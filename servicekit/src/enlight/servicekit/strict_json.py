"""JSON as RFC 8259 and nothing more: what parsers disagree about is refused.

The standard library's parser lets NaN, Infinity, 1e999, repeated keys and lone surrogates pass, and fails with a
RecursionError on deep nesting. A NUL inside a string is valid JSON: fields that do not want one say so themselves.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from itertools import chain, count

from enlight.servicekit.errors import InvalidRequest

MAX_DEPTH = 32
MAX_VALUES = 100_000
"""Upper bound of commas and brackets in a body. It bounds memory and time: the body ``[[],[],[], ...`` would grow to
twenty times its size, and each unknown field costs a validation error. Base64 holds neither, however long it is."""
MAX_NUMBER_CHARS = 100
"""Longer numbers are no settings; an int of this length still converts to a float."""


def to_text(body: bytes | bytearray, *, what: str = "The body") -> str:
    """The text of a JSON body. Raises InvalidRequest, about ``what``, when it is not UTF-8."""
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{what} is not JSON: it is not UTF-8.") from error


def loads(body: bytes | bytearray | str, *, what: str = "The body") -> object:
    """The value of a JSON text (UTF-8 when bytes, without a byte order mark). Raises InvalidRequest, about ``what``."""
    text = body if isinstance(body, str) else to_text(body, what=what)
    if not text.strip(" \t\r\n"):
        raise InvalidRequest(f"{what} is empty; a JSON document was expected.")
    if sum(map(text.count, ",[{")) > MAX_VALUES:
        raise InvalidRequest(f"The JSON holds more than {MAX_VALUES:,} values.")
    try:
        value: object = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"{what} is not JSON: {error.msg} at {where}.") from error
    except RecursionError as error:
        raise InvalidRequest(_TOO_DEEP) from error
    _check(value, may_hold_surrogates="\\u" in text or isinstance(body, str))
    return value


@dataclass(frozen=True)
class _NotANumber:
    """Stands where a number should, so that the error can name its place."""

    problem: str


_TOO_DEEP = f"The JSON is nested deeper than {MAX_DEPTH} levels."


def _check(value: object, *, may_hold_surrogates: bool) -> None:
    """Refuses deep nesting and lone surrogates, level by level."""
    level = [value]
    for depth in count():
        lists = [item for item in level if type(item) is list]
        objects = [item for item in level if type(item) is dict]
        if depth == MAX_DEPTH and (lists or objects):
            raise InvalidRequest(_TOO_DEEP)
        if may_hold_surrogates:
            keys = chain.from_iterable(objects)
            _check_surrogates([item for item in chain(level, keys) if type(item) is str])
        for item in level:
            if type(item) is _NotANumber:
                _refuse_number(value, item)
        level = [*chain.from_iterable(lists), *chain.from_iterable(item.values() for item in objects)]
        if not level:
            return


def _refuse_number(value: object, wrong: _NotANumber) -> None:
    place = _place_of(wrong, value, "", MAX_DEPTH)
    details = {"field": place} if place else {}
    raise InvalidRequest(f"{place}: {wrong.problem}" if place else wrong.problem, details=details)


def _place_of(wrong: _NotANumber, value: object, place: str, depth: int) -> str | None:
    """Where ``wrong`` stands within ``value``, at most ``depth`` levels down: ``a.b[3]``; empty: it is the whole."""
    if value is wrong:
        return place
    if depth == 0:
        return None
    parts: list[tuple[str, object]] = []
    if type(value) is dict:
        parts = [(f"{place}.{key[:100]}" if place else key[:100], item) for key, item in value.items()]
    elif type(value) is list:
        parts = [(f"{place}[{index}]", item) for index, item in enumerate(value)]
    return next((found for at, item in parts if (found := _place_of(wrong, item, at, depth - 1)) is not None), None)


def _check_surrogates(texts: list[str]) -> None:
    for text in texts:
        if not text.isascii():  # known to the string object: no scan of long base64 texts
            try:
                text.encode()
            except UnicodeEncodeError as error:
                raise InvalidRequest("The JSON holds half of a surrogate pair, which is not text.") from error


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidRequest(f"The JSON holds the key {_shown(repeated)} twice.")
    return value


def _int(text: str) -> int:
    _check_length(text)
    return int(text)


def _float(text: str) -> float | _NotANumber:
    _check_length(text)
    value = float(text)
    return _NotANumber(f"The number {_shown(text)} is too large.") if math.isinf(value) else value


def _check_length(text: str) -> None:
    if len(text) > MAX_NUMBER_CHARS:
        raise InvalidRequest(f"The JSON holds a number of more than {MAX_NUMBER_CHARS} characters.")


def _constant(name: str) -> _NotANumber:
    return _NotANumber(f"{name} is not JSON.")


def _shown(text: str) -> str:
    return json.dumps(text if len(text) <= 50 else f"{text[:50]}...")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_int, parse_float=_float, parse_constant=_constant)
