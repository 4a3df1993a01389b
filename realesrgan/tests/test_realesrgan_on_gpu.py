"""What is different on a GPU: half precision, the fused trunk, memory that runs out."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from gpu_memory import room_bytes
from numpy.typing import NDArray
from realesrgan_pictures import photo
from spandrel.architectures.ESRGAN import ESRGAN
from torch import Tensor, nn

from enlight.realesrgan import networks
from enlight.realesrgan.networks import staged
from enlight.realesrgan.pure import staged_networks
from enlight.realesrgan.pure.passes import Budget, canvas_pixels, new_canvas, run_pass, to_tensor
from enlight.realesrgan.pure.sizes import Size
from enlight.realesrgan.pure.staged_networks import PublishedTrunk, StagedNetwork
from enlight.torchkit.gpu_errors import is_out_of_memory

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
GPU = torch.device("cuda:0")
SCALE = 4


def nothing() -> None:
    pass


def network(blocks: int = 2, scale: int = 4) -> ESRGAN:
    """Random, of the published widths; its pictures have contrast."""
    torch.manual_seed(5)
    fold = 2 if scale == 2 else None
    made = ESRGAN(in_nc=12 if fold else 3, num_filters=64, num_blocks=blocks, scale=4, shuffle_factor=fold)
    return made.eval().requires_grad_(requires_grad=False)


def residual_blocks(dtype: torch.dtype = torch.float16) -> list[list[nn.Module]]:
    on_gpu = network().to(GPU, dtype).to(memory_format=torch.channels_last)
    *blocks, _ = on_gpu.model[1].sub.children()
    return [list(block.children()) for block in blocks]


def features(height: int, width: int) -> Tensor:
    given = torch.randn((1, 64, height, width), generator=torch.Generator().manual_seed(1))
    return given.to(GPU, torch.float16).contiguous(memory_format=torch.channels_last)


def enlarged(in_stages: StagedNetwork, pixels: NDArray[np.uint8], budget: Budget) -> NDArray[np.integer]:
    size = Size(pixels.shape[0] * in_stages.scale, pixels.shape[1] * in_stages.scale)
    canvas = new_canvas(size, is_16_bit=False, device=GPU)
    given = to_tensor(pixels, device=GPU, dtype=torch.float16)
    with torch.inference_mode():
        return canvas_pixels(run_pass(in_stages, given, size, budget=budget, check=nothing, canvas=canvas))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (37, 53), (128, 127), (128, 128), (200, 641)])
def test_the_fused_trunk_gives_what_the_published_one_gives(size: tuple[int, int]) -> None:
    blocks, given = residual_blocks(), features(*size)
    trunk = networks.fused_trunk(blocks)
    assert trunk is not None
    with torch.inference_mode():
        expected = PublishedTrunk(blocks)(given, nothing).float()
        found = trunk(given, nothing).float()
    assert (found - expected).abs().max() < 0.01 * expected.abs().max()


def test_another_size_compiles_nothing_again() -> None:
    from enlight.realesrgan.pure import fused_trunk

    trunk = networks.fused_trunk(residual_blocks())
    assert trunk is not None

    def compiled() -> int:
        return sum(len(kernels[0]) for kernels in fused_trunk._convolve.device_caches.values())

    before = compiled()
    assert before > 0
    for size in ((16, 15), (64, 63), (1, 1), (31, 64)):
        trunk(features(*size), nothing)
    assert compiled() == before


@pytest.mark.parametrize("scale", [4, 2])
def test_pictures_are_those_of_the_plain_network(scale: int) -> None:
    plain, pixels = network(scale=scale), photo(90, 70)
    in_stages = staged(network(scale=scale), device=GPU, dtype=torch.float16)
    assert in_stages is not None
    with torch.inference_mode():
        given = to_tensor(pixels, device=GPU, dtype=torch.float32)
        expected = plain.to(GPU)(given)[0].permute(1, 2, 0).clamp(0, 1) * 255
    difference = np.abs(enlarged(in_stages, pixels, Budget(10**9)) - expected.cpu().numpy())
    assert difference.max() < 3
    assert difference.mean() < 0.6  # half a level is rounding's


@pytest.mark.parametrize("fault", ["raises", "computes nonsense"])
def test_kernels_that_do_not_work_are_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    from enlight.realesrgan.pure.fused_trunk import FusedTrunk

    def broken(self: FusedTrunk, given: Tensor, check: staged_networks.Check) -> Tensor:
        if fault == "raises":
            raise RuntimeError("Failed to find C compiler.")
        return given

    monkeypatch.setattr(FusedTrunk, "__call__", broken)
    with caplog.at_level(logging.WARNING):
        assert networks.fused_trunk(residual_blocks()) is None
    assert "without its fused trunk" in caplog.text
    # And pictures come all the same
    in_stages = staged(network(), device=GPU, dtype=torch.float16)
    assert in_stages is not None
    assert enlarged(in_stages, photo(20, 20), Budget(10**9)).std() > 0


def test_in_full_precision_the_published_trunk_runs() -> None:
    assert networks.fused_trunk(residual_blocks(torch.float32)) is None


def test_a_budget_that_is_kept_is_enough() -> None:
    in_stages = staged(network(), device=GPU, dtype=torch.float16)
    assert in_stages is not None
    pixels = photo(700, 700)
    whole = enlarged(in_stages, pixels, Budget(10**9))
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(GPU)
    before = torch.cuda.memory_allocated(GPU)
    budget = Budget(50 * 10**6)
    in_tiles = enlarged(in_stages, pixels, budget)
    taken = torch.cuda.max_memory_allocated(GPU) - before
    pictures = pixels.size * 2 + in_tiles.size
    print(f"{taken / 2 / budget.values:.2f} of the budget, pictures {pictures / 2 / budget.values:.2f}")
    assert taken < 2 * budget.values + 2 * pictures
    assert np.abs(whole.astype(int) - in_tiles).max() <= 3


def test_memory_that_runs_out_is_told_as_that() -> None:
    in_stages = staged(network(), device=GPU, dtype=torch.float16)
    assert in_stages is not None
    with room_bytes(64 << 20, GPU), pytest.raises(RuntimeError) as raised:
        enlarged(in_stages, photo(600, 600), Budget(10**9))
    assert is_out_of_memory(raised.value)
