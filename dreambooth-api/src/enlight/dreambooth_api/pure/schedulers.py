"""diffusers' noise schedulers: made from a base's configuration, and rows taken out of a running one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import diffusers.schedulers
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin


class Scheduler(Protocol):
    """The part of diffusers' scheduler interface that sampling uses."""

    timesteps: torch.Tensor
    init_noise_sigma: float | torch.Tensor
    order: int
    """Entries of ``timesteps`` per step."""

    def set_timesteps(self, num_inference_steps: int) -> None:
        """Start over, for this many steps."""
        ...

    def scale_model_input(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """The network's input for these latents."""
        ...

    def step(
        self, model_output: torch.Tensor, timestep: torch.Tensor, sample: torch.Tensor, **kwargs: object
    ) -> tuple[torch.Tensor, ...]:
        """The latents of the next step come first in the tuple (with ``return_dict=False``)."""
        ...

    def add_noise(self, original_samples: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The latents with as much noise as there is at these timesteps."""
        ...


class UnknownSchedulerError(ValueError):
    """The configuration names a class that diffusers does not have, or values that the class refuses."""


def make_scheduler(config: Mapping[str, Any]) -> Scheduler:
    """A fresh scheduler of the class that ``config["_class_name"]`` names, as StableDiffusionPipeline has it.

    Raises:
        UnknownSchedulerError: no such class, or it refuses the configuration.

    Source: diffusers 0.42, ``StableDiffusionPipeline.__init__``: ``steps_offset`` is 1 and ``clip_sample`` is
    off whatever old configurations say.
    """
    name = config.get("_class_name")
    scheduler_class: Any = getattr(diffusers.schedulers, name, None) if isinstance(name, str) else None
    if not (inspect.isclass(scheduler_class) and issubclass(scheduler_class, SchedulerMixin)):
        raise UnknownSchedulerError(f"diffusers has no scheduler {name!r}")
    try:
        scheduler = cast(Any, scheduler_class).from_config(dict(config))
        corrections: dict[str, Any] = {}
        if scheduler.config.get("steps_offset", 1) != 1:
            corrections["steps_offset"] = 1
        if scheduler.config.get("clip_sample", False) is True:
            corrections["clip_sample"] = False
        if corrections:
            scheduler = cast(Any, scheduler_class).from_config({**config, **corrections})
        return cast(Scheduler, scheduler)
    except (TypeError, ValueError, NotImplementedError, ImportError) as error:
        raise UnknownSchedulerError(f"{name} does not take its configuration: {error}") from error


def begin_at(scheduler: Scheduler, first_step: int) -> torch.Tensor:
    """The timesteps from ``first_step`` on, of a scheduler that is told to begin there.

    Source: diffusers 0.42, ``StableDiffusionImg2ImgPipeline.get_timesteps``.
    """
    first_call = first_step * scheduler.order
    set_begin_index = getattr(scheduler, "set_begin_index", None)
    if set_begin_index is not None:
        set_begin_index(first_call)
    return scheduler.timesteps[first_call:]


def step_arguments(scheduler: Scheduler, generators: Sequence[torch.Generator]) -> dict[str, Any]:
    """What this scheduler's ``step`` takes of: no extra noise (eta = 0), one generator per row.

    Source: diffusers 0.42, ``StableDiffusionPipeline.prepare_extra_step_kwargs``.
    """
    offered = {"eta": 0.0, "generator": list(generators)}
    taken = inspect.signature(scheduler.step).parameters
    return {name: value for name, value in offered.items() if name in taken}


def keep_rows(scheduler: Scheduler, rows: torch.Tensor, batch_shape: torch.Size) -> None:
    """Take every row but ``rows`` out of the state that a running scheduler holds.

    A multistep scheduler remembers earlier predictions, alone or in lists: every tensor of the latents' shape
    ``batch_shape`` (B, C, h, w) in its attributes is cut down to ``rows`` (indices, int64). What is not per
    image (sigmas, timesteps, counters) stays.
    """
    for name, value in vars(scheduler).items():
        kept = _take_rows(value, rows, batch_shape)
        if kept is not value:
            setattr(scheduler, name, kept)


def _take_rows(value: object, rows: torch.Tensor, batch_shape: torch.Size) -> object:
    """``value`` with its tensors of shape ``batch_shape`` cut down to ``rows``; itself where it has none."""
    if isinstance(value, torch.Tensor):
        return value[rows.to(value.device)] if value.shape == batch_shape else value
    if isinstance(value, list | tuple):
        kept = [_take_rows(item, rows, batch_shape) for item in value]
        if all(new is old for new, old in zip(kept, value, strict=True)):
            return value
        return kept if isinstance(value, list) else tuple(kept)
    return value
