"""How tensors are packed into blocks of host memory."""

from __future__ import annotations

import torch

from enlight.dreambooth_api.host_memory import TensorLayout, allocate, place


def test_a_layout_keeps_shape_dtype_and_order_of_memory() -> None:
    image = torch.zeros(2, 3, 4, 5, dtype=torch.float16).to(memory_format=torch.channels_last)
    layout = TensorLayout.of(image)
    assert layout == TensorLayout.dense(image.shape, torch.float16, channels_last=True)
    assert layout != TensorLayout.dense(image.shape, torch.float16, channels_last=False)
    assert layout.size_bytes == image.nbytes
    (copy,) = allocate({"image": layout}, pinned=False).values()
    assert copy.is_contiguous(memory_format=torch.channels_last)
    assert copy.dtype == torch.float16


def test_vectors_and_matrices_have_no_channels_last() -> None:
    layout = TensorLayout.dense(torch.Size([3, 4]), torch.float32, channels_last=True)
    assert layout.strides == (4, 1)


def test_tensors_are_placed_in_whole_blocks_without_overlap() -> None:
    # Given blocks of 1,024 bytes and tensors of many sizes, one of them larger than a block
    sizes_bytes = {f"t{index}": size for index, size in enumerate([1, 300, 512, 256, 2000, 7, 1000, 30])}
    # When they are placed
    blocks = place(sizes_bytes, 1024)
    # Then each is in one block, aligned, and none overlaps another or the end
    placed = [name for _, offsets in blocks for name in offsets]
    assert placed == list(sizes_bytes)
    for size_bytes, offsets in blocks:
        ends = [0]
        for name, offset in offsets.items():
            assert offset % 256 == 0
            assert offset >= ends[-1]
            ends.append(offset + sizes_bytes[name])
        assert ends[-1] <= size_bytes
    # And all but the last and the oversized have the block's size
    assert [size for size, _ in blocks] == [1024, 1024, 2048, 1024, 1024, 256]


def test_tensors_in_one_block_do_not_touch_each_other() -> None:
    # Given tensors of several types, some of them channels_last, allocated together
    sources = {
        "image": torch.randn(2, 3, 4, 5).half().to(memory_format=torch.channels_last),
        "matrix": torch.randn(7, 3),
        "scalar": torch.randn(()),
        "flags": torch.tensor([1, 2, 3], dtype=torch.int8),
    }
    copies = allocate({name: TensorLayout.of(source) for name, source in sources.items()}, pinned=False)
    # When each is written
    for name, source in sources.items():
        copies[name].copy_(source)
    # Then all hold what was written, in the same order of memory, in one allocation
    for name, source in sources.items():
        assert torch.equal(copies[name], source)
        assert copies[name].stride() == source.stride()
    assert len({copy.untyped_storage().data_ptr() for copy in copies.values()}) == 1


def test_nothing_needs_no_block() -> None:
    assert allocate({}, pinned=False) == {}
    assert place({}, 1024) == []
