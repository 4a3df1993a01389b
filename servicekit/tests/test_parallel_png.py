"""PNG files made in strips: any reader sees the pixels that went in."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from enlight.servicekit import parallel_png, picture_rows
from enlight.servicekit.parallel_png import encode_png_rows
from enlight.servicekit.picture_rows import rows_of
from enlight.servicekit.strips import Strips


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    channels=st.sampled_from([1, 3, 4]),
    threads=st.integers(1, 5),
    block_bytes=st.sampled_from([1, 300, 1 << 20]),
    seed=st.integers(0, 2**32 - 1),
    depth=st.sampled_from([8, 16]),
)
def test_pixels_come_back(
    width: int, height: int, channels: int, threads: int, block_bytes: int, seed: int, depth: int
) -> None:
    rng = np.random.default_rng(seed)
    kind = np.uint8 if depth == 8 else np.uint16
    pixels = rng.integers(0, 2**depth, (height, width, channels), kind)
    pixels[rng.random((height, width)) < 0.5] = 0
    if channels == 1:
        pixels = pixels[..., 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture_rows, "BLOCK_BYTES", block_bytes)
        patch.setattr(parallel_png, "_STRIP_BYTES", 1)
        data = encode_png_rows(rows_of(pixels), Strips(threads))
    with Image.open(io.BytesIO(data)) as picture:  # Pillow reads to the end, and only 8 bits of colours
        shown = np.asarray(picture)
    if depth == 8 or channels == 1:
        np.testing.assert_array_equal(shown, pixels)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert decoded is not None
    order = {1: None, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[channels]
    np.testing.assert_array_equal(decoded if order is None else cv2.cvtColor(decoded, order), pixels)


def test_the_joined_stream_is_one_that_zlib_takes_whole() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (500, 300, 4), np.uint8)
    data = encode_png_rows(rows_of(pixels), Strips(4))
    stream = b"".join(body for kind, body in chunks(data) if kind == b"IDAT")
    assert len(zlib.decompress(stream)) == 500 * (1 + 300 * 4)  # raises where the Adler-32 is wrong


def test_a_small_picture_is_one_strip() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    assert encode_png_rows(rows_of(pixels), Strips(4)).count(b"IDAT") == 3


def test_each_part_gets_the_filter_that_suits_it() -> None:
    """Stripes down want the row above, grain the average: either alone would be larger."""
    rng = np.random.default_rng(0)
    stripes = np.repeat(rng.integers(0, 256, (1, 256, 3), np.uint8), 256, axis=0)
    grain = rng.normal(128, 8, (256, 256, 3)).astype(np.uint8)
    for pixels, filter_number in ((stripes, 2), (grain, 3)):
        data = encode_png_rows(rows_of(pixels), Strips(1))
        stream = b"".join(body for kind, body in chunks(data) if kind == b"IDAT")
        assert zlib.decompress(stream)[0] == filter_number


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each, its checksum compared."""
    position = 8
    while position < len(data):
        length = int.from_bytes(data[position : position + 4])
        kind, body = data[position + 4 : position + 8], data[position + 8 : position + 8 + length]
        assert zlib.crc32(kind + body) == int.from_bytes(data[position + 8 + length : position + 12 + length])
        yield kind, body
        position += 12 + length
