from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from enlight.dreambooth_api.pure.losses import NoiseSchedule
from enlight.dreambooth_api.pure.training import (
    RECENT_LOSSES,
    MicroBatch,
    Objective,
    PhotoSampler,
    Plan,
    TrainingData,
    TrainingState,
    draw_micro_batch,
    eager_step,
    run_updates,
)

CPU = torch.device("cpu")
SCHEDULE = NoiseSchedule(torch.linspace(0.99, 0.1, 10), torch.linspace(0.1, 0.99, 10), "epsilon")


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _data(photos: int, class_images: int = 0) -> TrainingData:
    shape = (photos + class_images, 4, 2, 2)
    generator = _generator(9)
    return TrainingData(torch.randn(shape, generator=generator), torch.rand(shape, generator=generator), photos)


def _job(
    data: TrainingData, *, prior_loss_weight: float | None = None, scaler: Any = None
) -> tuple[TrainingState, Objective]:
    """A network of one weight: it predicts ``weight * latents``."""
    weight = torch.nn.Parameter(torch.tensor([0.5]))
    state = TrainingState(
        parameters={"weight": weight},
        optimizer=torch.optim.AdamW([weight], lr=1.0),
        grad_scaler=scaler,
        sampler=PhotoSampler(data.epoch_length),
        generator=_generator(),
        recent_losses=torch.zeros(RECENT_LOSSES),
    )
    prompts = 1 if prior_loss_weight is None else 2
    objective = Objective(
        predict=lambda latents, timesteps, embeddings: weight * latents,
        embed_prompts=lambda: torch.zeros(prompts, 3, 5),
        data=data,
        noise_schedule=SCHEDULE,
        prior_loss_weight=prior_loss_weight,
        autocast_dtype=None,
    )
    return state, objective


def _plan(steps: int, learning_rate: Callable[[int], float] = lambda step: 0.1, accumulation: int = 1) -> Plan:
    return Plan(steps=steps, batch_size=2, accumulation=accumulation, learning_rate=learning_rate)


def _run(state: TrainingState, plan: Plan, objective: Objective, **changes: Any) -> list[float]:
    losses: list[float] = []
    arguments: dict[str, Any] = {
        "before_update": lambda: None,
        "after_update": lambda loss, learning_rate: losses.append(loss.item()),
        **changes,
    }
    run_updates(state, plan, objective, eager_step(objective, max_grad_norm=1.0), **arguments)
    return losses


def test_every_photo_comes_once_per_epoch_and_in_another_order() -> None:
    # Given a sampler over five photos and a batch size that does not divide five
    sampler, generator = PhotoSampler(5), _generator()

    # When four epochs are drawn
    draws = [number for _ in range(10) for number in sampler.draw(2, generator)]

    # Then each epoch has all photos, and the orders differ
    epochs = [draws[start : start + 5] for start in range(0, 20, 5)]
    assert all(sorted(epoch) == [0, 1, 2, 3, 4] for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_a_batch_may_be_larger_than_an_epoch() -> None:
    assert sorted(PhotoSampler(2).draw(6, _generator())) == [0, 0, 0, 1, 1, 1]


def test_a_sampler_goes_on_from_its_state() -> None:
    # Given a sampler in the middle of an epoch, and its state
    sampler, generator = PhotoSampler(5), _generator()
    sampler.draw(7, generator)
    copy = PhotoSampler(5, list(sampler.order), sampler.position)
    copied_generator = torch.Generator()
    copied_generator.set_state(generator.get_state())

    # Then both draw the same from here
    assert sampler.draw(20, generator) == copy.draw(20, copied_generator)


def test_photos_and_class_images_are_drawn_in_pairs() -> None:
    # Given two photos and five class images
    data = _data(2, 5)
    state, _ = _job(data, prior_loss_weight=1.0)

    # When an epoch is drawn
    batches = [draw_micro_batch(state, data, SCHEDULE, 1) for _ in range(5)]

    # Then the first half of the rows are photos, the second half class images, and each class image comes once
    rows = torch.stack([batch.rows for batch in batches])
    assert set(rows[:, 0].tolist()) == {0, 1}
    assert sorted(rows[:, 1].tolist()) == [2, 3, 4, 5, 6]
    assert all(batch.noise.shape == (2, 4, 2, 2) for batch in batches)
    assert all(batch.timesteps.shape == (2,) for batch in batches)


def test_draws_are_the_same_for_the_same_seed_only() -> None:
    data = _data(3)

    def draw(seed: int) -> MicroBatch:
        state, _ = _job(data)
        state.generator = _generator(seed)
        return draw_micro_batch(state, data, SCHEDULE, 4)

    assert torch.equal(draw(1).noise, draw(1).noise)
    assert torch.equal(draw(1).timesteps, draw(1).timesteps)
    assert not torch.equal(draw(1).noise, draw(2).noise)
    assert not torch.equal(draw(1).noise, draw(1).posterior_noise)


def test_latents_are_drawn_from_their_distribution() -> None:
    # Given a network that gives back what it is shown, without noise added
    seen: list[torch.Tensor] = []
    data = _data(2)
    state, objective = _job(data)

    def predict(latents: torch.Tensor, timesteps: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        seen.append(latents)
        return latents

    objective = replace(
        objective,
        predict=predict,
        noise_schedule=NoiseSchedule(torch.ones(10), torch.zeros(10), "epsilon"),
    )
    batch = draw_micro_batch(state, data, SCHEDULE, 2)

    # When the loss is computed
    objective.loss(batch)

    # Then it saw mean + std * noise of the photos that were drawn
    expected = data.latent_mean[batch.rows] + data.latent_std[batch.rows] * batch.posterior_noise
    assert torch.equal(seen[0], expected)


def test_each_row_gets_its_prompt() -> None:
    # Given an instance prompt embedded as 1 and a class prompt embedded as 2
    seen: list[torch.Tensor] = []
    data = _data(2, 2)
    state, objective = _job(data, prior_loss_weight=1.0)

    def predict(latents: torch.Tensor, timesteps: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        seen.append(embeddings)
        return latents

    objective = replace(
        objective,
        predict=predict,
        embed_prompts=lambda: torch.stack([torch.ones(3, 5), torch.full((3, 5), 2.0)]),
    )

    # When a batch of three photos and three class images is computed
    objective.loss(draw_micro_batch(state, data, SCHEDULE, 3))

    # Then the photos have the first and the class images the second
    assert seen[0][:, 0, 0].tolist() == [1, 1, 1, 2, 2, 2]


def test_accumulation_is_one_update_of_the_mean_gradient() -> None:
    # Given two micro-batches whose gradients are known
    data = _data(4)
    state, objective = _job(data)
    weight = state.parameters["weight"]
    batches = [draw_micro_batch(state, data, SCHEDULE, 2) for _ in range(2)]
    gradients = [torch.autograd.grad(objective.loss(batch), weight)[0] for batch in batches]
    expected_loss = torch.stack([objective.loss(batch).detach() for batch in batches]).mean()

    # When one update is done, by an optimiser that subtracts the gradient
    state.optimizer = torch.optim.SGD([weight], lr=1.0)
    before = weight.detach().clone()
    loss = eager_step(objective, max_grad_norm=math.inf)(state, batches, 1.0)

    # Then the weight moved by the mean gradient, and the loss is the mean loss
    assert torch.allclose(before - weight, torch.stack(gradients).mean(0))
    assert loss.item() == pytest.approx(expected_loss.item())
    assert not loss.requires_grad
    assert weight.grad is None


def test_the_gradient_norm_is_clipped() -> None:
    data = _data(4)
    state, objective = _job(data)
    weight = state.parameters["weight"]
    state.optimizer = torch.optim.SGD([weight], lr=1.0)
    before = weight.detach().clone()
    eager_step(objective, max_grad_norm=1e-3)(state, [draw_micro_batch(state, data, SCHEDULE, 2)], 1.0)
    assert (before - weight).abs().item() == pytest.approx(1e-3, rel=1e-2)


def test_the_learning_rate_is_that_of_the_update() -> None:
    # Given a plan whose learning rate is 0 in the second of three updates
    data = _data(4)
    state, objective = _job(data)
    rates = [0.1, 0.0, 0.3]
    weights, told = [state.parameters["weight"].item()], []

    def after_update(loss: torch.Tensor, learning_rate: float) -> None:
        weights.append(state.parameters["weight"].item())
        told.append(learning_rate)

    # When it runs
    _run(state, _plan(3, rates.__getitem__), objective, after_update=after_update)

    # Then only the others moved the weight
    assert told == rates
    assert weights[0] != weights[1] == weights[2] != weights[3]


def test_a_state_of_any_update_can_be_stopped_at_and_gone_on_from() -> None:
    # Given a run of six updates
    data = _data(3)
    state, objective = _job(data)
    losses = _run(state, _plan(6, accumulation=2), objective)

    class StopError(Exception):
        pass

    # When another one is stopped before its fourth, and goes on
    stopped, objective = _job(data)

    def stop_at_third() -> None:
        if stopped.step == 3:
            raise StopError

    with pytest.raises(StopError):
        _run(stopped, _plan(6, accumulation=2), objective, before_update=stop_at_third)
    rest = _run(stopped, _plan(6, accumulation=2), objective)

    # Then it ends with the same weight
    assert rest == losses[3:]
    assert torch.equal(stopped.parameters["weight"], state.parameters["weight"])


def test_the_reported_loss_is_the_mean_of_the_last_updates() -> None:
    data = _data(3)
    state, objective = _job(data)
    losses = _run(state, _plan(RECENT_LOSSES + 7), objective)
    assert state.mean_recent_loss().item() == pytest.approx(sum(losses[-RECENT_LOSSES:]) / RECENT_LOSSES)


def test_the_reported_loss_of_a_short_job_counts_what_there_is() -> None:
    data = _data(3)
    state, objective = _job(data)
    losses = _run(state, _plan(3), objective)
    assert state.mean_recent_loss().item() == pytest.approx(sum(losses) / 3)


def test_a_finished_state_does_nothing() -> None:
    data = _data(3)
    state, objective = _job(data)
    state.step = 3
    assert _run(state, _plan(3), objective) == []


def test_fp16_skips_an_update_that_overflows_and_goes_on() -> None:
    # Given a GradScaler whose scale makes the gradients overflow
    data = _data(4)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    state, objective = _job(data, scaler=scaler)
    weight = state.parameters["weight"]
    objective = replace(objective, predict=lambda latents, timesteps, embeddings: 100 * weight * latents)
    before = state.parameters["weight"].item()

    # When an update is done
    _run(state, _plan(1), objective)

    # Then the weight is what it was, and the scale is smaller for the next one
    assert state.parameters["weight"].item() == before
    assert scaler.get_scale() == 2.0**126


def test_fp16_scaling_changes_no_update() -> None:
    data = _data(4)
    plain, objective = _job(data)
    _run(plain, _plan(3), objective)
    scaled, objective = _job(data, scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))
    _run(scaled, _plan(3), objective)
    assert torch.allclose(plain.parameters["weight"], scaled.parameters["weight"], rtol=1e-6)
