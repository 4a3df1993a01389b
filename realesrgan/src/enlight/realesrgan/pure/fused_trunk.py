"""An RRDBNet's trunk as five kernels a dense block, in fp16, on GPUs of NVIDIA's Hopper generation or later (Triton).

As published, each of a dense block's five convolutions reads everything that came before it, laid side by side again
and again, and four of the five have 32 outputs, too few to fill a matrix unit. A convolution of things side by side is
the sum of the convolutions of each. So here a thing is convolved, as soon as it is there, for all that will need it:

====  =======================  ================================  ==========
step  reads                    adds to the sums of               completes
====  =======================  ================================  ==========
0     the block's features     x1 x2 x3 x4 and the block's end   x1
1     x1                       x2                                x2
2     x1 and x2                x3 x4 and the end                 x3
3     x3                       x4                                x4
4     x3 and x4                the end                           the block
====  =======================  ================================  ==========

The same products as in the published order (Wang et al., "ESRGAN", 2018, section 3.1), summed in fp32 within a step
and rounded to fp16 between steps. Bias, activation and the skip connections are done by the step that completes a sum.

A picture lies flat, one row of numbers per pixel, with one zero pixel after each line of W pixels: then the pixel that
is ``dx`` to the right and ``dy`` below is ``dy * (W + 1) + dx`` further on, and past every edge there are zeros, as the
convolutions are published to see. Before the first and behind the last pixel the GPU's copy engine gives zeros itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from triton.tools.tensor_descriptor import TensorDescriptor

from enlight.realesrgan.pure.staged_networks import RESIDUAL_SCALE, Check

FEATURES = 64
GROWTH = 32
CONVOLUTIONS = 5
SUMS = (CONVOLUTIONS - 1) * GROWTH + FEATURES
"""Channels of the sums: x1, x2, x3, x4, and what the block adds to its features."""
TAPS = 9
NEGATIVE_SLOPE = 0.2
BLOCK_PX = 128
"""Pixels of one program. With the warps and stages below the fastest of 30 to 60 forms of each step on an H200, or
within 2 % of it."""
WARPS = 4


class _Step(NamedTuple):
    source: slice | None
    """Channels of the sums that are read; None: the block's features."""
    first_output: int
    widths: tuple[int, int]
    """Outputs in two parts, because a tile's side is a power of two; the second may be none."""
    stages: int
    """Taps that are under way at once."""


_STEPS = (
    _Step(None, 0, (128, 64), 2),
    _Step(slice(0, 32), 32, (32, 0), 4),
    _Step(slice(0, 64), 64, (128, 0), 3),
    _Step(slice(64, 96), 96, (32, 0), 4),
    _Step(slice(64, 128), 128, (64, 0), 3),
)


@triton.jit
def _complete(
    total,
    sums,
    bias,
    features,
    outer,
    out,
    px,
    pixels,
    line_px,
    first_output: tl.constexpr,
    width: tl.constexpr,
    sums_width: tl.constexpr,
    activated: tl.constexpr,
    slope: tl.constexpr,
    residual_scale: tl.constexpr,
    is_first: tl.constexpr,
    is_last: tl.constexpr,
    has_outer: tl.constexpr,
):
    """Adds what the sums hold already, activates or closes the block, and writes; zeros at the lines' ends."""
    channel = tl.arange(0, width)
    inside = (px < pixels)[:, None]
    places = px[:, None] * sums_width + first_output + channel[None, :]
    if is_first:
        total += tl.load(bias + first_output + channel)[None, :]
    else:
        total += tl.load(sums + places, mask=inside, other=0.0).to(tl.float32)
    if is_last:
        places = px[:, None] * width + channel[None, :]
        total = tl.load(features + places, mask=inside, other=0.0).to(tl.float32) + residual_scale * total
        if has_outer:
            total = tl.load(outer + places, mask=inside, other=0.0).to(tl.float32) + residual_scale * total
        target = out
    else:
        total = tl.where((channel < activated)[None, :] & (total < 0), slope * total, total)
        target = sums
    total = tl.where(((px % line_px) != line_px - 1)[:, None], total, 0.0)
    tl.store(target + places, total.to(tl.float16), mask=inside)


@triton.jit(do_not_specialize=["pixels", "line_px"])
def _convolve(
    source,
    first_weights,
    second_weights,
    bias,
    sums,
    features,
    outer,
    out,
    pixels,
    line_px,
    inputs: tl.constexpr,
    first_output: tl.constexpr,
    first_width: tl.constexpr,
    second_width: tl.constexpr,
    sums_width: tl.constexpr,
    growth: tl.constexpr,
    slope: tl.constexpr,
    residual_scale: tl.constexpr,
    is_first: tl.constexpr,
    is_last: tl.constexpr,
    has_outer: tl.constexpr,
    block_px: tl.constexpr,
    taps: tl.constexpr,
):
    """One step for ``block_px`` pixels: nine matrix products, one per tap of the 3x3 convolution."""
    start = tl.program_id(0) * block_px
    first = tl.full((block_px, first_width), 0, tl.float32)
    if second_width > 0:
        second = tl.full((block_px, second_width), 0, tl.float32)
    for tap in range(taps):
        tile = source.load([start + (tap // 3 - 1) * line_px + tap % 3 - 1, 0])
        first = tl.dot(tile, first_weights.load([tap * inputs, 0]), first)
        if second_width > 0:
            second = tl.dot(tile, second_weights.load([tap * inputs, 0]), second)
    px = start + tl.arange(0, block_px)
    _complete(
        first, sums, bias, features, outer, out, px, pixels, line_px,
        first_output, first_width, sums_width, growth, slope, residual_scale, is_first, is_last, has_outer,
    )  # fmt: skip
    if second_width > 0:
        _complete(
            second, sums, bias, features, outer, out, px, pixels, line_px,
            first_output + first_width, second_width, sums_width, 0, slope, residual_scale, is_first, is_last,
            has_outer,
        )  # fmt: skip


class _DenseBlock:
    """A published dense block's weights, as the five steps read them."""

    def __init__(self, convolutions: Sequence[nn.Conv2d]) -> None:
        outputs = [index * GROWTH for index in range(CONVOLUTIONS)]
        self._weights: list[tuple[Tensor, Tensor | None]] = []
        for step in _STEPS:
            last_output = step.first_output + sum(step.widths)
            read = slice(0, FEATURES)
            if step.source is not None:
                read = slice(FEATURES + step.source.start, FEATURES + step.source.stop)
            rows = [
                convolution.weight[:, read]
                for first_output, convolution in zip(outputs, convolutions, strict=True)
                if step.first_output <= first_output < last_output
            ]
            by_tap = torch.cat(rows).permute(2, 3, 1, 0).flatten(0, 2).to(torch.float16)
            first, second = by_tap[:, : step.widths[0]], by_tap[:, step.widths[0] :]
            self._weights.append((first.contiguous(), second.contiguous() if step.widths[1] else None))
        biases = [convolution.bias for convolution in convolutions if convolution.bias is not None]
        self._bias = torch.cat(biases).float()

    def __call__(self, features: Tensor, out: Tensor, outer: Tensor | None, sums: Tensor, *, line_px: int) -> None:
        """Writes ``features`` + 0.2 * block to ``out``, or ``outer`` + 0.2 * that. ``out`` may be ``features``."""
        pixels = features.shape[0]
        for step, (first, second) in zip(_STEPS, self._weights, strict=True):
            source = features if step.source is None else sums[:, step.source]
            inputs = source.shape[1]
            first_weights = _tiles(first, inputs)
            _convolve[(triton.cdiv(pixels, BLOCK_PX),)](
                _tiles(source, BLOCK_PX),
                first_weights,
                first_weights if second is None else _tiles(second, inputs),
                self._bias,
                sums,
                features,
                outer,
                out,
                pixels,
                line_px,
                inputs=inputs,
                first_output=step.first_output,
                first_width=step.widths[0],
                second_width=step.widths[1],
                sums_width=SUMS,
                growth=GROWTH,
                slope=NEGATIVE_SLOPE,
                residual_scale=RESIDUAL_SCALE,
                is_first=step is _STEPS[0],
                is_last=step is _STEPS[-1],
                has_outer=outer is not None,
                block_px=BLOCK_PX,
                taps=TAPS,
                num_warps=WARPS,
                num_stages=step.stages,
            )


class FusedTrunk:
    """The residual blocks of three dense blocks each.

    Args:
        blocks: The published modules, see `fits`.
    """

    def __init__(self, blocks: Sequence[Sequence[nn.Module]]) -> None:
        self._blocks = [[_DenseBlock(_convolutions(dense_block)) for dense_block in block] for block in blocks]

    def __call__(self, features: Tensor, check: Check) -> Tensor:
        """(1, 64, H, W) fp16 to the same. ``check`` is called between dense blocks, and may raise."""
        _, channels, height, width = features.shape
        line_px = width + 1
        current = features.new_zeros((height * line_px, channels))
        current.view(height, line_px, channels)[:, :width] = features[0].permute(1, 2, 0)
        inner, sums = torch.empty_like(current), current.new_empty((height * line_px, SUMS))
        with torch.cuda.device_of(features):  # type: ignore[no-untyped-call]  # Triton starts kernels on the current GPU
            for block in self._blocks:
                for index, dense_block in enumerate(block):
                    check()
                    given = current if index == 0 else inner
                    outer = current if index == len(block) - 1 else None
                    dense_block(given, inner, outer, sums, line_px=line_px)
                current, inner = inner, current
        return current.view(height, line_px, channels)[:, :width].permute(2, 0, 1)[None]


def fits(blocks: Sequence[Sequence[nn.Module]]) -> bool:
    """Whether the kernels are for blocks of this shape: 64 features, 32 more with each convolution."""
    expected = [(GROWTH, FEATURES + index * GROWTH, 3, 3) for index in range(CONVOLUTIONS - 1)]
    expected.append((FEATURES, SUMS, 3, 3))
    return all(
        len(block) > 1
        and all([tuple(found.weight.shape) for found in _convolutions(dense)] == expected for dense in block)
        for block in blocks
    )


def _convolutions(dense_block: nn.Module) -> list[nn.Conv2d]:
    return [module for module in dense_block.modules() if isinstance(module, nn.Conv2d)]


def _tiles(values: Tensor, rows: int) -> Any:  # noqa: ANN401 -- Triton has no types
    """(R, C), for the copy engine to read in tiles of ``rows`` x C, with zeros where there is nothing."""
    return TensorDescriptor(values, list(values.shape), [values.stride(0), 1], [rows, values.shape[1]])
