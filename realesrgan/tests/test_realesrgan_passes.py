"""A pass in tiles gives what the whole network gives."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import realesrgan_stand_ins as stand_ins
import torch
from numpy.typing import NDArray
from PIL import Image
from realesrgan_pictures import sample
from realesrgan_weights import real_weights
from torch import Tensor, nn

from enlight.realesrgan.models import MODELS
from enlight.realesrgan.networks import Networks, staged
from enlight.realesrgan.pure.passes import Budget, canvas_pixels, new_canvas, resized, run_pass, to_tensor
from enlight.realesrgan.pure.sizes import Size
from enlight.realesrgan.pure.staged_networks import StagedNetwork, StagedRrdb

CPU = torch.device("cpu")
PLENTY = Budget(10**9)


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A part of a photo, or noise where it is not large enough."""
    photo: NDArray[np.uint8] = sample("astronaut")[80 : 80 + height, 180 : 180 + width]
    return np.ascontiguousarray(photo)


def tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return to_tensor(pixels, device=CPU, dtype=torch.float32)


def in_stages(network: nn.Module) -> StagedNetwork:
    network_in_stages = staged(network, device=CPU, dtype=torch.float32)
    assert network_in_stages is not None
    return network_in_stages


def nothing() -> None:
    pass


NETWORKS = {
    "rrdb x4": lambda: stand_ins.rrdbnet(),
    "rrdb x2": lambda: stand_ins.rrdbnet(scale=2),
    "compact": lambda: stand_ins.compact(convolutions=5),
}


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 50), (31, 33), (40, 40)])
def test_a_network_in_stages_gives_what_spandrels_gives(kind: str, size: tuple[int, int]) -> None:
    network = NETWORKS[kind]()
    given = tensor(picture(*size))
    with torch.inference_mode():
        in_one = network(given) if kind != "rrdb x2" or min(size) > 1 else None
        network_in_stages = in_stages(network)
        out = Size(size[0] * network_in_stages.scale, size[1] * network_in_stages.scale)
        in_tiles = run_pass(network_in_stages, given, out, budget=PLENTY, check=nothing)
    assert in_tiles.shape == (1, 3, out.height, out.width)
    assert torch.isfinite(in_tiles).all()
    if in_one is not None:
        assert (in_tiles - in_one.clamp(0, 1)).abs().max() < 1e-5


@pytest.mark.parametrize("strip_px", [1, 33, 100, 700])
def test_strips_of_the_tail_change_no_value(strip_px: int) -> None:
    network = in_stages(stand_ins.rrdbnet(seed=3))
    given = tensor(picture(20, 33))
    with torch.inference_mode():
        whole = network(given, strip_px=10**6, check=nothing)
        in_strips = network(given, strip_px=strip_px, check=nothing)
    assert (whole - in_strips).abs().max() < 1e-6


def test_the_tail_needs_its_halo() -> None:
    """The mutant: strips without pixels around them differ."""
    network = in_stages(stand_ins.rrdbnet(seed=3))
    given = tensor(picture(20, 33))
    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        whole = network(given, strip_px=10**6, check=nothing)
        patch.setattr("enlight.realesrgan.pure.staged_networks.TAIL_HALO_PX", 1)
        assert (whole - network(given, strip_px=100, check=nothing)).abs().max() > 1e-4


@pytest.mark.parametrize("out", [Size(400, 480), Size(301, 361), Size(133, 160), Size(100, 120)])
def test_tiles_of_a_compact_network_give_exactly_the_untiled_result(out: Size) -> None:
    network = in_stages(stand_ins.compact(convolutions=5))
    given = tensor(picture(100, 120))
    with torch.inference_mode():
        whole = run_pass(network, given, out, budget=PLENTY, check=nothing)
        checks: list[None] = []
        in_tiles = run_pass(network, given, out, budget=Budget(0), check=lambda: checks.append(None))
    assert len(checks) > 4, "there was more than one tile"
    assert (whole - in_tiles).abs().max() < 1e-6


def test_a_halo_that_is_too_small_is_seen() -> None:
    """The mutant: half of what the network sees."""
    network = in_stages(stand_ins.compact(convolutions=5))
    given = tensor(picture(100, 120))
    with torch.inference_mode():
        whole = run_pass(network, given, Size(400, 480), budget=PLENTY, check=nothing)
        network.halo_px = 1
        in_tiles = run_pass(network, given, Size(400, 480), budget=Budget(0), check=nothing)
    assert (whole - in_tiles).abs().max() > 1e-4


@pytest.mark.parametrize(("height", "width"), [(251, 333), (300, 201)])
def test_tiles_of_a_folding_network_give_the_untiled_result_for_odd_sizes(height: int, width: int) -> None:
    network = in_stages(stand_ins.rrdbnet(scale=2))
    assert isinstance(network, StagedRrdb)
    network.halo_px = 2 * (2 * 15 + 2)  # all that two blocks can see
    given = tensor(picture(height, width))
    out = Size(2 * height, 2 * width)
    with torch.inference_mode():
        whole = run_pass(network, given, out, budget=PLENTY, check=nothing)
        in_tiles = run_pass(network, given, out, budget=Budget(0), check=nothing)
    assert (whole - in_tiles).abs().max() < 1e-5


@pytest.mark.parametrize("out", [Size(90, 110), Size(251, 300), Size(37, 45)])
def test_a_pass_ends_with_pillows_lanczos(out: Size) -> None:
    network = in_stages(stand_ins.compact())
    given = tensor(picture(75, 90))
    with torch.inference_mode():
        enlarged = run_pass(network, given, Size(300, 360), budget=PLENTY, check=nothing)[0].numpy()
        small = run_pass(network, given, out, budget=PLENTY, check=nothing)[0].numpy()
        as_a_whole = resized(torch.from_numpy(enlarged)[None], out)[0].numpy()
    for plane, result, whole in zip(enlarged, small, as_a_whole, strict=True):
        expected = Image.fromarray(plane, "F").resize((out.width, out.height), Image.Resampling.LANCZOS)
        assert np.abs(np.clip(np.asarray(expected), 0, 1) - result).max() < 1e-5
        assert np.abs(np.asarray(expected) - whole).max() < 1e-5


def test_sixteen_bits_go_in_and_come_out() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (5, 6, 3), np.uint16)
    given = to_tensor(values, device=CPU, dtype=torch.float32)
    assert torch.equal(
        (given[0].permute(1, 2, 0) * 65535).round().to(torch.int32), torch.from_numpy(values.astype(int))
    )
    canvas = new_canvas(Size(5, 6), is_16_bit=True, device=CPU)
    run_pass(Identity(), given, Size(5, 6), budget=PLENTY, check=nothing, canvas=canvas)
    assert np.array_equal(canvas_pixels(canvas), values)


def test_eight_bits_go_in_and_come_out() -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    canvas = new_canvas(Size(5, 6), is_16_bit=False, device=CPU)
    run_pass(Identity(), tensor(values), Size(5, 6), budget=PLENTY, check=nothing, canvas=canvas)
    assert np.array_equal(canvas_pixels(canvas), values)


class Identity:
    scale = 1
    halo_px = 1
    multiple = 1
    values_per_px = 1

    def __call__(self, picture: Tensor, *, strip_px: int, check: object) -> Tensor:
        return picture


def test_a_budget_is_halved_until_nothing_is_left() -> None:
    budget: Budget | None = Budget(10**8)
    steps = 0
    while budget is not None:
        budget = budget.halved()
        steps += 1
    assert steps == 6


def test_the_borders_of_real_tiles_are_invisible() -> None:
    """A network sees further than its halo: what that changes is small, and no more where tiles meet than elsewhere."""
    networks = Networks(real_weights(), device=CPU, resident=1)
    network = networks.get(MODELS["RealESRGAN_x4plus_anime_6B"], denoise_strength=None, dtype=torch.float32)
    photo = cv2.resize(sample("astronaut"), (280, 280), interpolation=cv2.INTER_AREA)[20:220]
    given = tensor(np.ascontiguousarray(photo))
    out = Size(800, 1120)
    pictures = []
    with torch.inference_mode():
        for budget in (PLENTY, Budget(220 * 200 * network.values_per_px)):
            canvas = new_canvas(out, is_16_bit=False, device=CPU)
            run_pass(network, given, out, budget=budget, check=nothing, canvas=canvas)
            pictures.append(canvas_pixels(canvas).astype(int))
    whole, in_tiles = pictures
    difference = np.abs(whole - in_tiles)
    assert difference.max() <= 2
    assert difference.mean() < 0.02
    border = 560  # two tiles side by side
    steps = np.abs(np.diff(in_tiles, axis=1)).mean(axis=(0, 2))
    steps_of_whole = np.abs(np.diff(whole, axis=1)).mean(axis=(0, 2))
    assert abs(steps[border - 1] - steps_of_whole[border - 1]) < 0.05
    assert steps[border - 1] <= steps[border - 40 : border + 40].max()
