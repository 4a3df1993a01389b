"""Sampling from pictures and masks against diffusers' pipelines for both: the same seed gives the same pixels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers_reference
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image
from sampling_cases import SCHEDULERS, largest_difference, with_scheduler
from tiny_base import build_tiny_base

from enlight.dreambooth_api.pipelines import StableDiffusion
from enlight.dreambooth_api.pure.inference import sample
from enlight.dreambooth_api.pure.schedulers import begin_at, make_scheduler
from enlight.dreambooth_api.pure.starts import InitImages

pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

PROMPTS = ["a photo of sks dog", "a red toy", "a cat"]
NEGATIVES = ["blurry", "", "a toy"]
SEEDS = [3, 4, 2**63]
STEPS = 6
WIDTH_PX, HEIGHT_PX = 64, 48
POCKET = Path(__file__).resolve().parents[2] / "models" / "pocket"
FIRST_STEPS = {0.35: 4, 0.6: 3, 1.0: 0}
"""Of ``STEPS``, by strength: 6 * 0.35 is 2.1, of which 2 are run."""
WITH_MEMORY = [
    "PNDMScheduler",
    "DPMSolverMultistepScheduler",
    "HeunDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_base(tmp_path_factory.mktemp("base")).folder


@pytest.fixture(scope="module")
def base(folder: Path) -> StableDiffusion:
    return load(folder)


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> StableDiffusionPipeline:
    return diffusers_reference.load_pipeline(folder)


def load(folder: Path) -> StableDiffusion:
    return StableDiffusion.load(folder, device=torch.device("cpu"), weights_dtype=torch.float32)


def rgb(seed: int, size: tuple[int, int] = (HEIGHT_PX, WIDTH_PX)) -> torch.Tensor:
    """A picture of soft blotches."""
    coarse = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(seed))
    smooth = torch.nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1)
    return (smooth[0].permute(1, 2, 0) * 255).byte().contiguous()


def mask(left_px: int, top_px: int, side_px: int = 27) -> torch.Tensor:
    """A square that no grid of latents fits."""
    repaint = torch.zeros(HEIGHT_PX, WIDTH_PX, dtype=torch.bool)
    repaint[top_px : top_px + side_px, left_px : left_px + side_px] = True
    return repaint


IMAGES = [rgb(0), rgb(1), rgb(2)]
MASKS = [mask(3, 5), mask(30, 0), mask(17, 19)]


def images(strength: float, *, masked: bool, rows: Sequence[int] = range(3)) -> InitImages:
    return InitImages(
        rgb=[IMAGES[row] for row in rows],
        repaint=[MASKS[row] for row in rows] if masked else None,
        first_step=FIRST_STEPS[strength],
    )


def ours(
    model: StableDiffusion,
    init_images: InitImages,
    guidance_scale: float = 7.5,
    rows: Sequence[int] = range(3),
    **more: Any,
) -> torch.Tensor:
    return sample(
        model, [PROMPTS[row] for row in rows], negative_prompts=[NEGATIVES[row] for row in rows],
        seeds=[SEEDS[row] for row in rows], steps=STEPS, guidance_scales=guidance_scale,
        width_px=WIDTH_PX, height_px=HEIGHT_PX, init_images=init_images, **more,
    )  # fmt: skip


def theirs(
    pipeline: StableDiffusionPipeline, strength: float, *, masked: bool, guidance_scale: float = 7.5
) -> NDArray[Any]:
    arguments: dict[str, Any] = {"image": [Image.fromarray(image.numpy()) for image in IMAGES]}
    for_images: Any = diffusers_reference.from_images(pipeline)
    if masked:
        for_images = diffusers_reference.from_masked_images(pipeline)
        arguments |= {"width": WIDTH_PX, "height": HEIGHT_PX}
        arguments["mask_image"] = [Image.fromarray(mask.numpy()) for mask in MASKS]
    return diffusers_reference.pictures(
        for_images, PROMPTS, SEEDS, negative_prompt=NEGATIVES, num_inference_steps=STEPS, strength=strength,
        guidance_scale=guidance_scale, **arguments,
    )  # fmt: skip


@pytest.mark.parametrize("masked", [False, True], ids=["image", "masked"])
@pytest.mark.parametrize(
    ("name", "strength", "guidance_scale"),
    [
        *itertools.product(["DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler"], FIRST_STEPS, [1.0, 7.5]),
        *((name, 0.6, 7.5) for name in list(SCHEDULERS)[3:]),
        ("HeunDiscreteScheduler", 1.0, 7.5),
        ("EulerAncestralDiscreteScheduler", 1.0, 7.5),
    ],
)
def test_the_pixels_are_those_of_diffusers(
    base: StableDiffusion,
    pipeline: StableDiffusionPipeline,
    name: str,
    strength: float,
    guidance_scale: float,
    masked: bool,
) -> None:
    # Given a base with this scheduler, and different pictures and masks
    model = with_scheduler(base, name, SCHEDULERS[name])
    reference = diffusers_reference.with_scheduler(pipeline, model.scheduler_config)
    # When both begin from them
    expected = theirs(reference, strength, masked=masked, guidance_scale=guidance_scale)
    pictures = ours(model, images(strength, masked=masked), guidance_scale)
    # Then they make the same pictures, within a level
    assert largest_difference(pictures, expected) <= 1


def test_the_pocket_base_gives_the_pixels_of_diffusers_too() -> None:
    # Given the base that ships with the project, whose latents have eight channels, and its own scheduler
    reference = diffusers_reference.load_pipeline(POCKET)
    # When both begin from pictures
    expected = theirs(reference, 0.6, masked=False)
    pictures = ours(load(POCKET), images(0.6, masked=False))
    # Then they make the same pictures, within a level
    assert largest_difference(pictures, expected) <= 1


@pytest.mark.parametrize("masked", [False, True], ids=["image", "masked"])
@pytest.mark.parametrize("name", WITH_MEMORY)
def test_neither_the_batch_nor_who_leaves_it_is_felt(base: StableDiffusion, name: str, masked: bool) -> None:
    # Given a batch of different pictures, under a scheduler that remembers earlier steps or draws at each
    model = with_scheduler(base, name, SCHEDULERS[name])
    whole = ours(model, images(1.0, masked=masked))
    # When each is made alone, and when rows leave at different steps
    alone = [ours(model, images(1.0, masked=masked, rows=[row]), rows=[row]) for row in range(3)]
    drops: Mapping[int, Sequence[int]] = {2: [1, 2], 4: [1]}
    left = ours(model, images(1.0, masked=masked), on_step=lambda step, steps: drops.get(step))
    # Then the pictures are the same
    assert largest_difference(torch.cat(alone), whole) <= 1
    assert largest_difference(left, whole[[2]]) <= 1


def test_a_picture_is_encoded_once_however_many_are_made_of_it(base: StableDiffusion) -> None:
    encoded: list[int] = []

    class Counting(StableDiffusion):
        def encode_photos(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            encoded.append(len(pixels))
            return super().encode_photos(pixels)

    model = Counting(
        tokenizer=base.tokenizer, text_encoder=base.text_encoder, vae=base.vae, unet=base.unet,
        scheduler_config=base.scheduler_config,
    )  # fmt: skip
    # When two of three pictures begin from the same one
    shared = InitImages([IMAGES[0], IMAGES[1], IMAGES[0]], None, first_step=4)
    pictures = ours(model, shared)
    # Then each was encoded once, alone, and the two differ by what their seeds drew
    assert encoded == [1, 1]
    assert largest_difference(pictures[:1], pictures[2:]) > 1


def test_progress_counts_the_steps_that_are_run(base: StableDiffusion) -> None:
    seen: list[tuple[int, int]] = []
    ours(base, images(0.6, masked=False), on_step=lambda step, steps: seen.append((step, steps)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_less_of_the_picture_stays_the_later_the_first_step_is_not(base: StableDiffusion) -> None:
    kept = [
        (ours(base, images(strength, masked=False)).float() - torch.stack(IMAGES)).abs().mean()
        for strength in (0.35, 1.0)
    ]
    assert kept[0] < kept[1]


def test_the_first_step_is_found_where_two_have_the_same_timestep() -> None:
    # Given a scheduler whose last timesteps are so close that some are there twice
    config = {
        "_class_name": "DPMSolverMultistepScheduler",
        "use_karras_sigmas": True,
        **SCHEDULERS["DPMSolverMultistepScheduler"],
    }
    scheduler: Any = make_scheduler(config)
    scheduler.set_timesteps(100)
    twice = [step for step in range(99) if scheduler.timesteps[step] == scheduler.timesteps[step + 1]]
    # When it begins at the first of a pair and goes a step
    begin_at(scheduler, twice[0])
    scheduler.step(torch.zeros(1, 4, 8, 8), scheduler.timesteps[twice[0]], torch.zeros(1, 4, 8, 8))
    # Then it is at the step after that
    assert scheduler.step_index == twice[0] + 1


def test_a_mask_that_falls_between_the_latents_paints_all_the_same(base: StableDiffusion) -> None:
    # Given a mask of a few pixels, none of which is the first of its cell of latents
    thin = torch.zeros(HEIGHT_PX, WIDTH_PX, dtype=torch.bool)
    thin[21:23, 33:35] = True
    nothing = torch.zeros_like(thin)
    # When it is painted, and when nothing is
    painted, plain = (ours(base, InitImages(IMAGES[:1], [repaint], 0), rows=[0]) for repaint in (thin, nothing))
    # Then something else is there
    assert largest_difference(painted[:, 20:24, 32:36], plain[:, 20:24, 32:36]) > 10


def test_pictures_that_do_not_fit_their_batch_are_refused(base: StableDiffusion) -> None:
    for wrong in (
        InitImages(IMAGES[:2], None, 0),
        InitImages([rgb(0, (WIDTH_PX, HEIGHT_PX)), *IMAGES[1:]], None, 0),
    ):
        with pytest.raises(ValueError, match="3 rows of 64 x 48 px"):
            ours(base, wrong)
    with pytest.raises(ValueError, match="masks and pictures"):
        ours(base, InitImages(IMAGES, MASKS[:2], 0))
