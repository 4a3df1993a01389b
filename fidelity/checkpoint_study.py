"""Should a training choose among its checkpoints? `python fidelity/sweep.py --checkpoints` with one long training.

One training per subject, deliberately long and at a constant rate, whose model is kept at several steps. Each of these
gets two kinds of scores: the fidelity that the benchmark measures, which no service can know, and losses that a trainer
can compute by itself. Then each rule that goes by such losses chooses a step, and the fidelity at its choice stands
beside that of the last step and of the best one.
"""

from __future__ import annotations

import csv
import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from instance_photos import as_the_trainer_sees, write_photos
from intervals import bootstrap_mean
from personalised_model import PatientChannel, PictureMaker, trainer_config
from prompts import class_prompt, instance_prompt, prior_pictures, subject_pictures
from protocol import DENOISING_STEPS, GUIDANCE_SCALE, PICTURE_SIZE_PX, seed_for
from rich.console import Console
from rich.table import Table
from subject_jobs import JobRunner
from summary import subject_measures
from trainings import TrainingChoice

from enlight.dreambooth_api.fine_tune import FineTune, read_fine_tune
from enlight.dreambooth_api.manifest import Manifest, ModelDescription, describe_files
from enlight.dreambooth_api.model_files import save_model_files
from enlight.dreambooth_api.model_store import ModelStore
from enlight.dreambooth_api.photos import rgb_to_pixels
from enlight.dreambooth_api.pure.inference import Conditioning, denoise
from enlight.dreambooth_api.pure.losses import NoiseSchedule
from enlight.dreambooth_api.pure.training import MicroBatch, Objective, StepFunction, TrainingState, eager_step
from enlight.dreambooth_api.requests import TrainerConfig, TrainingRequest
from enlight.dreambooth_api.trainer import Trainer
from enlight.models.subjects import subject_named
from enlight.servicekit.object_store import open_store

CLASS_LATENTS = 8
"""Class pictures of the base on which a model's drift is seen."""
DRAWS_PER_PICTURE = 8
"""Fixed noises and timesteps with which the loss on one picture is computed."""

FIDELITIES = ("both", "subject_fidelity", "prompt_fidelity", "prior", "likeness")
"""Measures of the benchmark that are reported at each step."""


@dataclass(frozen=True)
class Study:
    """One long training of one subject."""

    choice: TrainingChoice
    steps: tuple[int, ...]
    """Where the model is kept, rising; the last one is the training's end."""
    subject: str

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.subject}, {self.choice.name}"


@dataclass(frozen=True)
class Score:
    """One step of one training; losses as shares of the untrained base's."""

    subject: str
    step: int
    photo_loss: float
    """On the photos that it was trained on, with the instance prompt."""
    kept_photo_loss: float
    """Of the training on one photo less, on the photo that was kept back."""
    class_loss: float
    """On class pictures of the base, with the class prompt: above 1 where the model drifted."""
    fidelities: Mapping[str, float]


LOSSES = ("photo_loss", "kept_photo_loss", "class_loss")

Rule = Callable[[Score], float]
"""The step with the smallest value is chosen."""

RULES: dict[str, Rule] = {
    "last": lambda score: -score.step,
    "photos": lambda score: score.photo_loss,
    "photos and class": lambda score: score.photo_loss + score.class_loss,
    "kept photo": lambda score: score.kept_photo_loss,
    "kept photo and class": lambda score: score.kept_photo_loss + score.class_loss,
    "best (unknowable)": lambda score: -score.fidelities["both"] - 1e-3 * score.fidelities["likeness"],
}


def run_study(runner: JobRunner, study: Study) -> list[Score]:
    """Trains twice, on all photos and on all but one, and scores the models of every step.

    Raises: what the trainer raises.
    """
    thing, maker = subject_named(study.subject), runner.maker
    request = study.choice.request(study.subject)
    asked = [picture for picture in subject_pictures(study.subject) if not picture.extra]
    prior = prior_pictures(study.subject)
    prompts, seeds = zip(*((picture.prompt, picture.seed) for picture in [*asked, *prior]), strict=True)
    with tempfile.TemporaryDirectory(prefix="enlight-checkpoints-") as folder:
        paths = write_photos(study.subject, Path(folder))
        photos = as_the_trainer_sees(paths)
        models = train_keeping(runner, request, paths, study.steps)
        fewer = train_keeping(runner, request, paths[:-1], study.steps)
    check = SelfCheck(maker, study.subject)
    instance, of_class = instance_prompt(thing), class_prompt(thing)
    with maker.using(None):
        photo_latents, class_latents = check.photo_latents(photos), check.class_latents(of_class)
        base_photos = check.loss(photo_latents, instance)
        base_kept = check.loss(photo_latents[-1:], instance)
        base_class = check.loss(class_latents, of_class)
    scores = []
    for step in study.steps:
        with maker.using(fewer[step]):
            kept_loss = check.loss(photo_latents[-1:], instance)
        with maker.using(models[step]):
            photo_loss, class_loss = check.loss(photo_latents, instance), check.loss(class_latents, of_class)
            pictures = maker.pictures(prompts, seeds)
        measured = {
            "pictures": runner.look_at(asked, pictures[: len(asked)], photos),
            "prior": runner.look_at(prior, pictures[len(asked) :], photos),
            "training": None,
            "diversity": [],
        }
        measures = subject_measures(measured, measured)
        scores.append(
            Score(
                study.subject,
                step,
                photo_loss / base_photos,
                kept_loss / base_kept,
                class_loss / base_class,
                {key: measures[key] for key in FIDELITIES},
            )
        )
    return scores


def train_keeping(
    runner: JobRunner, request: TrainingRequest, photos: tuple[Path, ...], steps: Sequence[int]
) -> dict[int, FineTune]:
    """Trains once with the service's trainer and gives the model of each of the steps, as it would be published."""
    with tempfile.TemporaryDirectory(prefix="enlight-fidelity-") as name:
        folder = Path(name)
        config = trainer_config(runner.base, dataclasses.replace(request, photos=photos), folder, runner.device)

        def make_step(objective: Objective, max_grad_norm: float) -> StepFunction:
            update = eager_step(objective, max_grad_norm=max_grad_norm)

            def step(state: TrainingState, batches: Sequence[MicroBatch], learning_rate: float) -> torch.Tensor:
                loss = update(state, batches, learning_rate)
                done = state.step + 1
                if done in steps:
                    (folder / f"step-{done}").mkdir()
                    save_model_files(state.parameters, request, runner.base.folder, folder / f"step-{done}")
                return loss

            return step

        objects = open_store(config.store.bucket_url, timeout_s=60, retry_total_s=60)
        Trainer(PatientChannel(), config, ModelStore(objects), make_step=make_step).run()
        torch.backends.cudnn.benchmark = False  # as in personalised_model.train
        return {step: _kept(folder / f"step-{step}", config) for step in steps}


def _kept(folder: Path, config: TrainerConfig) -> FineTune:
    request, base = config.request, config.base
    description = ModelDescription(base.name, base.revision, request.kind, request.instance_prompt, {})
    manifest = Manifest.describe(request.model_id, folder.name, description, describe_files(folder), datetime.now(UTC))
    return read_fine_tune(folder, manifest, device=torch.device("cpu"))


class SelfCheck:
    """Denoising losses with fixed draws, so that models differ and chance does not.

    Args:
        maker: The networks.
        subject: Seeds the draws.
    """

    def __init__(self, maker: PictureMaker, subject: str) -> None:
        self._pipeline = maker.pipeline
        self._seed = seed_for("self-check", subject)
        self._schedule = NoiseSchedule.from_config(self._pipeline.scheduler_config, self._pipeline.device)

    def photo_latents(self, photos: np.ndarray) -> torch.Tensor:
        """Scaled latents (B, C, h, w) of photos (B, H, W, 3) uint8."""
        mean, _ = self._pipeline.encode_photos(rgb_to_pixels(torch.from_numpy(photos)))
        return mean * self._pipeline.latent_factor

    def class_latents(self, prompt: str) -> torch.Tensor:
        """Scaled latents (CLASS_LATENTS, C, h, w) of pictures that the weights in use make of the prompt."""
        prompts = [prompt] * CLASS_LATENTS
        scales = (GUIDANCE_SCALE,) * CLASS_LATENTS
        encode = self._pipeline.encode_prompts
        return denoise(
            self._pipeline,
            Conditioning(encode(prompts), encode([""] * CLASS_LATENTS), scales),
            seeds=[self._seed + number for number in range(CLASS_LATENTS)],
            steps=DENOISING_STEPS,
            width_px=PICTURE_SIZE_PX,
            height_px=PICTURE_SIZE_PX,
        )

    @torch.no_grad()
    def loss(self, latents: torch.Tensor, prompt: str) -> float:
        """Mean squared error of the prediction on scaled latents (B, C, h, w), over timesteps spread evenly."""
        device, count = latents.device, len(latents)
        generator = torch.Generator().manual_seed(self._seed)
        spread = (torch.arange(DRAWS_PER_PICTURE) + 0.5) / DRAWS_PER_PICTURE * self._schedule.timesteps
        embedding = self._pipeline.encode_prompts([prompt])
        losses = []
        for timestep in spread.long():
            noise = torch.randn(latents.shape, generator=generator).to(device)
            timesteps = timestep.repeat(count).to(device)
            noisy = self._schedule.add_noise(latents, noise, timesteps)
            prediction = self._pipeline.predict(noisy, timesteps, embedding.expand(count, -1, -1))
            losses.append(torch.nn.functional.mse_loss(prediction, self._schedule.target(latents, noise, timesteps)))
        return float(torch.stack(losses).mean())


def chosen(scores: Sequence[Score], rule: Rule) -> Score:
    """The step of one subject that the rule chooses; the earlier one of equals."""
    return min(scores, key=lambda score: (rule(score), score.step))


def report(scores: Mapping[str, Sequence[Score]], console: Console) -> list[dict[str, str]]:
    """Shows fidelity and losses by step, and fidelity by rule.

    Args:
        scores: Of each subject, by step.
        console: Where.

    Returns:
        The rules' lines, for a CSV file.
    """
    steps = [score.step for score in next(iter(scores.values()))]
    by_step = Table("step", *FIDELITIES, *LOSSES, title="Means over subjects")
    for number, step in enumerate(steps):
        at_step = [of_subject[number] for of_subject in scores.values()]
        cells = [_mean([score.fidelities[key] for score in at_step]) for key in FIDELITIES]
        losses = ([getattr(score, name) for score in at_step] for name in LOSSES)
        cells += [f"{sum(values) / len(values):.3f}" for values in losses]
        by_step.add_row(str(step), *cells)
    console.print(by_step)
    by_rule = Table("rule", *FIDELITIES, "both, against last", "steps chosen", title="What each rule would choose")
    lines = []
    for name, rule in RULES.items():
        choices = [chosen(of_subject, rule) for of_subject in scores.values()]
        last = [of_subject[-1].fidelities["both"] for of_subject in scores.values()]
        gains = [choice.fidelities["both"] - before for choice, before in zip(choices, last, strict=True)]
        gain = bootstrap_mean(gains)
        picked = [choice.step for choice in choices]
        line = {
            "rule": name,
            **{key: _mean([choice.fidelities[key] for choice in choices]) for key in FIDELITIES},
            "gain": f"{gain.mean:+.1f} ({gain.low:+.1f} to {gain.high:+.1f})",
            "steps": ", ".join(f"{step}: {picked.count(step)}" for step in steps if step in picked),
        }
        by_rule.add_row(*line.values())
        lines.append(line)
    console.print(by_rule)
    return lines


def write_scores(path: Path, choice: str, scores: Mapping[str, Sequence[Score]]) -> Path:
    """One line per subject and step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["training", "subject", "step", *LOSSES, *FIDELITIES])
        for of_subject in scores.values():
            for score in of_subject:
                numbers = [*(getattr(score, name) for name in LOSSES), *(score.fidelities[key] for key in FIDELITIES)]
                writer.writerow([choice, score.subject, score.step, *(f"{number:.6g}" for number in numbers)])
    return path


def _mean(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.2f}"
