"""JSON, and what only looks like it."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enlight.servicekit.errors import InvalidRequest
from enlight.servicekit.strict_json import MAX_DEPTH, MAX_VALUES, loads

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=200)
@given(VALUES, st.booleans())
def test_valid_json_has_the_value_that_everybody_reads(value: object, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert loads(text.encode()) == json.loads(text)
    assert loads(text) == json.loads(text)


@settings(max_examples=200)
@given(st.binary(max_size=60))
def test_any_other_bytes_are_a_clients_error(body: bytes) -> None:
    try:
        expected = json.loads(body.decode())
    except (ValueError, RecursionError):
        with pytest.raises(InvalidRequest):
            loads(body)
    else:
        try:
            assert loads(body) == expected
        except InvalidRequest:
            assert any(strange in body for strange in (b"NaN", b"Infinity", b"e", b"E", b":"))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" \n\t ", id="blank"),
        pytest.param(b"hello", id="text"),
        pytest.param(b"{'a': 1}", id="single-quotes"),
        pytest.param(b'{"a": 1,}', id="trailing-comma"),
        pytest.param(b'{"a": 1} {"b": 2}', id="two-documents"),
        pytest.param(b'{"a": 1', id="cut"),
        pytest.param(b'{"a": 01}', id="leading-zero"),
        pytest.param(b'{"a": +1}', id="plus"),
        pytest.param(b'{"a": .5}', id="no-leading-digit"),
        pytest.param(b'{"a": 0x10}', id="hexadecimal"),
        pytest.param(b'"a\nb"', id="line-end-in-a-string"),
        pytest.param(b'\xef\xbb\xbf{"a": 1}', id="byte-order-mark"),
        pytest.param('{"a": 1}'.encode("utf-16"), id="utf-16"),
        pytest.param(b'{"a": "\xff"}', id="not-utf-8"),
        pytest.param(b'{"a": "\xed\xa0\x80"}', id="surrogate-as-utf-8"),
        pytest.param(b'{"a": NaN}', id="nan"),
        pytest.param(b'{"a": Infinity}', id="infinity"),
        pytest.param(b'{"a": -Infinity}', id="minus-infinity"),
        pytest.param(b'{"a": 1e999}', id="overflow"),
        pytest.param(b'{"a": -1e999}', id="minus-overflow"),
        pytest.param(b'{"a": ' + b"9" * 101 + b"}", id="huge-int"),
        pytest.param(b'{"a": ' + b"9" * 1_000_000 + b"}", id="very-huge-int"),
        pytest.param(b'{"a": 0.' + b"9" * 101 + b"}", id="long-float"),
        pytest.param(b'{"a": 1, "a": 2}', id="repeated-key"),
        pytest.param(b'[{"b": {"a": 1, "\\u0061": 2}}]', id="repeated-key-escaped"),
        pytest.param(b'{"a": "\\ud800"}', id="lone-high-surrogate"),
        pytest.param(b'{"a": ["x", {"b": "\\udc00y"}]}', id="lone-low-surrogate"),
        pytest.param(b'{"a": "\\udc00\\ud800"}', id="swapped-surrogates"),
        pytest.param(b'{"\\ud800": 1}', id="surrogate-in-a-key"),
        pytest.param(b'"\\uD800"', id="surrogate-in-capitals"),
        pytest.param('"\ud800"', id="surrogate-in-a-str"),
        pytest.param(b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), id="too-deep"),
        pytest.param(b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), id="too-deep-objects"),
        pytest.param(b"[" * 100_000, id="brackets"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="brackets-closed"),
        pytest.param(b'{"a":' * 100_000, id="braces"),
        pytest.param(b"[" + b"[]," * MAX_VALUES + b"1]", id="too-many-values"),
        pytest.param(b"[" * 50_000_000, id="fifty-megabytes-of-brackets"),
    ],
)
def test_refused_and_fast(body: bytes | str) -> None:
    started_s = time.process_time()
    with pytest.raises(InvalidRequest) as caught:
        loads(body)
    assert time.process_time() - started_s < 1.0
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'"\\ud83d\\ude00"', "😀"),
        ('"😀é"'.encode(), "😀é"),
        (b'{"a": "\\u0000"}', {"a": "\0"}),
        (b"-0.0", -0.0),
        (b"1e-400", 0.0),
        (b"9" * 100, int("9" * 100)),
        (b" null\r\n", None),
        (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)),
        (b'{"a": {"a": 1}}', {"a": {"a": 1}}),
    ],
)
def test_accepted(body: bytes, value: object) -> None:
    assert loads(body) == value


def test_the_message_says_where_and_shows_little() -> None:
    with pytest.raises(InvalidRequest, match="Expecting value at line 2, column 6"):
        loads(b'{"a":\n     secret}')
    with pytest.raises(InvalidRequest, match='the key "aaaa') as caught:
        loads(b'{"%s": 1, "%s": 2}' % (b"a" * 1000, b"a" * 1000))
    assert len(caught.value.message) < 200


def test_a_body_of_pictures_is_as_fast_as_with_the_standard_library() -> None:
    # Given 100 MiB of base64 in a few strings
    body = json.dumps({"PROMPT": "é", "IMAGE_LIST": ["QUJD" * 1_310_720] * 20}).encode()

    # When it is parsed, then most of the time is the standard parser's own
    def fastest_s(parse: object) -> float:
        times_s = []
        for _ in range(3):
            started_s = time.process_time()
            parse(body)  # type: ignore[operator]
            times_s.append(time.process_time() - started_s)
        return min(times_s)

    assert fastest_s(loads) < 3.0 * fastest_s(json.loads)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ('{"LR": NaN}', "LR"),
        ('{"a": {"b": [1, {"c": 1e999}]}}', "a.b[1].c"),
        ('{"deep": ' + "[" * 500 + "]" * 500 + ', "LR": -Infinity}', "LR"),
    ],
)
def test_a_number_that_is_none_is_named_by_its_place(body: str, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        loads(body)
    assert caught.value.message.startswith(f"{field}: ")
    assert caught.value.details == {"field": field}
