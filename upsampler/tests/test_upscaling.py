"""One window gives diffusers' picture; several give the same picture, without a seam."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
import upsampler_diffusers
from made_upscalers import CopyingUpscaler, NormingUpscaler
from upsampler_service import Pixels, photo

from enlight.servicekit.errors import Cancelled
from enlight.upsampler.pure.colours import match_low_frequencies
from enlight.upsampler.pure.schedulers import UnknownSchedulerError, make_scheduler
from enlight.upsampler.pure.upscaling import Conditioning, UpscalingModel, WindowSizes, is_guided, upscale
from enlight.upsampler.upscaler_model import UpscalerModel

WHOLE = WindowSizes(512, 512)


@pytest.fixture(scope="module")
def pipeline(tiny_folder: Path) -> Any:
    return upsampler_diffusers.load_pipeline(tiny_folder)


def as_input(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1


def as_pixels(picture: torch.Tensor) -> Pixels:
    rgb = ((picture[0] * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0)
    return rgb.numpy()


def conditioning(
    model: UpscalerModel, prompt: str, *, negative: str = "", guidance_scale: float = 1.0, noise_level: int = 20
) -> Conditioning:
    guided = is_guided(guidance_scale)
    return Conditioning(
        model.encode_prompt(prompt), model.encode_prompt(negative) if guided else None, guidance_scale, noise_level
    )


def without_prompt(noise_level: int = 0) -> Conditioning:
    return Conditioning(torch.zeros(1, 1, 1), None, 1.0, noise_level)


@pytest.mark.parametrize(
    ("size", "seed", "steps", "guidance_scale", "noise_level", "prompt", "negative"),
    [
        ((64, 48), 5, 4, 9.0, 20, "a cat", ""),
        ((48, 64), 6, 3, 9.0, 20, "a cat", "blurred"),
        ((64, 64), 7, 3, 1.0, 0, "a cat", "ignored"),
        ((64, 64), 7, 3, 0.0, 350, "", ""),
        ((8, 8), 2**63 - 1, 2, 2.5, 100, "an old house, " * 20, ""),
    ],
)
def test_one_window_gives_the_picture_of_diffusers(
    tiny_model: UpscalerModel,
    pipeline: Any,
    size: tuple[int, int],
    seed: int,
    steps: int,
    guidance_scale: float,
    noise_level: int,
    prompt: str,
    negative: str,
) -> None:
    low = photo(*size)
    theirs = upsampler_diffusers.picture(
        pipeline,
        low,
        seed=seed,
        prompt=prompt,
        negative_prompt=negative or None,
        guidance_scale=guidance_scale,
        noise_level=noise_level,
        num_inference_steps=steps,
    )
    asked = conditioning(tiny_model, prompt, negative=negative, guidance_scale=guidance_scale, noise_level=noise_level)
    ours = as_pixels(upscale(tiny_model, as_input(low), asked, seed=seed, steps=steps, windows=WHOLE))
    assert ours.shape == (size[1] * 4, size[0] * 4, 3)
    assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert ours.std() > 20  # the comparison sees something


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of diffusers, about numpy 2
@pytest.mark.parametrize("name", ["PNDMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler"])
def test_the_scheduler_is_the_one_that_the_model_names(
    tiny_model: UpscalerModel, pipeline: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = {**tiny_model.scheduler_config, "_class_name": name}
    monkeypatch.setattr(tiny_model, "scheduler_config", config)
    monkeypatch.setattr(pipeline, "scheduler", make_scheduler(config))
    low = photo(32, 32)
    theirs = upsampler_diffusers.picture(pipeline, low, seed=1, prompt="a cat", num_inference_steps=4)
    asked = conditioning(tiny_model, "a cat", guidance_scale=9.0)
    ours = as_pixels(upscale(tiny_model, as_input(low), asked, seed=1, steps=4, windows=WHOLE))
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_a_scheduler_that_diffusers_lacks_is_refused() -> None:
    for name in ("NoSuchScheduler", "scheduling_ddim", None):
        with pytest.raises(UnknownSchedulerError):
            make_scheduler({"_class_name": name})


def test_prompt_seed_noise_level_and_guidance_matter(tiny_model: UpscalerModel) -> None:
    low = as_input(photo(32, 32))

    def made(prompt: str = "a cat", seed: int = 1, noise_level: int = 20, guidance_scale: float = 1.0) -> torch.Tensor:
        asked = conditioning(tiny_model, prompt, noise_level=noise_level, guidance_scale=guidance_scale)
        return upscale(tiny_model, low, asked, seed=seed, steps=2, windows=WHOLE)

    first = made()
    assert torch.equal(first, made())
    for other in (made(prompt="a dog"), made(seed=2), made(noise_level=300), made(guidance_scale=9.0)):
        assert (other - first).abs().mean() > 0.01


@pytest.mark.parametrize(("guidance_scale", "rows"), [(0.0, 1), (1.0, 1), (1.01, 2), (9.0, 2)])
def test_without_guidance_the_network_runs_on_one_row(guidance_scale: float, rows: int) -> None:
    model = CopyingUpscaler()
    negative = torch.zeros(1, 1, 1) if is_guided(guidance_scale) else None
    asked = Conditioning(torch.zeros(1, 1, 1), negative, guidance_scale, 0)
    upscale(model, torch.zeros(1, 3, 16, 16), asked, seed=0, steps=3, windows=WHOLE)
    assert model.rows == [rows] * 3


def test_no_window_is_larger_than_allowed() -> None:
    model = CopyingUpscaler()
    upscale(model, torch.zeros(1, 3, 160, 200), without_prompt(), seed=0, steps=2, windows=WindowSizes(80, 64))
    assert max(max(size) for size in model.sizes) <= 80
    assert all(side % 8 == 0 for size in model.sizes for side in size)


def content(name: str) -> torch.Tensor:
    """(1, 3, 144, 160) in [-1, 1]."""
    if name == "flat":
        return torch.full((1, 3, 144, 160), 0.3)
    if name == "texture":
        return torch.rand((1, 3, 144, 160), generator=torch.Generator().manual_seed(3)) * 1.6 - 0.8
    return as_input(photo(160, 144))


def steps_across(picture: torch.Tensor, original: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """How much each pixel's step to the next differs from the original's, on columns and on rows (means)."""
    change = picture - original
    return change.diff(dim=-1).abs().mean((0, 1, 2)), change.diff(dim=-2).abs().mean((0, 1, 3))


@pytest.mark.parametrize("name", ["flat", "texture", "photo"])
@pytest.mark.parametrize("tone", [0.0, 0.1])
@pytest.mark.parametrize("windows", [WindowSizes(64, 64), WindowSizes(80, 96)])
def test_no_seam_and_no_shift_of_colour(name: str, tone: float, windows: WindowSizes) -> None:
    # Given networks whose right answer is known, each run with a tone of its own of up to a tenth of the range
    low = content(name)
    whole = upscale(CopyingUpscaler(), low, without_prompt(), seed=0, steps=3, windows=WHOLE)
    overlap = min(grid.overlap for grid in windows.grids(144, 160, 8))
    right = match_low_frequencies(whole, low, scale=4, sigma_cells=overlap / 8)

    # When the picture is made in many windows
    made = upscale(CopyingUpscaler(tone=tone), low, without_prompt(), seed=0, steps=3, windows=windows)

    # Then it is the right one, but for what cannot be seen: a sixteenth of the largest step between two tones,
    assert (made - right).abs().max() < 1e-4 + 0.14 * tone
    assert (made - right).abs().mean() < 1e-4 + 0.006 * tone
    # no line of pixels differs from the next by more than it should, at borders of windows or elsewhere,
    for steps in steps_across(made, right):
        assert steps.max() < 1e-4 + 0.006 * tone
    # and seen from afar it is the input.
    far = functional.avg_pool2d(made, 64), functional.avg_pool2d(low, 16)
    assert (far[0] - far[1]).abs().max() < 0.01


@pytest.mark.parametrize("part", ["unet", "decoder"])
def test_a_plain_part_of_a_picture_keeps_its_contrast(part: str) -> None:
    # Given a picture with much contrast on the left and little on the right, and a network that normalises
    low = content("texture") * torch.where(torch.arange(160) < 80, 1.0, 0.1)
    whole = upscale(NormingUpscaler(part), low, without_prompt(), seed=0, steps=2, windows=WHOLE)

    # When it is made in windows
    made = upscale(NormingUpscaler(part), low, without_prompt(), seed=0, steps=2, windows=WindowSizes(64, 64))

    # Then the right is as quiet as in one piece; normalised window by window it would be several times louder
    quiet, right = made[..., 480:].diff(dim=-1).std(), whole[..., 480:].diff(dim=-1).std()
    assert 0.8 < float(quiet / right) < 1.25


def test_steps_between_windows_are_as_inside_them_for_the_random_network(tiny_model: UpscalerModel) -> None:
    """Nothing is known of what it should give, but that lines where windows begin or end stand out nowhere."""
    for low in (torch.full((1, 3, 144, 144), 0.2), as_input(photo(144, 144))):
        asked = conditioning(tiny_model, "a cat", guidance_scale=3.0)
        windows = WindowSizes(80, 64)
        made = upscale(tiny_model, low, asked, seed=3, steps=4, windows=windows)
        unet_grid, vae_grid = windows.grids(144, 144, 8)
        for axis, dimension in ((0, -2), (1, -1)):
            steps = made.diff(dim=dimension).abs().mean((0, 1, 3 if axis == 0 else 2))
            starts = {
                edge * 4
                for grid in (unet_grid, vae_grid)
                for start in (grid.rows, grid.columns)[axis].starts
                for edge in (start, start + (grid.rows, grid.columns)[axis].size)
                if 0 < edge < 144
            }
            borders = torch.zeros(len(steps), dtype=torch.bool)
            for edge in starts:
                borders[edge - 2 : edge + 2] = True
            inside = steps[~borders]
            assert steps[borders].mean() < inside.mean() + 2 * inside.std()
            assert steps[borders].max() <= inside.max() * 1.05


def test_windows_agree_with_one_piece_for_the_random_network(tiny_model: UpscalerModel) -> None:
    low = as_input(photo(128, 128))
    asked = conditioning(tiny_model, "a cat")
    whole = upscale(tiny_model, low, asked, seed=3, steps=2, windows=WHOLE)
    whole = match_low_frequencies(whole, low, scale=4, sigma_cells=2)
    for windows, closeness in ((WindowSizes(80, 512), 0.2), (WindowSizes(512, 64), 0.35)):
        made = upscale(tiny_model, low, asked, seed=3, steps=2, windows=windows)
        made = match_low_frequencies(made, low, scale=4, sigma_cells=2)
        assert (made - whole).abs().mean() < closeness * whole.std()


def test_control_is_given_before_each_run_and_may_stop_everything() -> None:
    calls: list[tuple[int, int]] = []

    def check(done: int, runs: int) -> None:
        calls.append((done, runs))
        if done == 7:
            raise Cancelled

    model = CopyingUpscaler()
    asked: UpscalingModel = model
    with pytest.raises(Cancelled):
        upscale(
            asked,
            torch.zeros(1, 3, 128, 128),
            without_prompt(),
            seed=0,
            steps=3,
            windows=WindowSizes(80, 64),
            check=check,
        )
    # Two by two windows and the thinned picture in each of three steps, nine and one at the end
    assert calls == [(done, 3 * 5 + 10) for done in range(8)]
    assert len(model.rows) == 7


def test_windows_are_halved_down_to_what_makes_sense() -> None:
    assert WindowSizes(512, 192).halved() == WindowSizes(256, 96)
    assert WindowSizes(512, 192).halved().halved().halved().halved() == WindowSizes(64, 32)
    smallest = WindowSizes(64, 32)
    assert [grid.count for grid in smallest.grids(512, 512, 8)] == [100, 361]
