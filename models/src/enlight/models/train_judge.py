"""Trains the judge on real renders: `python -m enlight.models.train_judge --bank ... --run ... --time-limit-s 70`."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from enlight.models.backgrounds import BACKGROUNDS
from enlight.models.bank import load_bank
from enlight.models.compose import Composer, held_out_subject_indices, trained_subject_indices
from enlight.models.judge import JudgeNetwork
from enlight.models.run_record import (
    Clock,
    LossRecord,
    learning_rate_share,
    load_weights,
    prepare,
    read_state,
    save_weights,
    settings_of,
    timed_steps,
    training_arguments,
    write_state,
)
from enlight.models.settings import RecipeSettings
from enlight.models.subjects import all_subjects

_log = logging.getLogger(__name__)

WEIGHTS = "judge.safetensors"
STATE = "judge-state.json"


def blemish(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Blurs, tints and roughens pictures as an autoencoder or a camera would; (B, 3, H, W) in [0, 1]."""
    count, device = len(pixels), pixels.device

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand((count, 1, 1, 1), device=device, generator=generator)

    soft = functional.avg_pool2d(functional.pad(pixels, (1, 1, 1, 1), mode="replicate"), 3, 1)
    pixels = torch.lerp(pixels, soft, uniform(-0.3, 1.0).clamp_min(0))
    tint = 1 + 0.06 * torch.randn((count, 3, 1, 1), device=device, generator=generator)
    pixels = (pixels - 0.5) * uniform(0.9, 1.1) * tint + 0.5 + uniform(-0.05, 0.05)
    noise = torch.randn(pixels.shape, device=device, generator=generator)
    return (pixels + noise * uniform(0.0, 0.04)).clamp(0.0, 1.0)


def margin_logits(embedding: Tensor, centres: Tensor, labels: Tensor, margin: float, scale: float) -> Tensor:
    """Additive angular margin scores (ArcFace, arXiv 1801.07698).

    Args:
        embedding: (B, D) unit vectors.
        centres: (C, D), normalised here.
        labels: (B,) int64 right classes, moved away by the margin.
        margin: in radians.
        scale: inverse temperature.
    """
    cosine = (embedding @ functional.normalize(centres, dim=1).T).clamp(-0.9999, 0.9999)
    target = cosine.gather(1, labels[:, None])
    moved = torch.cos(torch.acos(target) + margin)
    return scale * cosine.scatter(1, labels[:, None], moved)


@torch.no_grad()
def evaluate(
    network: JudgeNetwork, composer: Composer, generator: torch.Generator, device: torch.device
) -> dict[str, float]:
    """Measures the judge on held-out subjects: retrieval among 200 others, similarity, backgrounds.

    Five renders of each of the 40 held-out and 200 trained subjects are the gallery; other renders of the
    held-out ones on other backgrounds are the queries.
    """
    network.eval()
    held_out, trained = held_out_subject_indices(), trained_subject_indices()
    step = max(1, len(trained) // 200)
    gallery = torch.tensor(held_out + trained[::step][:200], device=device)

    def embed(subjects: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        backgrounds = torch.randint(len(BACKGROUNDS), subjects.shape, device=device, generator=generator)
        pixels = composer.compose(subjects, backgrounds, generator).pixels.float() * 2 - 1
        vectors, scores = network(pixels)
        return vectors, scores, backgrounds

    references = functional.normalize(sum(embed(gallery)[0] for _ in range(5)), dim=1)  # type: ignore[arg-type]
    right_subject, right_background, same, other = [], [], [], []
    targets = torch.arange(len(held_out), device=device)
    for _ in range(20):
        vectors, scores, backgrounds = embed(gallery[: len(held_out)])
        similarity = vectors @ references.T
        right_subject.append((similarity.argmax(1) == targets).float().mean())
        right_background.append((scores.argmax(1) == backgrounds).float().mean())
        same.append(similarity.gather(1, targets[:, None]).mean())
        other.append((similarity.sum(1) - similarity.gather(1, targets[:, None])[:, 0]).mean() / (len(gallery) - 1))
    network.train()
    return {
        "retrieval": float(torch.stack(right_subject).mean()),
        "background": float(torch.stack(right_background).mean()),
        "same": float(torch.stack(same).mean()),
        "other": float(torch.stack(other).mean()),
    }


def train(
    run: Path,
    bank: Path,
    settings: RecipeSettings,
    clock: Clock,
    device: torch.device,
    workers: int,
    decay_share: float,
) -> None:
    """Trains until the clock is over, measures on the held-out subjects and saves."""
    pictures = load_bank(bank, settings, workers=workers)
    composer = Composer(pictures, settings, device, trained_subject_indices())
    everything = Composer(pictures, settings, device, range(len(all_subjects())))
    state = read_state(run / STATE)
    first_step = int(state.get("steps", 0))
    torch.manual_seed(settings.seed + 10 + first_step)
    generator = torch.Generator(device).manual_seed(settings.seed + 11 + first_step)
    network = JudgeNetwork(settings.judge_channels, settings.judge_embedding_width, len(BACKGROUNDS))
    load_weights(run / WEIGHTS, network)
    network = network.to(device).to(memory_format=torch.channels_last)
    centres = nn.Parameter(torch.randn(composer.nothing + 1, settings.judge_embedding_width, device=device))
    optimizer = torch.optim.AdamW(
        [*network.parameters(), centres],
        lr=settings.judge_learning_rate,
        weight_decay=0.02,
        fused=device.type == "cuda",
    )
    record = LossRecord(run / "judge.csv")
    for step, last in timed_steps(first_step, clock):
        share = learning_rate_share(clock, step - first_step, 100, decay_share)
        for group in optimizer.param_groups:
            group["lr"] = settings.judge_learning_rate * share
        with torch.no_grad():
            batch = composer.random_batch(settings.judge_batch, generator)
            pixels = blemish(batch.pixels.float(), generator) * 2 - 1
            pixels = pixels.contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            embedding, scores = network(pixels)
        # The margin grows with time, since a full margin from the start does not train
        margin = settings.judge_margin * min(1.0, 2.5 * clock.share)
        logits = margin_logits(embedding.float(), centres, batch.subjects, margin, settings.judge_scale)
        subject_loss = functional.cross_entropy(logits, batch.subjects)
        background_loss = functional.cross_entropy(scores.float(), batch.backgrounds)
        optimizer.zero_grad(set_to_none=True)
        (subject_loss + 0.3 * background_loss).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % 100 == 0 or last:
            record.add(
                step=step,
                seconds=clock.elapsed_s,
                subject_loss=subject_loss.item(),
                background_loss=background_loss.item(),
            )
    measured = evaluate(network, everything, generator, device)
    save_weights(run / WEIGHTS, network, torch.float16)
    write_state(run / STATE, steps=step + 1, seconds=state.get("seconds", 0.0) + clock.elapsed_s, **measured)
    _log.info("%s", json.dumps(measured))


def main() -> None:
    """Command line."""
    arguments = training_arguments(__doc__).parse_args()
    clock = Clock(arguments.time_limit_s)
    device = prepare(arguments.device)
    settings = settings_of(arguments)
    train(arguments.run, arguments.bank, settings, clock, device, arguments.workers, arguments.decay_share)


if __name__ == "__main__":
    main()
