"""Cutting one pass into tiles: each pixel of the result belongs to one tile, which computes it to the end.

A tile is planned backwards: from the rows of the result, through the resize, to rows of the enlarged picture, to rows
of the input, to which the network's halo is added. All tiles of a picture have one shape, so that a GPU library
chooses its algorithms once. At the picture's borders a tile begins and ends where the picture does, so that the
network sees what it would see without tiles.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from enlight.realesrgan.pure.resampling import support_px
from enlight.realesrgan.pure.sizes import Size


@dataclass(frozen=True)
class Span:
    """Rows (or columns) of one tile.

    Attributes:
        start: First row of the input that the network gets.
        length: How many; the same in all tiles of an axis.
        out_start: First row of the result that this tile gives.
        out_stop: The one behind its last.
    """

    start: int
    length: int
    out_start: int
    out_stop: int


@dataclass(frozen=True)
class Axis:
    """One direction of a pass.

    Attributes:
        size: Of the input, padded to a multiple of what the network needs.
        enlarged: Of the network's output, without what the padding gave.
        out: Of the result.
    """

    size: int
    enlarged: int
    out: int


def plan_axis(axis: Axis, *, scale: int, pieces: int, halo: int, multiple: int) -> list[Span]:
    """The spans of ``pieces`` tiles along an axis.

    Args:
        axis: What is cut.
        scale: Of the network.
        pieces: How many tiles; at most as many as the result has rows.
        halo: Rows that the network needs around those that count.
        multiple: Tiles start and end at multiples of this.
    """
    bounds = [round(index * axis.out / pieces) for index in range(pieces + 1)]
    wanted = []
    for out_start, out_stop in itertools.pairwise(bounds):
        first, stop = needed_rows(axis, out_start, out_stop)
        start = max(0, first // scale - halo) // multiple * multiple
        stop = min(axis.size, -(-stop // scale) + halo)
        wanted.append((start, -(-stop // multiple) * multiple))
    length = max(stop - start for start, stop in wanted)
    return [
        Span(min(start, axis.size - length), length, out_start, out_stop)
        for (start, _), (out_start, out_stop) in zip(wanted, itertools.pairwise(bounds), strict=True)
    ]


def needed_rows(axis: Axis, out_start: int, out_stop: int) -> tuple[int, int]:
    """First row, and the one behind the last, of the enlarged picture that the rows of the result are made of."""
    ratio = axis.enlarged / axis.out
    support = support_px(axis.enlarged, axis.out)
    first = math.floor(out_start * ratio - support)
    stop = math.ceil(out_stop * ratio + support)
    return max(0, first), min(axis.enlarged, stop)


def plan_tiles(
    rows: Axis, columns: Axis, *, scale: int, max_px: int, halo: int, multiple: int
) -> list[tuple[Span, Span]]:
    """Tiles as (rows, columns), of at most ``max_px`` input pixels each where that can be had.

    The longer side of a tile is cut first; a tile that consists of little but halo is not cut any more.
    """
    pieces = [1, 1]
    axes = (rows, columns)
    while True:
        spans = [
            plan_axis(axis, scale=scale, pieces=count, halo=halo, multiple=multiple)
            for axis, count in zip(axes, pieces, strict=True)
        ]
        lengths = [axis_spans[0].length for axis_spans in spans]
        least = 3 * halo + multiple
        cuttable = [
            index
            for index in (0, 1)
            if lengths[index] > least and pieces[index] < min(axes[index].size, axes[index].out)
        ]
        if lengths[0] * lengths[1] <= max_px or not cuttable:
            return list(itertools.product(spans[0], spans[1]))
        longer = max(cuttable, key=lambda index: lengths[index])
        pieces[longer] += 1


def pass_axes(size: Size, out: Size, *, scale: int, multiple: int) -> tuple[Axis, Axis]:
    """Rows and columns of a pass that takes ``size`` to ``out``."""

    def axis(length: int, out_length: int) -> Axis:
        return Axis(-(-length // multiple) * multiple, length * scale, out_length)

    return axis(size.height, out.height), axis(size.width, out.width)
