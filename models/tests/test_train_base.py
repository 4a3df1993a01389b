from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from enlight.models.backgrounds import BACKGROUNDS
from enlight.models.bank import Bank
from enlight.models.captions import FORMS
from enlight.models.export import export_pocket
from enlight.models.networks import build_noise_scheduler, build_text_encoder, build_unet
from enlight.models.run_record import Clock, read_state, save_weights
from enlight.models.settings import RecipeSettings
from enlight.models.subjects import all_subjects
from enlight.models.tokenizer import load_tokenizer
from enlight.models.train_base import BaseTraining, Networks, NoiseSchedule, spread_timesteps, update_average
from enlight.models.train_vae import train as train_vae
from enlight.models.variations import VARIATIONS

_CPU = torch.device("cpu")


def test_noise_schedule_agrees_with_the_scheduler(settings: RecipeSettings) -> None:
    # Given the shipped scheduler / When it adds noise and states the target
    scheduler = build_noise_scheduler(settings)
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(3, 4, 2, 2, generator=generator) for _ in range(2))
    timesteps = torch.tensor([0, 500, 999])
    noised, velocity = NoiseSchedule(settings, _CPU).noised(latents, noise, timesteps)
    # Then ours are the same
    torch.testing.assert_close(noised, scheduler.add_noise(latents, noise, timesteps))
    torch.testing.assert_close(velocity, scheduler.get_velocity(latents, noise, timesteps))


def test_timesteps_cover_the_range_evenly() -> None:
    timesteps = spread_timesteps(10, 1000, _CPU, torch.Generator().manual_seed(0))
    assert timesteps.div(100, rounding_mode="floor").tolist() == list(range(10))


def test_average_follows_the_weights(settings: RecipeSettings, pocket_folder: Path) -> None:
    # Given two sets of weights
    tokenizer = load_tokenizer(pocket_folder / "tokenizer")
    average, current = (Networks(build_unet(settings), build_text_encoder(settings, tokenizer)) for _ in range(2))
    before, target = average.parameters()[0].clone(), current.parameters()[0].clone()
    # When the average moves at a late step
    update_average(average, current, step=10**6, decay=0.75)
    # Then it is a quarter of the way
    torch.testing.assert_close(average.parameters()[0], before + 0.25 * (target - before))


def test_an_earlier_base_gives_the_weights_that_fit(
    settings: RecipeSettings, pocket_folder: Path, tmp_path: Path
) -> None:
    # Given an exported base, and new networks with latents of another number of channels
    tokenizer = load_tokenizer(pocket_folder / "tokenizer")
    earlier = Networks(build_unet(settings), build_text_encoder(settings, tokenizer))
    for part, network in (("unet", earlier.unet), ("text_encoder", earlier.text_encoder)):
        save_weights(tmp_path / part / "model.safetensors", network, torch.float32)
    wider = replace(settings, latent_channels=settings.latent_channels + 4)
    networks = Networks(build_unet(wider), build_text_encoder(wider, tokenizer))
    first_layer = networks.unet.conv_in.weight.clone()
    # When they start from it
    networks.load_from_base(tmp_path)
    # Then all but the first and the last layer are its weights
    torch.testing.assert_close(networks.unet.conv_in.weight, first_layer)
    torch.testing.assert_close(
        networks.unet.time_embedding.linear_1.weight, earlier.unet.time_embedding.linear_1.weight
    )
    for one, other in zip(networks.text_encoder.parameters(), earlier.text_encoder.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_training_resumes_and_exports(
    noise_bank: Bank, settings: RecipeSettings, pocket_folder: Path, tmp_path: Path
) -> None:
    """The whole road with toy sizes: autoencoder, base in two runs, export, sampling by diffusers."""
    # Given a bank on disk
    bank, run = tmp_path / "bank", tmp_path / "run"
    bank.mkdir()
    np.savez(bank / "glyphs.npz", glyphs=noise_bank.glyphs, nameless=noise_bank.glyphs[:5])
    np.save(bank / f"backgrounds-{settings.seed}-{settings.background_variants}.npy", noise_bank.backgrounds)
    shutil.copytree(pocket_folder / "tokenizer", bank / "tokenizer")
    counts = np.array([len(background.phrases) for background in BACKGROUNDS])
    shape = (len(all_subjects()) + 1, int(counts.sum()) + 1, len(FORMS), settings.prompt_length_tokens)
    np.savez(
        bank / "captions.npz",
        tokens=np.zeros(shape, dtype=np.int16),
        varied_tokens=np.zeros((shape[0] - 1, shape[1], len(VARIATIONS) - 1, shape[3]), dtype=np.int16),
        phrase_start=np.cumsum(counts) - counts,
        phrase_count=counts,
        empty=np.zeros(shape[-1], dtype=np.int16),
    )
    # When the autoencoder and then the base are trained, the base twice
    train_vae(
        run, bank, settings, Clock(0.5), _CPU, workers=1, decay_share=0.3, decoder_only=False, compile_networks=False
    )
    factor = read_state(run / "vae.json")["scaling_factor"]
    train_vae(
        run, bank, settings, Clock(0.2), _CPU, workers=1, decay_share=0.3, decoder_only=True, compile_networks=False
    )
    assert read_state(run / "vae.json")["scaling_factor"] == factor
    steps = []
    for _ in range(2):
        training = BaseTraining(run, bank, settings, _CPU, workers=1)
        training.train(Clock(0.5), decay_share=0.3, rate_share=1.0, grid_every_s=1000.0, compile_unet=False)
        steps.append(read_state(run / "base.json")["steps"])
    # Then the second run went on where the first one ended, from its optimiser too
    assert steps[1] > steps[0] >= 1
    assert training.first_step == steps[0]
    assert max(float(state["step"]) for state in training.optimizer.state.values()) == steps[1]
    assert (run / "grids" / f"base-{int(steps[1]):06d}.png").exists()
    # And diffusers loads the export and samples from it
    export_pocket(run, bank, tmp_path / "pocket", settings)
    load: Any = StableDiffusionPipeline.from_pretrained
    pipeline = load(tmp_path / "pocket", dtype=torch.float32, local_files_only=True)
    picture = pipeline("a cat", num_inference_steps=1, output_type="np").images[0]
    assert picture.shape == (64, 64, 3)
    assert pipeline.vae.config.scaling_factor == round(factor, 5)
