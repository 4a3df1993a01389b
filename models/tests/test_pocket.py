from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from safetensors import safe_open

from enlight.models.backgrounds import PLAIN_COLOURS
from enlight.models.judge import Judge
from enlight.models.sample_grid import sample_pictures
from enlight.models.settings import RecipeSettings


@pytest.fixture(scope="module")
def pipeline(pocket_folder: Path) -> Any:
    load: Any = StableDiffusionPipeline.from_pretrained
    return load(pocket_folder, dtype=torch.float32, local_files_only=True)


def test_folder_is_small_and_holds_weights_as_safetensors_only(pocket_folder: Path) -> None:
    files = [path for path in pocket_folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 28_000_000
    assert max(path.stat().st_size for path in files) <= 15_000_000
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt", ".md", ".png"}


def test_weights_are_half_precision(pocket_folder: Path) -> None:
    for path in pocket_folder.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            assert {file.get_slice(name).get_dtype() for name in names if "position_ids" not in name} == {"F16"}


def test_networks_have_the_designed_sizes(pipeline: Any) -> None:
    assert 5e6 <= pipeline.unet.num_parameters() <= 10e6
    assert 1e6 <= pipeline.text_encoder.num_parameters() <= 2e6
    assert pipeline.unet.config.sample_size == 16
    assert pipeline.vae_scale_factor == 4


def test_one_scheduler_config_serves_training_and_sampling(pipeline: Any) -> None:
    # Given the shipped config / When the scheduler of training is made from it
    build: Any = DDPMScheduler.from_config
    training = build(pipeline.scheduler.config)
    # Then both predict velocities over the same noise levels, down to no signal at all
    assert pipeline.scheduler.__class__.__name__ == "DDIMScheduler"
    assert training.config.prediction_type == pipeline.scheduler.config.prediction_type == "v_prediction"
    torch.testing.assert_close(training.alphas_cumprod, pipeline.scheduler.alphas_cumprod)
    assert float(training.alphas_cumprod[-1]) == pytest.approx(0.0, abs=1e-9)


def test_text_encoder_knows_the_end_of_text(pipeline: Any) -> None:
    # Given a prompt / When it is tokenized / Then its ids are within the vocabulary and the end is the config's
    ids = pipeline.tokenizer("a sks robot", return_tensors="pt").input_ids
    assert int(ids.max()) == pipeline.text_encoder.config.eos_token_id == len(pipeline.tokenizer) - 1
    assert pipeline.text_encoder.config.vocab_size == len(pipeline.tokenizer)


def test_record_of_the_recipe_is_shipped(pocket_folder: Path) -> None:
    assert json.loads((pocket_folder / "vae" / "config.json").read_text())["scaling_factor"] != 0.18215
    assert "OFL" in (pocket_folder / "README.md").read_text()


def test_prompts_are_followed(pocket_folder: Path, judge_folder: Path) -> None:
    """The bundled weights are trained, not random: scenes and colours come out as asked."""
    # Given prompts for four scenes and three colours / When each is sampled with few steps
    scenes = {"the beach": "beach", "a pizza in the snow": "snow", "a cat on a stage": "stage", "lava": "lava"}
    colours = ("red", "yellow", "purple")
    prompts = (*scenes, *(f"a {colour} background" for colour in colours))
    settings = RecipeSettings()
    pictures = sample_pictures(pocket_folder, prompts, steps=8, guidance=settings.sample_guidance, seed=3, device="cpu")
    # Then the judge sees the scenes, and the colours are within reach of the named ones
    assert Judge.load(judge_folder).background(pictures[: len(scenes)]) == list(scenes.values())
    for picture, colour in zip(pictures[len(scenes) :], colours, strict=True):
        distance = np.abs(picture.mean(axis=(0, 1)) - np.array(PLAIN_COLOURS[colour])).max()
        assert distance < 40, (colour, distance)


def test_same_seed_same_picture(pocket_folder: Path) -> None:
    first, again, other = (
        sample_pictures(pocket_folder, ("a cat",), steps=2, guidance=3.0, seed=seed, device="cpu") for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
