"""Sizes, passes and tiles: arithmetic that must hold for every picture."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from enlight.realesrgan.pure.resampling import resize_matrix
from enlight.realesrgan.pure.sizes import PassPlan, Size, fit_long_side, plan_passes
from enlight.realesrgan.pure.tiles import Span, needed_rows, pass_axes, plan_tiles

sides = st.integers(1, 8192)


@pytest.mark.parametrize(
    ("size", "long_side", "plan"),
    [
        (Size(256, 256), 1024, PassPlan(Size(256, 256), (Size(1024, 1024),))),
        (Size(768, 1024), 4096, PassPlan(Size(768, 1024), (Size(3072, 4096),))),
        (Size(100, 300), 4096, PassPlan(Size(100, 300), (Size(341, 1024), Size(1365, 4096)))),
        (Size(1024, 1024), 1024, PassPlan(Size(1024, 1024), (Size(1024, 1024),))),
        (Size(1500, 3000), 1024, PassPlan(Size(512, 1024), (Size(512, 1024),))),
        (Size(3, 500), 1024, PassPlan(Size(3, 500), (Size(6, 1024),))),
        (Size(1, 1), 1024, PassPlan(Size(1, 1), tuple(Size(side, side) for side in (4, 16, 64, 256, 1024)))),
        (Size(1, 8192), 1024, PassPlan(Size(1, 1024), (Size(1, 1024),))),
    ],
)
def test_passes_lead_to_the_size_that_was_asked_for(size: Size, long_side: int, plan: PassPlan) -> None:
    assert plan_passes(size, long_side=long_side, scale=4) == plan


@given(st.builds(Size, sides, sides), st.integers(1024, 8192), st.sampled_from((2, 4)))
def test_the_result_has_the_long_side_and_the_aspect(size: Size, long_side: int, scale: int) -> None:
    plan = plan_passes(size, long_side=long_side, scale=scale)
    final = plan.passes[-1]
    assert final.long_side == long_side
    assert final == fit_long_side(size, long_side)
    assert abs(final.height * size.width - final.width * size.height) <= size.long_side / 2 + 1 or 1 in (
        final.height,
        final.width,
    )
    for before, after in itertools.pairwise((plan.start, *plan.passes)):
        assert after.long_side <= scale * before.long_side, "a result is never resized up"
    assert all(after.long_side * scale >= long_side for after in plan.passes[-2:-1])


@settings(deadline=None)
@given(
    st.builds(Size, st.integers(1, 700), st.integers(1, 700)),
    st.integers(1, 4),
    st.sampled_from((3, 16, 64)),
    st.sampled_from((1, 2)),
    st.integers(1_000, 200_000),
)
def test_tiles_cover_the_result_once_and_have_what_they_need(
    size: Size, shrink: int, halo: int, multiple: int, max_px: int
) -> None:
    scale = 4
    out = Size(max(1, size.height * scale // shrink), max(1, size.width * scale // shrink))
    rows, columns = pass_axes(size, out, scale=scale, multiple=multiple)
    tiles = plan_tiles(rows, columns, scale=scale, max_px=max_px, halo=halo, multiple=multiple)
    covered = np.zeros((out.height, out.width), int)
    for row, column in tiles:
        covered[row.out_start : row.out_stop, column.out_start : column.out_stop] += 1
        for axis, span in ((rows, row), (columns, column)):
            assert span.start % multiple == 0
            assert span.length % multiple == 0
            assert span.start >= 0
            assert span.start + span.length <= axis.size
            first, stop = needed_rows(axis, span.out_start, span.out_stop)
            assert max(0, first // scale - halo) >= span.start
            assert min(axis.size, -(-stop // scale) + halo) <= span.start + span.length
    assert (covered == 1).all()
    assert len({(row.length, column.length) for row, column in tiles}) == 1, "all tiles have one shape"
    row, column = tiles[0]
    assert row.length * column.length <= max_px or min(row.length, column.length) <= 3 * halo + multiple


def test_a_picture_that_fits_is_one_tile() -> None:
    rows, columns = pass_axes(Size(30, 40), Size(120, 160), scale=4, multiple=1)
    assert plan_tiles(rows, columns, scale=4, max_px=1200, halo=64, multiple=1) == [
        (Span(0, 30, 0, 120), Span(0, 40, 0, 160))
    ]


@pytest.mark.parametrize(("size", "out"), [(100, 61), (100, 99), (64, 8), (7, 50), (3, 1), (1, 9)])
def test_resizing_equals_pillows_lanczos(size: int, out: int) -> None:
    signal = np.random.default_rng(size).random((1, size), np.float32)
    matrix = resize_matrix(size, out, rows=(0, out), columns=(0, size))
    assert matrix is not None
    expected = np.asarray(Image.fromarray(signal, "F").resize((out, 1), Image.Resampling.LANCZOS))
    assert np.abs(signal @ matrix.T - expected).max() < 1e-5


def test_nothing_is_resized_where_sizes_agree() -> None:
    assert resize_matrix(10, 10, rows=(2, 5), columns=(2, 5)) is None
