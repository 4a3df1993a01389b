"""Pictures that a training makes of itself on its way, so that one sees what it learns: asked for, shown."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import Field

from enlight.dreambooth_api.schemas import Prompt, Steps, TrainingBody, TrainingPath
from enlight.dreambooth_api.training_requests import CheckedTraining
from enlight.jobkit.jobs import Job, JobSample
from enlight.servicekit.errors import InvalidField, NotFound
from enlight.servicekit.schemas import Answer

MAX_SAMPLES = 20
_DEFAULT_SAMPLES = 5


class TrainingJobBody(TrainingBody):
    """``POST /v1/trainings``."""

    sample_prompt: Prompt | None = Field(
        None, description="Prompt of the pictures that the training makes of itself on its way; omitted: none."
    )
    sample_every_steps: Steps | None = Field(
        None, description=f"Updates between two of them, {MAX_SAMPLES} at most in all; omitted: a fifth of all updates."
    )


class TrainingSamplePath(TrainingPath):
    """Path of a sample."""

    step: Steps


class SampleView(Answer):
    """A picture that a training made of itself."""

    step: int = Field(description="Updates made by then.")
    url: str = Field(description="Path of the PNG file.")
    seconds: float = Field(description="How long the training waited for it.")


def with_samples(checked: CheckedTraining, body: TrainingJobBody, *, max_prompt_chars: int) -> CheckedTraining:
    """The training with the samples that the body asks for.

    Raises:
        InvalidField: these cannot be made.
    """
    prompt, every_steps = body.sample_prompt, body.sample_every_steps
    if prompt is None:
        if every_steps is not None:
            raise InvalidField.of("sample_every_steps", "needs a sample_prompt")
        return checked
    if len(prompt) > max_prompt_chars:
        raise InvalidField.of("sample_prompt", f"must have at most {max_prompt_chars} characters")
    steps = checked.request.max_training_steps
    if every_steps is None:
        every_steps = -(-steps // _DEFAULT_SAMPLES)
    if steps // every_steps > MAX_SAMPLES:
        least = -(-(steps + 1) // (MAX_SAMPLES + 1))
        message = f"makes {steps // every_steps} samples of {steps} steps, {MAX_SAMPLES} at most: {least} or more"
        raise InvalidField.of("sample_every_steps", message)
    request = dataclasses.replace(checked.request, sample_prompt=prompt, sample_every_steps=every_steps)
    return dataclasses.replace(checked, request=request)


def sample_views(job: Job) -> list[dict[str, Any]]:
    """The samples in the form of `SampleView`, by step; one of them is also what the event `sample` tells."""
    return [
        {"step": sample.step, "url": f"/v1/trainings/{job.id}/samples/{sample.step}", "seconds": sample.seconds}
        for sample in sorted(job.samples, key=lambda sample: sample.step)
    ]


def find_sample(job: Job, step: int) -> JobSample:
    """The sample of ``step``. Raises: NotFound."""
    for sample in job.samples:
        if sample.step == step:
            return sample
    raise NotFound(f"The training {job.id} has no sample of step {step}.")
