"""DreamBooth training as computation: the draws, one update, and the loop over updates.

Everything random (order of the photos, latents, noise, timesteps) comes from one CPU generator in the state,
so that every device sees the same draws and a checkpoint can hold it. Nothing here reads a value
back from the GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch

from enlight.dreambooth_api.pure.losses import NoiseSchedule, dreambooth_loss

RECENT_LOSSES = 50
"""Updates over which the loss that a finished job reports is averaged."""


@dataclass(frozen=True)
class TrainingData:
    """What the updates learn from, on the training device. Photos come first, class images after them."""

    latent_mean: torch.Tensor
    """(N + M, C, h, w) float32: mean of each picture's latents, scaled as the network wants it."""
    latent_std: torch.Tensor
    """The same of its standard deviation."""
    photo_count: int
    """N."""

    @property
    def class_count(self) -> int:
        """M, 0 without prior preservation."""
        return len(self.latent_mean) - self.photo_count

    @property
    def epoch_length(self) -> int:
        """Draws after which every photo and every class image was used at least once."""
        return max(self.photo_count, self.class_count)


@dataclass
class PhotoSampler:
    """Endless shuffled epochs of the numbers 0 to ``length - 1``. Batches run on over the end of an epoch."""

    length: int
    order: list[int] = field(default_factory=list)
    """The present epoch."""
    position: int = 0
    """How many of the present epoch were drawn."""

    def draw(self, count: int, generator: torch.Generator) -> list[int]:
        """The next ``count`` numbers."""
        drawn: list[int] = []
        while len(drawn) < count:
            if self.position == len(self.order):
                self.order = torch.randperm(self.length, generator=generator).tolist()
                self.position = 0
            drawn.append(self.order[self.position])
            self.position += 1
        return drawn


@dataclass(frozen=True)
class MicroBatch:
    """The draws of one forward and backward pass over R rows.

    With prior preservation the first half of the rows are photos, the second half class images.
    """

    rows: torch.Tensor
    """(R,) int64: which pictures of the TrainingData."""
    posterior_noise: torch.Tensor
    """(R, C, h, w) float32: draws the latents from their distributions."""
    noise: torch.Tensor
    """(R, C, h, w) float32: eps."""
    timesteps: torch.Tensor
    """(R,) int64."""

    def to(self, device: torch.device) -> MicroBatch:
        """On ``device``; a copy to a GPU is queued without waiting for it."""
        if device.type != "cuda":
            return self
        tensors = (self.rows, self.posterior_noise, self.noise, self.timesteps)
        return MicroBatch(*(tensor.pin_memory().to(device, non_blocking=True) for tensor in tensors))


@dataclass
class TrainingState:
    """All that changes from update to update: exactly what a checkpoint has to hold."""

    parameters: Mapping[str, torch.nn.Parameter]
    """Trained weights, fp32, by stable names."""
    optimizer: torch.optim.Optimizer
    grad_scaler: torch.amp.GradScaler | None
    """Only for fp16."""
    sampler: PhotoSampler
    generator: torch.Generator
    """On the CPU."""
    recent_losses: torch.Tensor
    """(RECENT_LOSSES,) float32 on the device, a ring: update i is at i mod RECENT_LOSSES."""
    step: int = 0
    """Updates done."""

    def mean_recent_loss(self) -> torch.Tensor:
        """Mean loss of the last updates (at most RECENT_LOSSES), a scalar on the device."""
        return self.recent_losses[: max(1, min(self.step, RECENT_LOSSES))].mean()


@dataclass(frozen=True)
class Objective:
    """Loss of a micro-batch. ``predict`` and ``embed_prompts`` hold the networks."""

    predict: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    """(noisy latents, timesteps, embeddings) -> prediction."""
    embed_prompts: Callable[[], torch.Tensor]
    """(P, L, D): the instance prompt and, with prior preservation, the class prompt."""
    data: TrainingData
    noise_schedule: NoiseSchedule
    prior_loss_weight: float | None
    """None without prior preservation."""
    autocast_dtype: torch.dtype | None
    """bfloat16 or float16 on a GPU; None computes in the weights' own precision."""

    def loss(self, batch: MicroBatch) -> torch.Tensor:
        """Scalar fp32 with a graph."""
        mean, std = self.data.latent_mean[batch.rows], self.data.latent_std[batch.rows]
        x_0 = mean + std * batch.posterior_noise
        x_t = self.noise_schedule.add_noise(x_0, batch.noise, batch.timesteps)
        with autocast(x_t.device, self.autocast_dtype):
            embeddings = self.embed_prompts()
            embeddings = embeddings.repeat_interleave(len(x_t) // len(embeddings), dim=0)
            prediction = self.predict(x_t, batch.timesteps, embeddings)
        target = self.noise_schedule.target(x_0, batch.noise, batch.timesteps)
        return dreambooth_loss(prediction, target, self.prior_loss_weight)


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """A block that computes in ``dtype``; None: in the weights' own precision."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


StepFunction = Callable[[TrainingState, Sequence[MicroBatch], float], torch.Tensor]
"""One update of the state's parameters from micro-batches (on the device) at a learning rate.

Gives the mean loss of the micro-batches, a scalar on the device without a graph. It leaves ``step``, the
sampler, the generator and ``recent_losses`` alone.
"""


def eager_step(objective: Objective, *, max_grad_norm: float) -> StepFunction:
    """The plain update: accumulate gradients, clip their norm, step.

    Source: diffusers 0.42, ``examples/dreambooth/train_dreambooth.py``.
    """

    def step(state: TrainingState, batches: Sequence[MicroBatch], learning_rate: float) -> torch.Tensor:
        scaler, optimizer = state.grad_scaler, state.optimizer
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        losses = []
        for batch in batches:
            loss = objective.loss(batch) / len(batches)
            (scaler.scale(loss) if scaler else loss).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        if scaler:
            scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(state.parameters.values(), max_grad_norm)
        if scaler:
            scaler.step(optimizer)  # skips the update where fp16 overflowed
            scaler.update()
        else:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return torch.stack(losses).sum()

    return step


@dataclass(frozen=True)
class Plan:
    """How many updates, of what size, at which learning rates."""

    steps: int
    """Updates."""
    batch_size: int
    """Photos of a micro-batch; as many class images come on top with prior preservation."""
    accumulation: int
    """Micro-batches of an update."""
    learning_rate: Callable[[int], float]
    """Of update number i, from 0."""


def draw_micro_batch(
    state: TrainingState, data: TrainingData, noise_schedule: NoiseSchedule, batch_size: int
) -> MicroBatch:
    """The next draws, on the CPU: pictures, latents, noise, timesteps, in this order.

    Draw k of an epoch is photo k mod N and class image k mod M, as in diffusers' ``DreamBoothDataset``.
    """
    draws = state.sampler.draw(batch_size, state.generator)
    rows = [draw % data.photo_count for draw in draws]
    if data.class_count:
        rows += [data.photo_count + draw % data.class_count for draw in draws]
    shape = (len(rows), *data.latent_mean.shape[1:])
    return MicroBatch(
        rows=torch.tensor(rows),
        posterior_noise=torch.randn(shape, generator=state.generator),
        noise=torch.randn(shape, generator=state.generator),
        timesteps=torch.randint(0, noise_schedule.timesteps, (len(rows),), generator=state.generator),
    )


def run_updates(
    state: TrainingState,
    plan: Plan,
    objective: Objective,
    step_function: StepFunction,
    *,
    before_update: Callable[[], None],
    after_update: Callable[[torch.Tensor, float], None],
) -> None:
    """Run updates until ``state.step`` is ``plan.steps``.

    Args:
        state: Where to begin; changed in place.
        plan: What to run.
        objective: Its data and noise schedule shape the draws.
        step_function: One update.
        before_update: Called before each; may raise to stop, and then the state is that of a whole update.
        after_update: Called after each with its loss (a scalar on the device) and its learning rate.
    """
    device = objective.data.latent_mean.device
    while state.step < plan.steps:
        before_update()
        batches = [
            draw_micro_batch(state, objective.data, objective.noise_schedule, plan.batch_size).to(device)
            for _ in range(plan.accumulation)
        ]
        learning_rate = plan.learning_rate(state.step)
        loss = step_function(state, batches, learning_rate)
        state.recent_losses[state.step % RECENT_LOSSES] = loss
        state.step += 1
        after_update(loss, learning_rate)
