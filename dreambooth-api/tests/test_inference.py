"""The sampler against diffusers' own pipeline on a small model: the same seed gives the same pixels."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import diffusers_reference
import pytest
import torch
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
from diffusers.schedulers.scheduling_utils import KarrasDiffusionSchedulers
from sampling_cases import SCHEDULERS, largest_difference, with_scheduler
from tiny_base import build_tiny_base

from enlight.dreambooth_api.pipelines import StableDiffusion
from enlight.dreambooth_api.pure.inference import Conditioning, decode_in_chunks, sample
from enlight.dreambooth_api.pure.schedulers import UnknownSchedulerError, keep_rows, make_scheduler

# diffusers turns torch tensors into numpy arrays in a way that numpy 2 notes.
pytestmark = pytest.mark.filterwarnings("ignore:__array_:DeprecationWarning")

PROMPTS = ["a photo of sks dog", "a red toy", "a cat"]
NEGATIVES = ["blurry", "", "a toy"]
SEEDS = [3, 4, 2**63]
WITH_MEMORY = [
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
    "DEISMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
]
"""More of those that remember earlier steps, or draw noise at each."""
NAMED = list(SCHEDULERS)[:5]
"""Those that published bases come with, or that users ask for most."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_base(tmp_path_factory.mktemp("base")).folder


@pytest.fixture(scope="module")
def base(folder: Path) -> StableDiffusion:
    return StableDiffusion.load(folder, device=torch.device("cpu"), weights_dtype=torch.float32)


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> StableDiffusionPipeline:
    return diffusers_reference.load_pipeline(folder)


@pytest.mark.parametrize(
    ("name", "prediction_type", "guidance_scale"),
    [
        *itertools.product(NAMED, ["epsilon", "v_prediction"], [1.0, 7.5]),
        *((name, "epsilon", 7.5) for name in SCHEDULERS if name not in NAMED),
    ],
)
def test_the_pixels_are_those_of_diffusers(
    base: StableDiffusion,
    pipeline: StableDiffusionPipeline,
    name: str,
    prediction_type: str,
    guidance_scale: float,
) -> None:
    # Given a base with this scheduler
    model = with_scheduler(base, name, SCHEDULERS[name], prediction_type)
    # When both make a batch of different prompts
    ours = sample(
        model, PROMPTS, negative_prompts=NEGATIVES, seeds=SEEDS, steps=6, guidance_scales=guidance_scale,
        width_px=64, height_px=64,
    )  # fmt: skip
    theirs = diffusers_reference.pictures(
        diffusers_reference.with_scheduler(pipeline, model.scheduler_config), PROMPTS, SEEDS,
        negative_prompt=NEGATIVES, num_inference_steps=6, guidance_scale=guidance_scale, width=64, height=64,
    )  # fmt: skip
    # Then the pictures are the same within a level
    assert ours.dtype == torch.uint8
    assert largest_difference(ours, theirs) <= 1


def test_every_scheduler_that_the_pipeline_takes_is_covered() -> None:
    known = {scheduler.name for scheduler in KarrasDiffusionSchedulers}
    needs_another_package = {"DPMSolverSDEScheduler"}  # torchsde
    for_another_parametrisation = {"EDMEulerScheduler"}
    same_as_tested = {"KDPM2AncestralDiscreteScheduler"}
    assert known - set(SCHEDULERS) == needs_another_package | for_another_parametrisation | same_as_tested


@pytest.mark.parametrize(("width_px", "height_px"), [(96, 32), (40, 72)])
def test_other_sizes_are_those_of_diffusers_too(
    base: StableDiffusion, pipeline: StableDiffusionPipeline, width_px: int, height_px: int
) -> None:
    ours = sample(base, PROMPTS, seeds=SEEDS, steps=3, guidance_scales=5.0, width_px=width_px, height_px=height_px)
    theirs = diffusers_reference.pictures(
        diffusers_reference.with_scheduler(pipeline, base.scheduler_config), PROMPTS, SEEDS,
        num_inference_steps=3, guidance_scale=5.0, width=width_px, height=height_px,
    )  # fmt: skip
    assert ours.shape == (3, height_px, width_px, 3)
    assert largest_difference(ours, theirs) <= 1


@pytest.mark.parametrize("name", ["DDIMScheduler", "EulerAncestralDiscreteScheduler"])
def test_a_batch_gives_the_pictures_of_one_by_one(base: StableDiffusion, name: str) -> None:
    # Given prompts, negative prompts, seeds and guidance scales that all differ
    model = with_scheduler(base, name, {})
    scales = [7.5, 2.0, 1.1]
    # When they are made in one batch and one by one
    together = sample(
        model, PROMPTS, negative_prompts=NEGATIVES, seeds=SEEDS, steps=5, guidance_scales=scales,
        width_px=64, height_px=64, decode_images=2,
    )  # fmt: skip
    alone = [
        sample(
            model, [PROMPTS[row]], negative_prompts=[NEGATIVES[row]], seeds=[SEEDS[row]], steps=5,
            guidance_scales=scales[row], width_px=64, height_px=64,
        )
        for row in range(3)
    ]  # fmt: skip
    # Then the pictures are the same, and differ from each other
    assert largest_difference(together, torch.cat(alone)) <= 1
    assert largest_difference(together[:1], together[1:2]) > 10


@pytest.mark.parametrize(
    ("name", "prediction_type"),
    [
        *itertools.product(NAMED, ["epsilon", "v_prediction"]),
        *((name, "epsilon") for name in WITH_MEMORY),
    ],
)
def test_the_rows_that_go_on_do_not_feel_those_that_are_dropped(
    base: StableDiffusion, name: str, prediction_type: str
) -> None:
    # Given a batch of three under a scheduler that may remember earlier steps
    model = with_scheduler(base, name, SCHEDULERS[name], prediction_type)

    def pictures(drops: Mapping[int, Sequence[int]]) -> torch.Tensor:
        return sample(
            model, PROMPTS, negative_prompts=NEGATIVES, seeds=SEEDS, steps=6, guidance_scales=[3.0, 7.5, 5.0],
            width_px=64, height_px=64, on_step=lambda step, steps: drops.get(step),
        )  # fmt: skip

    whole = pictures({})
    # When a row is dropped at the first step, or two at different steps later
    early = pictures({1: [0, 2]})
    late = pictures({3: [1, 2], 5: [1]})
    # Then the others are what they would have been
    assert largest_difference(early, whole[[0, 2]]) <= 1
    assert largest_difference(late, whole[[2]]) <= 1


def test_a_batch_without_rows_stops(base: StableDiffusion) -> None:
    # Given a batch that is cancelled as a whole after its second step
    steps_seen: list[tuple[int, int]] = []

    def on_step(step: int, steps: int) -> list[int] | None:
        steps_seen.append((step, steps))
        return [] if step == 2 else None

    # When it runs
    pictures = sample(
        base, PROMPTS, seeds=SEEDS, steps=9, guidance_scales=7.5, width_px=64, height_px=32, on_step=on_step
    )
    # Then it ends there, without pictures
    assert steps_seen == [(1, 9), (2, 9)]
    assert pictures.shape == (0, 32, 64, 3)


@pytest.mark.parametrize("name", ["PNDMScheduler", "HeunDiscreteScheduler"])
def test_progress_counts_the_steps_that_were_asked_for(base: StableDiffusion, name: str) -> None:
    # Given a scheduler that calls the U-Net more often than once a step
    model = with_scheduler(base, name, SCHEDULERS[name])
    seen: list[int] = []
    # When it runs 6 steps
    sample(
        model, PROMPTS[:1], seeds=[0], steps=6, guidance_scales=1.0, width_px=64, height_px=64,
        on_step=lambda step, steps: seen.append(step),
    )  # fmt: skip
    # Then progress rises to 6
    assert seen == sorted(seen)
    assert seen[-1] == 6


def test_guidance_needs_one_call_over_twice_the_rows(base: StableDiffusion) -> None:
    rows: list[int] = []

    class Counting(StableDiffusion):
        def predict(self, latents: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
            rows.append(len(latents))
            return super().predict(latents, *rest)

    model = Counting(
        tokenizer=base.tokenizer, text_encoder=base.text_encoder, vae=base.vae, unet=base.unet,
        scheduler_config=base.scheduler_config,
    )  # fmt: skip
    for scale in (1.0, 7.5):
        sample(model, PROMPTS, seeds=SEEDS, steps=2, guidance_scales=scale, width_px=64, height_px=64)
    assert rows == [3, 3, 6, 6]


def test_the_vae_decodes_a_bounded_number_at_once(base: StableDiffusion) -> None:
    sizes: list[int] = []

    class Counting(StableDiffusion):
        def decode(self, latents: torch.Tensor) -> torch.Tensor:
            sizes.append(len(latents))
            return super().decode(latents)

    model = Counting(
        tokenizer=base.tokenizer, text_encoder=base.text_encoder, vae=base.vae, unet=base.unet,
        scheduler_config=base.scheduler_config,
    )  # fmt: skip
    pictures = decode_in_chunks(model, torch.zeros(5, 4, 8, 8), 2)
    assert sizes == [2, 2, 1]
    assert pictures.shape == (5, 32, 32, 3)


def test_rows_that_do_not_fit_together_are_refused(base: StableDiffusion) -> None:
    arguments: dict[str, Any] = {"steps": 2, "width_px": 64, "height_px": 64}
    with pytest.raises(ValueError, match="cannot share a batch"):
        sample(base, PROMPTS, seeds=SEEDS, guidance_scales=[1.0, 7.5, 7.5], **arguments)
    with pytest.raises(ValueError, match="2 seeds"):
        sample(base, PROMPTS, seeds=SEEDS[:2], guidance_scales=7.5, **arguments)
    with pytest.raises(ValueError, match="differ in number"):
        sample(base, PROMPTS, seeds=SEEDS, guidance_scales=7.5, negative_prompts=["blurry"], **arguments)
    with pytest.raises(ValueError, match="guidance scales"):
        Conditioning(torch.zeros(0, 4, 8), None, ())


def test_an_old_configuration_is_corrected_as_the_pipeline_does() -> None:
    # Given a configuration from before steps_offset and clip_sample were settled
    scheduler: Any = make_scheduler({"_class_name": "DDIMScheduler", "steps_offset": 0, "clip_sample": True})
    # Then both have the value that Stable Diffusion needs
    assert scheduler.config["steps_offset"] == 1
    assert scheduler.config["clip_sample"] is False


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"_class_name": "NoSuchScheduler"},
        {"_class_name": "SchedulerMixin.__class__"},
        {"_class_name": "KarrasDiffusionSchedulers"},
        {"_class_name": 3},
        {"_class_name": "DDIMScheduler", "beta_schedule": "no such schedule"},
        {"_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "no such type"},
    ],
)
def test_a_scheduler_that_cannot_be_made_is_named(config: dict[str, Any]) -> None:
    with pytest.raises(UnknownSchedulerError):
        make_scheduler(config)


def test_rows_are_kept_in_lists_and_tuples_and_nothing_else_changes() -> None:
    class State:
        timesteps = torch.arange(3)
        init_noise_sigma = 1.0

        def __init__(self) -> None:
            self.previous = torch.arange(3.0).reshape(3, 1, 1, 1).expand(3, 2, 2, 2)
            self.history = [self.previous + 1, None]
            self.pair = (self.previous, 5)
            self.sigmas = torch.arange(3.0)
            self.untouched = [1, 2]

        set_timesteps = scale_model_input = step = None

    state: Any = State()
    untouched, sigmas = state.untouched, state.sigmas
    keep_rows(state, torch.tensor([0, 2]), torch.Size([3, 2, 2, 2]))
    assert state.previous[:, 0, 0, 0].tolist() == [0.0, 2.0]
    assert state.history[0][:, 0, 0, 0].tolist() == [1.0, 3.0]
    assert state.history[1] is None
    assert state.pair[0].shape == (2, 2, 2, 2)
    assert state.pair[1] == 5
    assert state.untouched is untouched
    assert state.sigmas is sigmas
