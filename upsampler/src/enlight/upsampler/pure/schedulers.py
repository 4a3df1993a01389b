"""diffusers' noise schedulers, made from a model's configuration."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Protocol, cast

import diffusers.schedulers
import torch
from diffusers.schedulers.scheduling_utils import SchedulerMixin


class Scheduler(Protocol):
    """The part of diffusers' scheduler interface that upscaling uses."""

    timesteps: torch.Tensor
    init_noise_sigma: float | torch.Tensor

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
        """``original_samples`` as noisy as they are at ``timesteps``."""
        ...


class UnknownSchedulerError(ValueError):
    """The configuration names a class that diffusers does not have, or values that the class refuses."""


def make_scheduler(config: Mapping[str, Any]) -> Scheduler:
    """A fresh scheduler of the class that ``config["_class_name"]`` names.

    Raises:
        UnknownSchedulerError: no such class, or it refuses the configuration.
    """
    name = config.get("_class_name")
    scheduler_class: Any = getattr(diffusers.schedulers, name, None) if isinstance(name, str) else None
    if not (inspect.isclass(scheduler_class) and issubclass(scheduler_class, SchedulerMixin)):
        raise UnknownSchedulerError(f"diffusers has no scheduler {name!r}")
    try:
        return cast(Scheduler, cast(Any, scheduler_class).from_config(dict(config)))
    except (TypeError, ValueError, NotImplementedError, ImportError) as error:
        raise UnknownSchedulerError(f"{name} does not take its configuration: {error}") from error


def step_arguments(scheduler: Scheduler, generator: torch.Generator) -> dict[str, Any]:
    """What this scheduler's ``step`` takes of: no extra noise (eta = 0), the generator."""
    offered = {"eta": 0.0, "generator": generator}
    taken = inspect.signature(scheduler.step).parameters
    return {name: value for name, value in offered.items() if name in taken}
