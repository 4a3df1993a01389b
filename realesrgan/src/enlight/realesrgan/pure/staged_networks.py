"""The family's two architectures, run in stages, so that memory stays small while tiles are large.

An RRDBNet does nine tenths of its arithmetic in the trunk, at the input's resolution, and holds nine tenths of its
memory in the tail, at the output's. The trunk sees 64 pixels and more around each pixel, the tail two. So the trunk
runs on a tile as large as fits, and the tail on strips of it, which changes no value. Between two blocks and between
two strips there is time for a word: does anybody still wait for this?
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

RRDB_HALO_PX = 64
"""Input pixels around a tile. The network can see further, and all but does not. Largest difference to the untiled
result at a tile's border, over 176 x 176 pixels of the astronaut, in levels of 255, x4plus (anime 6B): halo 10 (as in
upstream's program): 42 (48); 24: 18 (14); 32: 10 (4.5); 48: 2.1 (0.4), on average 0.12 (0.02); 64,
which is used, was not measured apart."""
RESIDUAL_SCALE = 0.2
"""Of what a block adds to its input."""
TAIL_HALO_PX = 2
"""The tail is four 3x3 convolutions, one at twice and three at four times the trunk's resolution: 1.25 pixels."""
RRDB_TRUNK_VALUES = 640
"""Values per input pixel that the trunk holds at its widest: the dense block's inputs side by side (192) and apart,
the sums that three levels of skip connections wait for. A fused trunk holds fewer."""
RRDB_TAIL_VALUES = 16 * 64 * 4
COMPACT_VALUES = 64 * 5

Check = Callable[[], None]


class StagedNetwork(Protocol):
    """What a pass needs to know of a network."""

    scale: int
    halo_px: int
    """Of the input, on each side of a tile."""
    multiple: int
    """Tiles begin and end at multiples of this."""
    values_per_px: int
    """Memory of a tile, in values per input pixel."""

    def __call__(self, picture: Tensor, *, strip_px: int, check: Check) -> Tensor:
        """(1, 3, H, W) to (1, 3, scale * H, scale * W); about [0, 1] in and out, not clamped.

        ``strip_px``: input pixels that the part at the output's resolution takes at once. ``check`` is called between
        pieces of work, and may raise.
        """
        ...


Trunk = Callable[[Tensor, Check], Tensor]
"""(1, F, H, W) to the same; calls the check between pieces of work."""


class PublishedTrunk:
    """The residual blocks of an RRDBNet, as they are published.

    Args:
        blocks: Of each block, its dense blocks. The skip connections around them are made here.
    """

    def __init__(self, blocks: Sequence[Sequence[nn.Module]]) -> None:
        self._blocks = blocks

    def __call__(self, features: Tensor, check: Check) -> Tensor:
        """(1, F, H, W) to the same. ``check`` is called between dense blocks, and may raise."""
        for block in self._blocks:
            inner = features
            for dense_block in block:
                check()
                inner = dense_block(inner)
            features = torch.add(features, inner, alpha=RESIDUAL_SCALE)
        return features


class NearestDouble(nn.Module):
    """Each pixel four times, as ``nn.Upsample(scale_factor=2)`` does it, which takes longer for channels_last."""

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 2 * H, 2 * W)."""
        count, channels, height, width = features.shape
        pixels = features.permute(0, 2, 3, 1)[:, :, None, :, None]
        doubled = pixels.expand(count, height, 2, width, 2, channels)
        return doubled.reshape(count, 2 * height, 2 * width, channels).permute(0, 3, 1, 2)


class StagedRrdb:
    """An RRDBNet, 4x, or 2x with its input folded into channels.

    Args:
        head: First convolution.
        trunk: The residual blocks.
        body: The trunk's last convolution.
        tail: The rest.
        fold: The input's pixels of ``fold`` x ``fold`` become channels.
        trunk_scale: Of the tail.
    """

    def __init__(
        self,
        head: nn.Module,
        trunk: Trunk,
        body: nn.Module,
        tail: nn.Module,
        *,
        fold: int,
        trunk_scale: int,
    ) -> None:
        self._head = head
        self._trunk = trunk
        self._body = body
        self._tail = tail
        self._fold = fold
        self._trunk_scale = trunk_scale
        self.scale = trunk_scale // fold
        self.halo_px = RRDB_HALO_PX * fold
        self.multiple = fold
        self.values_per_px = RRDB_TRUNK_VALUES // fold**2

    def __call__(self, picture: Tensor, *, strip_px: int, check: Check) -> Tensor:
        """See `StagedNetwork`."""
        folded = picture if self._fold == 1 else functional.pixel_unshuffle(picture, self._fold)
        first = self._head(folded)
        features = first + self._body(self._trunk(first, check))
        del first
        return self._run_tail(features, max(1, strip_px // (self._fold**2 * features.shape[3])), check)

    def _run_tail(self, features: Tensor, rows: int, check: Check) -> Tensor:
        _, _, height, width = features.shape
        scale = self._trunk_scale
        out = features.new_empty((1, 3, height * scale, width * scale))
        for start in range(0, height, rows):
            check()
            stop = min(height, start + rows)
            above = min(start, TAIL_HALO_PX)
            strip = self._tail(features[:, :, start - above : stop + TAIL_HALO_PX])
            out[:, :, start * scale : stop * scale] = strip[:, :, above * scale : (above + stop - start) * scale]
        return out


class StagedCompact:
    """An SRVGGNetCompact: all of it at the input's resolution, and small. It sees one pixel per convolution."""

    multiple = 1
    values_per_px = COMPACT_VALUES

    def __init__(self, network: nn.Module, *, scale: int, convolutions: int) -> None:
        self._network = network
        self.scale = scale
        self.halo_px = convolutions

    def __call__(self, picture: Tensor, *, strip_px: int, check: Check) -> Tensor:
        """See `StagedNetwork`."""
        check()
        out: Tensor = self._network(picture)
        return out


def interpolated(first: dict[str, Tensor], second: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """``share`` of the first network's weights and the rest of the second's, name by name (deep network interpolation).

    Raises:
        ValueError: the two are not of one architecture.
    """
    if {name: value.shape for name, value in first.items()} != {name: value.shape for name, value in second.items()}:
        raise ValueError("the two networks are not of one architecture")
    return {name: share * value.float() + (1 - share) * second[name].float() for name, value in first.items()}
