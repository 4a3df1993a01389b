"""A PNG file whose strips of rows are filtered and deflated in parallel, by Intel's igzip.

Deflate streams can be joined where each but the last ends with a flush, which pads it to a whole byte; the checksum of
the whole follows from the strips' own. Of PNG's filters only the two are used that numpy computes in a
few passes: Paeth would save five per cent and take ten times as long. ``benchmarks/encode_png.py`` of dreambooth-api
compares with Pillow.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from enlight.servicekit.picture_rows import Rows
from enlight.servicekit.strips import Strips

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}
_UP, _AVERAGE = 2, 3
_STRIPS_PER_THREAD = 8
_STRIP_BYTES = 256 * 1024
"""Least size of a strip: a shorter one is not worth its thread and its flush."""
_LEVEL = 1
"""igzip's; levels above take longer and save next to nothing."""
_ZLIB_HEADER = b"\x78\x01"
_ADLER_BASE = 65521


def encode_png_rows(picture: Rows, strips: Strips) -> bytes:
    """A PNG file of a grey, RGB or RGBA picture of 8 or 16 bits."""
    colour_type = _COLOUR_TYPES[picture.channels]
    header = struct.pack(">IIBBBBB", picture.width_px, picture.height_px, picture.depth, colour_type, 0, 0, 0)
    # Rows of nothing are deflated in no time, rows of the subject are not: more strips than threads.
    parts = strips.map(
        lambda first, end: _deflated(picture, first, end),
        picture.height_px,
        per_thread=_STRIPS_PER_THREAD,
        least_lines=max(1, _STRIP_BYTES // picture.row_bytes),
    )
    adler = 1
    for _, part_adler, length in parts:
        adler = _joined_adler(adler, part_adler, length)
    chunks = [_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", _ZLIB_HEADER)]
    chunks += [chunk for chunk, _, _ in parts]
    chunks += [_chunk(b"IDAT", struct.pack(">I", adler)), _chunk(b"IEND", b"")]
    return b"".join(chunks)


def _deflated(picture: Rows, first: int, end: int) -> tuple[bytes, int, int]:
    """A strip's chunk, and the Adler-32 and length of what was deflated."""
    compressor = isal_zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    parts, adler, length = [], 1, 0
    for start in range(first, end, picture.block_rows):
        filtered = _filtered(picture, start, min(start + picture.block_rows, end))
        adler = isal_zlib.adler32(filtered.data, adler)
        length += filtered.size
        parts.append(compressor.compress(filtered.data))
    parts.append(compressor.flush(zlib.Z_FINISH if end == picture.height_px else zlib.Z_SYNC_FLUSH))
    return _chunk(b"IDAT", b"".join(parts)), adler, length


def _filtered(picture: Rows, first: int, end: int) -> npt.NDArray[np.uint8]:
    """Rows less what their neighbours predict, each behind the number of its filter: Up, or Average of left and up,
    whichever leaves less in the block's middle row."""
    above_first = max(first - 1, 0)
    samples = picture.make(above_first, end)
    if picture.depth == 16:
        samples = samples.astype(">u2")
    lines = np.ascontiguousarray(samples).reshape(end - above_first, -1).view(np.uint8)
    rows = lines[first - above_first :]
    above = lines[:-1] if first > above_first else np.concatenate([np.zeros_like(lines[:1]), lines[:-1]])
    pixel_bytes = picture.row_bytes // picture.width_px
    middle = slice(len(rows) // 2, len(rows) // 2 + 1)
    average = _average(rows[middle], above[middle], pixel_bytes)
    is_average = _magnitude(rows[middle] - average) <= _magnitude(rows[middle] - above[middle])
    out = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    out[:, 0] = _AVERAGE if is_average else _UP
    np.subtract(rows, _average(rows, above, pixel_bytes) if is_average else above, out=out[:, 1:])
    return out


def _average(rows: npt.NDArray[np.uint8], above: npt.NDArray[np.uint8], pixel_bytes: int) -> npt.NDArray[np.uint8]:
    """Of the bytes to the left and above, rounded down, without a ninth bit."""
    left = np.zeros_like(rows)
    left[:, pixel_bytes:] = rows[:, :-pixel_bytes]
    both = left & above
    left ^= above
    left >>= 1
    both += left
    return both


def _magnitude(residue: npt.NDArray[np.uint8]) -> int:
    """How far the bytes are from zero, in all, as signed ones."""
    return int(np.abs(residue.view(np.int8).astype(np.int16)).sum())


def _joined_adler(first: int, second: int, second_length: int) -> int:
    """Adler-32 of two byte strings, one after the other, from theirs."""
    low = (first & 0xFFFF) - 1
    high = (first >> 16) + (second >> 16) + second_length * low
    return (high % _ADLER_BASE) << 16 | (low + (second & 0xFFFF)) % _ADLER_BASE


def _chunk(kind: bytes, data: bytes) -> bytes:
    return b"".join(
        (struct.pack(">I", len(data)), kind, data, struct.pack(">I", isal_zlib.crc32(data, zlib.crc32(kind))))
    )
