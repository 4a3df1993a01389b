"""Windows with the norms of the whole picture are closer to the picture made in one piece."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from enlight.upsampler.pure.shared_norms import SharedNorms, thinned
from enlight.upsampler.pure.windows import blend, plan_grid


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 8, 1), nn.GroupNorm(4, 8)
        )
        for module in made:
            if isinstance(module, nn.GroupNorm):
                nn.init.normal_(module.weight, 1, 0.3)
                nn.init.normal_(module.bias, 0, 0.3)
    return made.requires_grad_(requires_grad=False)


def uneven_picture() -> torch.Tensor:
    """Noise on the left, nearly nothing on the right."""
    generator = torch.Generator().manual_seed(1)
    strength = torch.where(torch.arange(64) < 32, 1.0, 0.05)
    return torch.randn((2, 3, 48, 64), generator=generator) * strength


def test_statistics_of_the_same_picture_change_nothing() -> None:
    made, picture = network(), uneven_picture()
    norms = SharedNorms(made)
    with norms.measuring():
        plain = made(picture)
    with norms.applied():
        shared = made(picture)
    assert torch.allclose(shared, plain, atol=1e-5)
    assert torch.equal(plain, made(picture))


@pytest.mark.parametrize("shape", [(2, 8, 40), (1, 8, 5, 6), (1, 8, 2, 3, 4)])
def test_any_number_of_dimensions(shape: tuple[int, ...]) -> None:
    norm = nn.GroupNorm(2, 8)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(0)) + 2
    norms = SharedNorms(norm)
    with norms.measuring():
        norm(values)
    with norms.applied():
        assert torch.allclose(norm(values), nn.functional.group_norm(values, 2), atol=1e-5)


def test_windows_come_closer_to_the_whole() -> None:
    made, picture = network(), uneven_picture()
    grid = plan_grid(48, 64, largest=32, overlap=8)
    whole = made(picture)
    own = blend(grid, lambda window: made(window.of(picture)))
    norms = SharedNorms(made)
    with norms.measuring():
        made(thinned(picture, grid))
    with norms.applied():
        shared = blend(grid, lambda window: made(window.of(picture)))
    assert (own - whole).abs().mean() > 5 * (shared - whole).abs().mean()


def test_the_network_is_itself_again_also_after_an_error() -> None:
    made, picture = network(), uneven_picture()
    before = made(picture)
    norms = SharedNorms(made)
    with norms.measuring():
        made(picture[..., :16])
    with pytest.raises(RuntimeError, match="cancelled"), norms.applied():
        raise RuntimeError("cancelled")
    assert torch.equal(made(picture), before)


def test_thinning_keeps_the_strength_of_noise() -> None:
    picture = torch.randn((1, 3, 128, 128), generator=torch.Generator().manual_seed(0))
    small = thinned(picture, plan_grid(128, 128, largest=48, overlap=8))
    assert small.shape == (1, 3, 48, 48)
    assert float(small.std()) == pytest.approx(1.0, abs=0.05)  # averaging would leave 0.4
