"""One pass over a picture: tile by tile through the network, the resize and the rounding, into one canvas."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from enlight.realesrgan.pure.resampling import resize_matrix
from enlight.realesrgan.pure.sizes import Size
from enlight.realesrgan.pure.staged_networks import RRDB_TAIL_VALUES, RRDB_TRUNK_VALUES, Check, StagedNetwork
from enlight.realesrgan.pure.tiles import Axis, Span, needed_rows, pass_axes, plan_tiles

INT16_OFFSET = 32768
"""16-bit pictures lie in int16 tensors, less this: every device computes with those."""
MAX_TILE_PX = 2**22
"""A library counts the values of a tensor in 32 bits: 192 channels of this many pixels stay below."""
MAX_STRIP_PX = 2**20
MIN_TILE_PX = 64 * 64
WRITE_ROWS = 512


@dataclass(frozen=True)
class Budget:
    """How much memory a pass may take at once.

    Attributes:
        values: Of the network's own element type, for the intermediate results of one tile.
    """

    values: int

    def tile_px(self, network: StagedNetwork) -> int:
        """Input pixels of one tile."""
        return max(MIN_TILE_PX, min(MAX_TILE_PX, self.values // network.values_per_px))

    @property
    def strip_px(self) -> int:
        """Input pixels of one strip at the output's resolution."""
        return max(1, min(MAX_STRIP_PX, self.values // RRDB_TAIL_VALUES))

    def halved(self) -> Budget | None:
        """Half of it; None when that would be too little for the smallest tile."""
        return Budget(self.values // 2) if self.values >= 2 * MIN_TILE_PX * RRDB_TRUNK_VALUES else None


def run_pass(
    network: StagedNetwork,
    picture: Tensor,
    out: Size,
    *,
    budget: Budget,
    check: Check,
    canvas: Tensor | None = None,
) -> Tensor:
    """The picture enlarged by the network and resized to ``out``.

    Args:
        network: On the picture's device.
        picture: (1, 3, H, W) in [0, 1], of the network's element type.
        out: Size of the result.
        budget: Memory for a tile.
        check: Called between pieces of work; may raise.
        canvas: What the result is written to: (H, W, 3) uint8, or int16 (see `INT16_OFFSET`). None: a new tensor of
            the picture's kind.

    Returns:
        The canvas.
    """
    size = Size(picture.shape[2], picture.shape[3])
    rows, columns = pass_axes(size, out, scale=network.scale, multiple=network.multiple)
    picture = _padded(picture, Size(rows.size, columns.size))
    tiles = plan_tiles(
        rows,
        columns,
        scale=network.scale,
        max_px=budget.tile_px(network),
        halo=network.halo_px,
        multiple=network.multiple,
    )
    if canvas is None:
        canvas = picture.new_empty((1, 3, out.height, out.width))
    for row_span, column_span in tiles:
        check()
        tile = picture[:, :, row_span.start : row_span.start + row_span.length]
        tile = tile[:, :, :, column_span.start : column_span.start + column_span.length]
        enlarged = network(tile.contiguous(memory_format=torch.channels_last), strip_px=budget.strip_px, check=check)
        part = _resized(enlarged, network.scale, (rows, row_span), (columns, column_span))
        _write(canvas, part, row_span, column_span)
    return canvas


def to_tensor(pixels: NDArray[np.uint8] | NDArray[np.uint16], *, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(H, W, 3) as (1, 3, H, W) in [0, 1]."""
    highest = np.iinfo(pixels.dtype).max
    if pixels.dtype == np.uint16:
        moved = torch.from_numpy((pixels ^ np.uint16(INT16_OFFSET)).view(np.int16)).to(device).float() + INT16_OFFSET
    else:
        moved = torch.from_numpy(np.require(pixels, requirements=["C", "W"])).to(device).float()
    return (moved / highest).permute(2, 0, 1)[None].to(dtype)


def new_canvas(size: Size, *, is_16_bit: bool, device: torch.device) -> Tensor:
    """(H, W, 3), for `run_pass`."""
    return torch.empty((size.height, size.width, 3), dtype=torch.int16 if is_16_bit else torch.uint8, device=device)


def canvas_pixels(canvas: Tensor) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The canvas as an array of (H, W, 3) uint8 or uint16."""
    array: NDArray[np.generic] = canvas.cpu().numpy()
    if array.dtype == np.int16:
        return array.view(np.uint16) ^ np.uint16(INT16_OFFSET)
    assert array.dtype == np.uint8
    return array.view(np.uint8)


def resized(picture: Tensor, out: Size) -> Tensor:
    """(1, 3, H, W) resized as a whole, as `run_pass` does it in parts."""
    axes = (Axis(picture.shape[2], picture.shape[2], out.height), Axis(picture.shape[3], picture.shape[3], out.width))
    spans = [Span(0, axis.size, 0, axis.out) for axis in axes]
    return _resized(picture, 1, (axes[0], spans[0]), (axes[1], spans[1]))


def _padded(picture: Tensor, size: Size) -> Tensor:
    down, right = size.height - picture.shape[2], size.width - picture.shape[3]
    if not down and not right:
        return picture
    mode = "reflect" if min(picture.shape[2:]) > 1 else "replicate"  # one row has nothing to reflect
    return functional.pad(picture, (0, right, 0, down), mode=mode)


def _resized(enlarged: Tensor, scale: int, rows: tuple[Axis, Span], columns: tuple[Axis, Span]) -> Tensor:
    """The part of the result that a tile gives, of the enlarged tile."""
    row_slice, row_matrix = _resize_plan(*rows, scale)
    column_slice, column_matrix = _resize_plan(*columns, scale)
    part = enlarged[:, :, row_slice, column_slice]
    if row_matrix is None and column_matrix is None:
        return part
    part = part.float().clamp(0, 1)
    if row_matrix is not None:
        part = torch.matmul(torch.from_numpy(row_matrix).to(part.device), part)
    if column_matrix is not None:
        part = torch.matmul(part, torch.from_numpy(column_matrix).to(part.device).T)
    return part


def _resize_plan(axis: Axis, span: Span, scale: int) -> tuple[slice, NDArray[np.float32] | None]:
    first, stop = needed_rows(axis, span.out_start, span.out_stop)
    offset = span.start * scale
    matrix = resize_matrix(axis.enlarged, axis.out, rows=(span.out_start, span.out_stop), columns=(first, stop))
    return slice(first - offset, stop - offset), matrix


def _write(canvas: Tensor, part: Tensor, row_span: Span, column_span: Span) -> None:
    columns = slice(column_span.out_start, column_span.out_stop)
    if canvas.dim() == 4:
        canvas[:, :, row_span.out_start : row_span.out_stop, columns] = part.clamp(0, 1)
        return
    for start in range(row_span.out_start, row_span.out_stop, WRITE_ROWS):  # in fp32 a whole part would be large
        stop = min(start + WRITE_ROWS, row_span.out_stop)
        rows = part[0, :, start - row_span.out_start : stop - row_span.out_start]
        pixels = rows.permute(1, 2, 0).float().clamp(0, 1)
        if canvas.dtype == torch.int16:
            canvas[start:stop, columns] = (pixels * 65535).round().sub(INT16_OFFSET).to(torch.int16)
        else:
            canvas[start:stop, columns] = (pixels * 255).round().to(torch.uint8)


def budget_values(budget_bytes: int, dtype: torch.dtype) -> Budget:
    """What fits into so many bytes."""
    return Budget(math.floor(budget_bytes / torch.finfo(dtype).bits * 8))
