"""The fused trunk computes what the published one does; here by Triton's interpreter, on a CPU."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
from spandrel.architectures.ESRGAN import ESRGAN
from torch import Tensor, nn

from enlight.realesrgan import networks
from enlight.realesrgan.pure.staged_networks import NearestDouble, PublishedTrunk

MODULE = "enlight.realesrgan.pure.fused_trunk"
FEATURES = 64


@pytest.fixture
def fused_trunk(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The module, with kernels that Triton interprets: it decides so when it sees a kernel's definition."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    yield importlib.import_module(MODULE)
    sys.modules.pop(MODULE, None)


@pytest.fixture
def no_memory_is_as_it_was() -> Iterator[None]:
    """New tensors hold not-a-number until they are written."""
    torch.use_deterministic_algorithms(mode=True)
    yield
    torch.use_deterministic_algorithms(mode=False)


def residual_blocks(count: int = 2, features: int = FEATURES) -> list[list[nn.Module]]:
    torch.manual_seed(3)
    network = ESRGAN(num_filters=features, num_blocks=count, scale=4).eval().requires_grad_(requires_grad=False)
    *blocks, _ = network.model[1].sub.children()
    return [list(block.children()) for block in blocks]


def nothing() -> None:
    pass


def random(height: int, width: int) -> Tensor:
    return torch.randn((1, FEATURES, height, width), generator=torch.Generator().manual_seed(1))


@pytest.mark.usefixtures("no_memory_is_as_it_was")
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (9, 13), (16, 16), (13, 31)])
def test_the_fused_trunk_gives_what_the_published_one_gives(fused_trunk: ModuleType, size: tuple[int, int]) -> None:
    blocks, given = residual_blocks(), random(*size)
    expected = PublishedTrunk(blocks)(given, nothing)
    # When the kernels run in half precision, then only its rounding is between the two
    found = fused_trunk.FusedTrunk(blocks)(given.half(), nothing)
    assert found.shape == expected.shape
    assert (found.float() - expected).abs().max() < 0.004 * expected.abs().max()
    # And the blocks do something
    assert (expected - given).abs().max() > 0.05


def test_between_dense_blocks_a_word_can_stop_it(fused_trunk: ModuleType) -> None:
    words: list[int] = []
    fused_trunk.FusedTrunk(residual_blocks())(random(2, 2).half(), lambda: words.append(1))
    assert len(words) == 6

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        fused_trunk.FusedTrunk(residual_blocks())(random(2, 2).half(), stop)


def test_the_kernels_are_for_one_shape(fused_trunk: ModuleType) -> None:
    assert fused_trunk.fits(residual_blocks())
    assert not fused_trunk.fits(residual_blocks(features=32))
    assert not fused_trunk.fits([[nn.Sequential(nn.Conv2d(3, 3, 3))] * 3])
    assert not fused_trunk.fits([block[:1] for block in residual_blocks()])


def test_on_a_cpu_the_published_trunk_runs() -> None:
    assert networks.fused_trunk(residual_blocks()) is None


def test_a_trunk_that_computes_something_else_is_told() -> None:
    blocks = residual_blocks(1)
    for dense_block in blocks[0]:
        dense_block.half()
    published = PublishedTrunk(blocks)
    networks._compare(published, published, torch.device("cpu"))
    for wrong in (1.1, float("nan")):
        with pytest.raises(ArithmeticError, match="wrong by"):
            networks._compare(
                lambda features, check, by=wrong: by * published(features, check),  # type: ignore[misc]
                published,
                torch.device("cpu"),
            )


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_doubling_is_that_of_torch(memory_format: torch.memory_format) -> None:
    given = torch.randn((2, 5, 7, 3)).contiguous(memory_format=memory_format)
    assert torch.equal(NearestDouble()(given), nn.Upsample(scale_factor=2, mode="nearest")(given))
