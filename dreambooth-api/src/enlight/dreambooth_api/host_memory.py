"""Tensors side by side in large blocks of host memory, which is pinned where a GPU copies from it.

Pinned memory is handed out in powers of two, so a tensor at a time would waste a third; blocks of one size
waste nothing, and torch hands a freed block to the next model without asking the driver for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import torch

BLOCK_BYTES = 64 * 1024**2
_ALIGNMENT_BYTES = 256


@dataclass(frozen=True)
class TensorLayout:
    """Shape, dtype and strides of a tensor that is to be."""

    shape: torch.Size
    dtype: torch.dtype
    strides: tuple[int, ...]

    @classmethod
    def of(cls, tensor: torch.Tensor) -> TensorLayout:
        """The layout of a dense tensor, channels_last included."""
        return cls(tensor.shape, tensor.dtype, tensor.stride())

    @classmethod
    def dense(cls, shape: torch.Size, dtype: torch.dtype, *, channels_last: bool) -> TensorLayout:
        """A new dense layout; ``channels_last`` says how 4-dimensional tensors lie."""
        is_channels_last = channels_last and len(shape) == 4
        form = torch.channels_last if is_channels_last else torch.contiguous_format
        return cls.of(torch.empty(shape, dtype=dtype, device="meta", memory_format=form))

    @property
    def size_bytes(self) -> int:
        """Bytes of the elements."""
        return prod(self.shape) * self.dtype.itemsize


def allocate(layouts: Mapping[str, TensorLayout], *, pinned: bool) -> dict[str, torch.Tensor]:
    """Uninitialised CPU tensors of these layouts."""
    blocks = place({name: layout.size_bytes for name, layout in layouts.items()}, BLOCK_BYTES)
    tensors: dict[str, torch.Tensor] = {}
    for size_bytes, offsets in blocks:
        block = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=pinned)
        for name, offset in offsets.items():
            layout = layouts[name]
            part = block[offset : offset + layout.size_bytes].view(layout.dtype)
            tensors[name] = part.as_strided(layout.shape, layout.strides)
    return tensors


def place(sizes_bytes: Mapping[str, int], block_bytes: int) -> list[tuple[int, dict[str, int]]]:
    """Blocks as (size, offset of each tensor in it), filled in order; a larger tensor gets its own block."""
    blocks: list[tuple[int, dict[str, int]]] = []
    filled_bytes, offsets = 0, dict[str, int]()
    for name, size_bytes in sizes_bytes.items():
        if offsets and filled_bytes + size_bytes > block_bytes:
            blocks.append((filled_bytes, offsets))
            filled_bytes, offsets = 0, {}
        offsets[name] = filled_bytes
        filled_bytes += -(-size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
    if offsets:
        blocks.append((filled_bytes, offsets))
    # All but the last are whole blocks, so that any model can use what another one freed.
    return [(max(size, block_bytes) if i + 1 < len(blocks) else size, at) for i, (size, at) in enumerate(blocks)]
