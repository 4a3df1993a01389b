"""Windows cover the picture, agree at their borders, and leave no seam in what is made of them."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as functional
from hypothesis import given
from hypothesis import strategies as st

from enlight.upsampler.pure.windows import Axis, Grid, Window, blend, plan_axis, plan_grid


@given(
    cells=st.integers(1, 80),
    largest=st.integers(6, 64),
    share=st.integers(3, 8),
    multiple=st.sampled_from([1, 2, 4, 8]),
)
def test_windows_cover_everything_and_overlap_their_neighbours_only(
    cells: int, largest: int, share: int, multiple: int
) -> None:
    length, largest = cells * multiple, largest * multiple
    overlap = max(multiple, largest // share)
    if overlap > largest // 2 - multiple:
        return
    axis = plan_axis(length, largest=largest, overlap=overlap, multiple=multiple)
    assert axis.size <= largest
    assert axis.starts[0] == 0
    assert axis.starts[-1] + axis.size == length
    assert all(start % multiple == 0 for start in axis.starts)
    for start, following in pairwise(axis.starts):
        assert start + axis.size - following > overlap - multiple
    for start, after_next in zip(axis.starts, axis.starts[2:], strict=False):
        assert start + axis.size <= after_next
    total = torch.zeros(length * 2)
    for start, weight in zip(axis.starts, axis.weights(2), strict=True):
        assert (weight >= 0).all()
        total[2 * start : 2 * (start + axis.size)] += weight
    assert torch.allclose(total, torch.ones(length * 2), atol=1e-6)


@pytest.mark.parametrize(
    ("length", "largest", "overlap", "multiple"), [(100, 50, 30, 1), (100, 50, 0, 1), (100, 48, 8, 8), (96, 50, 8, 8)]
)
def test_windows_that_cannot_be_are_refused(length: int, largest: int, overlap: int, multiple: int) -> None:
    with pytest.raises(ValueError, match=r"overlap|multiples"):
        plan_axis(length, largest=largest, overlap=overlap, multiple=multiple)


def test_the_windows_of_the_largest_picture_at_the_default_sizes() -> None:
    assert plan_axis(512, largest=192, overlap=32) == Axis(512, 192, (0, 160, 320))
    assert plan_axis(512, largest=320, overlap=64, multiple=8) == Axis(512, 288, (0, 224))
    assert plan_axis(512, largest=512, overlap=100, multiple=8) == Axis(512, 512, (0,))


def test_a_window_counts_nothing_at_its_edge_and_all_in_its_middle() -> None:
    axis = plan_axis(48, largest=32, overlap=12)
    left, right = axis.weights(4)
    shared = (axis.starts[0] + axis.size - axis.starts[1]) * 4
    assert left[-shared // 8 :].abs().max() < 1e-3  # there the network sees padding instead of the picture
    assert right[: shared // 8].abs().max() < 1e-3
    assert left[0] == right[-1] == 1  # the picture's own border


def test_one_window_is_not_touched() -> None:
    answer = torch.full((1, 3, 8, 8), 0.1, dtype=torch.float16)
    assert blend(plan_grid(8, 8, largest=16, overlap=4), lambda window: answer) is answer


def grid() -> Grid:
    made = plan_grid(96, 128, largest=64, overlap=24, multiple=4)
    assert made.count == 6
    return made


def enlarge(picture: torch.Tensor) -> torch.Tensor:
    """A network that looks three cells far: a blur with zero padding, an edge filter, four times as large."""
    kernel = torch.ones(picture.shape[1], 1, 7, 7) / 49
    blurred = functional.conv2d(picture, kernel, padding=3, groups=picture.shape[1])
    return functional.interpolate(picture + torch.tanh(3 * (picture - blurred)), scale_factor=4, mode="nearest")


def pictures() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 1, 96), torch.linspace(0, 1, 128), indexing="ij")
    return {
        "flat": torch.full((1, 3, 96, 128), 0.4),
        "ramp": torch.stack([x, y, x * y])[None],
        "texture": torch.randn((1, 3, 96, 128), generator=generator) * 0.3,
        "waves": torch.sin(torch.stack([40 * x, 55 * y, 30 * (x + y)]))[None],
    }


@pytest.mark.parametrize("name", ["flat", "ramp", "texture", "waves"])
def test_a_network_that_looks_less_far_than_an_eighth_of_the_overlap_gives_the_whole_picture(name: str) -> None:
    picture = pictures()[name]
    whole = enlarge(picture)
    in_windows = blend(grid(), lambda window: enlarge(window.of(picture)), scale=4)
    assert (in_windows - whole).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["flat", "texture"])
def test_no_step_where_windows_meet_even_if_each_has_its_own_tone(name: str) -> None:
    # Given windows that differ in tone by as much as 0.2 from their neighbours
    picture = pictures()[name]
    whole = enlarge(picture)

    def toned(window: Window) -> torch.Tensor:
        tone = 0.1 if (window.top // 10 + window.left // 10) % 2 else -0.1
        return enlarge(window.of(picture)) + tone

    # When they become one picture
    change = blend(grid(), toned, scale=4) - whole

    # Then the tone changes over pixels by a hundredth, not at once: no line can be seen
    assert change.abs().max() <= 0.1 + 1e-5
    assert change.diff(dim=-1).abs().max() < 0.02
    assert change.diff(dim=-2).abs().max() < 0.02
