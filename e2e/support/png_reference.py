"""A second opinion on PNG files: a decoder of a few lines that shares no code with the libraries under test.

Every depth, colour type, interlacing and transparent colour of the PNG specification; gamma, profiles and orientation
are left alone. It believes what the file says: for well-formed files of a test suite only.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
"""Interlacing: first column, first row, step of columns, step of rows."""

Samples = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class ReferencePicture:
    """What a PNG holds.

    Attributes:
        colour: (H, W, 3) uint16, scaled so that ``top`` is the brightest.
        alpha: (H, W) uint16 with the same scale; None where the file has no transparency.
        top: 255, or 65535 for a file of 16 bits.
    """

    colour: Samples
    alpha: Samples | None
    top: int


def read_png(data: bytes) -> ReferencePicture:
    """The picture in a well-formed PNG file."""
    chunks = list(_chunks(data))
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", _first(chunks, b"IHDR"))
    packed = zlib.decompress(b"".join(body for name, body in chunks if name == b"IDAT"))
    samples = np.zeros((height, width, _SAMPLES[kind]), np.uint16)
    position = 0
    for x, y, step_x, step_y in _PASSES if interlaced else [(0, 0, 1, 1)]:
        part = samples[y::step_y, x::step_x]
        if part.size:
            part[:], position = _pass(packed, position, part.shape, depth)
    return _picture(samples, depth, kind, _first(chunks, b"PLTE"), _first(chunks, b"tRNS"))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    assert data.startswith(_SIGNATURE)
    position = len(_SIGNATURE)
    while position < len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        yield name, data[position + 8 : position + 8 + length]
        position += 12 + length


def _first(chunks: list[tuple[bytes, bytes]], wanted: bytes) -> bytes:
    return next((body for name, body in chunks if name == wanted), b"")


def _pass(packed: bytes, position: int, shape: tuple[int, ...], depth: int) -> tuple[Samples, int]:
    """The rows of one pass, unfiltered, and where the next one begins."""
    height, width, samples = shape
    row_bytes = (width * samples * depth + 7) // 8
    pixel_bytes = max(1, samples * depth // 8)
    rows = []
    above = [0] * row_bytes
    for _ in range(height):
        above = _unfiltered(packed[position], packed[position + 1 : position + 1 + row_bytes], above, pixel_bytes)
        rows.append(above)
        position += 1 + row_bytes
    table = np.array(rows, np.uint8)
    if depth == 16:
        values = table.reshape(height, -1, 2).astype(np.uint16) @ np.array([256, 1], np.uint16)
    elif depth == 8:
        values = table.astype(np.uint16)
    else:
        bits = np.unpackbits(table, axis=1).reshape(height, -1, depth)
        values = bits.astype(np.uint16) @ (1 << np.arange(depth - 1, -1, -1, dtype=np.uint16))
    return values[:, : width * samples].reshape(shape), position


def _unfiltered(kind: int, row: bytes, above: list[int], pixel_bytes: int) -> list[int]:
    done = [0] * (pixel_bytes + len(row))  # with one pixel of zeros to the left
    corner = [0] * pixel_bytes + above
    for i, value in enumerate(row):
        left, up, up_left = done[i], above[i], corner[i]
        prediction = (0, left, up, (left + up) // 2, _paeth(left, up, up_left))[kind]
        done[i + pixel_bytes] = (value + prediction) & 255
    return done[pixel_bytes:]


def _paeth(left: int, up: int, up_left: int) -> int:
    estimate = left + up - up_left
    return min((left, up, up_left), key=lambda value: abs(estimate - value))


def _picture(samples: Samples, depth: int, kind: int, palette: bytes, transparent: bytes) -> ReferencePicture:
    top = 65535 if depth == 16 else 255
    scale = top // (2**depth - 1)
    alpha: Samples | None = None
    if kind == 3:
        colours = np.frombuffer(palette, np.uint8).reshape(-1, 3).astype(np.uint16)
        opacities = np.full(256, 255, np.uint16)
        opacities[: len(transparent)] = np.frombuffer(transparent, np.uint8)
        index = samples[..., 0]
        return ReferencePicture(colours[index], opacities[index] if transparent else None, 255)
    if kind in (4, 6):
        alpha = samples[..., -1] * np.uint16(scale)
        samples = samples[..., :-1]
    elif transparent:
        colour = np.array(struct.unpack(f">{len(transparent) // 2}H", transparent), np.uint16)
        alpha = np.where((samples == colour).all(axis=2), 0, top).astype(np.uint16)
    colour_rgb = np.broadcast_to(samples * np.uint16(scale), (*samples.shape[:2], 3))
    return ReferencePicture(colour_rgb, alpha, top)
