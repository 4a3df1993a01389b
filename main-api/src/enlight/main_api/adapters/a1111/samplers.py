"""Names of samplers, which A1111's clients always send. A base model has one here, and no other runs."""

from __future__ import annotations

from enlight.servicekit.errors import NotFound

AUTOMATIC = "Automatic"
"""The base model's own."""

KNOWN = (
    "DPM++ 2M",
    "DPM++ SDE",
    "DPM++ 2M SDE",
    "DPM++ 2M SDE Heun",
    "DPM++ 2S a",
    "DPM++ 3M SDE",
    "Euler a",
    "Euler",
    "LMS",
    "Heun",
    "DPM2",
    "DPM2 a",
    "DPM fast",
    "DPM adaptive",
    "Restart",
    "DDIM",
    "DDIM CFG++",
    "PLMS",
    "UniPC",
    "LCM",
)
"""Those that A1111 has: a request may name any of them, and none of them changes what runs."""
_OF_SCHEDULERS = {
    "DDIMScheduler": "DDIM",
    "PNDMScheduler": "PLMS",
    "EulerDiscreteScheduler": "Euler",
    "EulerAncestralDiscreteScheduler": "Euler a",
    "DPMSolverMultistepScheduler": "DPM++ 2M",
    "HeunDiscreteScheduler": "Heun",
    "LMSDiscreteScheduler": "LMS",
    "UniPCMultistepScheduler": "UniPC",
}


def check_sampler(name: str | None) -> None:
    """Raises NotFound for a name that no sampler has, as A1111 does."""
    known = {each.lower() for each in (AUTOMATIC, *KNOWN)}
    if name and name.removesuffix(" Karras").lower() not in known:
        raise NotFound(f"Sampler not found: {name}. GET /sdapi/v1/samplers lists the names.")


def sampler_of(scheduler: str) -> str:
    """A1111's name of diffusers' scheduler, which is what ran."""
    return _OF_SCHEDULERS.get(scheduler, scheduler.removesuffix("Scheduler"))
