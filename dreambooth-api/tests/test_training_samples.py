"""Pictures that a training makes of itself, and that they change nothing of it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_base import SIZE_PX, build_tiny_base
from tiny_training import RecordingChannel, acting_step, make_config, make_request, write_photos

from enlight.dreambooth_api.model_store import ModelStore
from enlight.dreambooth_api.pipelines import StableDiffusion
from enlight.dreambooth_api.pure.inference import sample
from enlight.dreambooth_api.pure.training import TrainingState
from enlight.dreambooth_api.requests import Base, TrainerConfig, TrainingProgress
from enlight.dreambooth_api.trainer import Trainer, published_parameters
from enlight.dreambooth_api.training_identity import training_fingerprint
from enlight.dreambooth_api.training_samples import GUIDANCE_SCALE, undisturbed
from enlight.servicekit.errors import Cancelled, WorkerUnavailable
from enlight.servicekit.object_store import open_store

SAMPLES: dict[str, Any] = {"sample_prompt": "a photo of sks dog", "sample_every_steps": 2}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """A base with dropout: a training that draws from torch's own generator, and differs between the modes."""
    base = build_tiny_base(tmp_path_factory.mktemp("base"))
    for path, changes in (
        ("unet/config.json", {"dropout": 0.3}),
        ("text_encoder/config.json", {"attention_dropout": 0.3}),
    ):
        described = json.loads((base.folder / path).read_text())
        (base.folder / path).write_text(json.dumps({**described, **changes}))
    return base


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write_photos(tmp_path_factory.mktemp("photos"), 3)


class Run:
    """A training, and what its last update left."""

    def __init__(self, config: TrainerConfig, *, channel: RecordingChannel | None = None) -> None:
        self.channel = channel or RecordingChannel()
        self.weights: dict[str, torch.Tensor] = {}
        self.drawn: list[torch.Tensor] = []

        def keep(state: TrainingState) -> None:
            self.weights = {name: value.detach().clone() for name, value in state.parameters.items()}
            self.drawn = [state.generator.get_state(), torch.get_rng_state()]

        store = ModelStore(open_store(config.store.bucket_url, timeout_s=5, retry_total_s=10))
        torch.manual_seed(3)
        self.outcome = Trainer(self.channel, config, store, make_step=acting_step(keep, after=True)).run()

    def steps(self) -> list[int]:
        return [sample.step for sample in self.channel.samples]

    def pictures(self) -> list[np.ndarray[Any, Any]]:
        return [np.asarray(Image.open(io.BytesIO(sample.png))) for sample in self.channel.samples]


def config_in(folder: Path, base: Base, photos: tuple[Path, ...], **changes: Any) -> TrainerConfig:
    of_config = {name: changes.pop(name) for name in ("checkpoint_every_steps", "sampled_steps") if name in changes}
    request = make_request(photos, **{"max_training_steps": 5, **changes})
    return make_config(folder, base, request, **of_config)


@pytest.mark.parametrize("kind", ["full", "lora"])
@pytest.mark.parametrize("train_text_encoder", [False, True])
def test_a_training_with_samples_makes_the_same_weights(
    tmp_path: Path, base: Base, photos: tuple[Path, ...], kind: str, train_text_encoder: bool
) -> None:
    what = {"kind": kind, "train_text_encoder": train_text_encoder}
    plain = Run(config_in(tmp_path / "plain", base, photos, **what))
    sampled = Run(config_in(tmp_path / "sampled", base, photos, **what, **SAMPLES))

    # Then each update was the same, bit for bit, and so is what the next one would draw
    assert plain.weights.keys() == sampled.weights.keys()
    assert all(torch.equal(weight, sampled.weights[name]) for name, weight in plain.weights.items())
    assert all(map(torch.equal, plain.drawn, sampled.drawn))
    # And there are pictures of what was learnt in between, at the training's size
    assert (plain.steps(), sampled.steps()) == ([], [2, 4])
    first, second = sampled.pictures()
    assert first.shape == second.shape == (SIZE_PX, SIZE_PX, 3)
    assert (first != second).any()


def test_a_sample_is_the_picture_that_the_network_makes(tmp_path: Path, base: Base, photos: tuple[Path, ...]) -> None:
    # Given the sample of a training's last step, and its weights in a pipeline that makes pictures
    run = Run(config_in(tmp_path, base, photos, **SAMPLES, max_training_steps=2))
    pipeline = StableDiffusion.load(base.folder, device=torch.device("cpu"), weights_dtype=torch.float32)
    pipeline.unet.load_state_dict({name.removeprefix("unet."): weight for name, weight in run.weights.items()})
    request = make_request(())
    expected = sample(
        pipeline,
        [SAMPLES["sample_prompt"]],
        seeds=[request.seed],
        steps=base.default_steps,
        guidance_scales=GUIDANCE_SCALE,
        width_px=SIZE_PX,
        height_px=SIZE_PX,
    )
    # Then both are the same
    (picture,) = run.pictures()
    assert (picture == expected[0].numpy()).all()


def test_a_sample_draws_nothing_that_the_training_would_draw(base: Base) -> None:
    pipeline = StableDiffusion.load(base.folder, device=torch.device("cpu"), weights_dtype=torch.float32)
    before = torch.get_rng_state()
    with undisturbed(pipeline):
        torch.rand(3)  # as some schedulers do
    assert torch.equal(torch.get_rng_state(), before)


def test_samples_are_no_part_of_what_is_trained(tmp_path: Path, base: Base, photos: tuple[Path, ...]) -> None:
    plain, sampled = (config_in(tmp_path, base, photos, **changes) for changes in ({}, SAMPLES))
    assert training_fingerprint(plain) == training_fingerprint(sampled)
    assert published_parameters(plain.request) == published_parameters(sampled.request)


def test_a_sample_that_fails_is_told_and_costs_nothing_else(
    tmp_path: Path, base: Base, photos: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Run(config_in(tmp_path / "plain", base, photos))

    def decode(self: StableDiffusion, latents: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(StableDiffusion, "decode", decode)
    sampled = Run(config_in(tmp_path / "sampled", base, photos, **SAMPLES))
    assert sampled.steps() == []
    assert [(remark.level, remark.message) for remark in sampled.channel.remarks] == [
        ("warning", f"The sample of step {step} could not be made.") for step in (2, 4)
    ]
    assert all("no room" in (remark.trace or "") for remark in sampled.channel.remarks)
    assert sampled.outcome.steps == 5
    assert all(torch.equal(weight, sampled.weights[name]) for name, weight in plain.weights.items())


def test_a_sample_that_a_stop_interrupts_is_made_by_the_next_attempt(
    tmp_path: Path, base: Base, photos: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a trainer that is asked to stop within a sample
    channel = RecordingChannel()
    config = config_in(tmp_path, base, photos, **SAMPLES)
    predict = StableDiffusion.predict

    def stop(self: StableDiffusion, *arguments: torch.Tensor) -> torch.Tensor:
        channel.closing |= not torch.is_grad_enabled()
        return predict(self, *arguments)

    monkeypatch.setattr(StableDiffusion, "predict", stop)
    with pytest.raises(WorkerUnavailable):
        Run(config, channel=channel)
    monkeypatch.undo()
    assert channel.samples == []
    assert [path.name for path in (config.job_folder / "checkpoints").iterdir()] == ["step-00000002"]

    # When the next attempt goes on, it begins with the sample
    resumed = Run(config)
    assert resumed.outcome.resumed_from_step == 2
    assert resumed.steps() == [2, 4]

    # And it is the one that an undisturbed training makes
    whole = Run(config_in(tmp_path / "whole", base, photos, **SAMPLES))
    assert resumed.channel.samples[0].png == whole.channel.samples[0].png


def test_a_cancelled_training_ends_within_a_sample(
    tmp_path: Path, base: Base, photos: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    channel, calls = RecordingChannel(), []
    predict = StableDiffusion.predict

    def cancel(self: StableDiffusion, *arguments: torch.Tensor) -> torch.Tensor:
        if not torch.is_grad_enabled():
            channel.cancel = True
            calls.append(1)
        return predict(self, *arguments)

    monkeypatch.setattr(StableDiffusion, "predict", cancel)
    with pytest.raises(Cancelled):
        Run(config_in(tmp_path, base, photos, **SAMPLES), channel=channel)
    assert (len(calls), channel.samples) == (1, [])


def test_what_an_earlier_attempt_made_is_not_made_again(tmp_path: Path, base: Base, photos: tuple[Path, ...]) -> None:
    run = Run(config_in(tmp_path, base, photos, **SAMPLES, sampled_steps=(2,)))
    assert run.steps() == [4]


def test_a_trainer_is_heard_of_while_it_makes_a_sample(tmp_path: Path, base: Base, photos: tuple[Path, ...]) -> None:
    config = replace(config_in(tmp_path, base, photos, **{**SAMPLES, "sample_every_steps": 5}), progress_every_s=1e-9)
    run = Run(config)
    # Given progress is told as often as there is some: once for each update, and for each step of the sample
    told = [progress.step for progress in run.channel.sent if progress.phase == "training"]
    assert told.count(5) == 1 + base.default_steps
    assert isinstance(run.channel.sent[0], TrainingProgress)
