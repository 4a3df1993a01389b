"""From results of jobs to one line per row of the table: means over subjects, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from intervals import Estimate, bootstrap_mean
from protocol import COPY_RMSE

Measured = Mapping[str, Any]
"""What `subject_jobs.JobResult.measured` holds."""


@dataclass(frozen=True)
class Measure:
    """A column of the table."""

    key: str
    title: str
    unit: str
    digits: int


MEASURES: tuple[Measure, ...] = (
    Measure("subject_fidelity", "subject fidelity", "%", 0),
    Measure("likeness", "likeness", "", 2),
    Measure("prompt_fidelity", "prompt fidelity", "%", 0),
    Measure("both", "both", "%", 0),
    Measure("prior", "prior right", "%", 0),
    Measure("prior_change", "prior kept", "pp", 1),
    Measure("diversity", "diversity", "%", 0),
    Measure("copies", "copies", "%", 1),
    Measure("train_s", "training", "s", 1),
    Measure("total_s", "total", "s", 1),
)
"""In the order of the table. `both`: the subject and the background in one picture; `likeness`: cosine similarity to
the subject's reference; `total_s`: the trainer's job from loading the base to publishing the model."""


def subject_measures(measured: Measured, base: Measured) -> dict[str, float]:
    """The measures of one subject, shares in per cent. A measure that does not apply is absent.

    Args:
        measured: The result of a job.
        base: The result of the untrained base for the same subject.
    """
    first = [picture for picture in measured["pictures"] if not picture["extra"]]
    is_subject = [picture["nearest"] == picture["shows"] for picture in first]
    is_place = [picture["named_background"] == picture["background"] for picture in first]
    values = {
        "subject_fidelity": _per_cent(is_subject),
        "likeness": sum(picture["likeness"] for picture in first) / len(first),
        "prompt_fidelity": _per_cent(is_place),
        "both": _per_cent([subject and place for subject, place in zip(is_subject, is_place, strict=True)]),
        "copies": _per_cent([picture["photo_rmse"] < COPY_RMSE for picture in measured["pictures"]]),
    }
    if measured["prior"]:
        values["prior"] = _prior_right(measured)
    training = measured["training"]
    if training is not None:
        values["train_s"] = training["train_s"]
        values["total_s"] = training["total_s"]
        if measured["prior"]:
            values["prior_change"] = values["prior"] - _prior_right(base)
    spreads = measured["diversity"]
    if spreads:
        values["diversity"] = (
            100.0 * sum(spread["rmse"] / spread["rmse_of_renders"] for spread in spreads) / len(spreads)
        )
    return values


def estimates(per_subject: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """Mean and interval of every measure that there is, from the measures of each subject."""
    keys = [measure.key for measure in MEASURES if measure.key in per_subject[0]]
    return {key: bootstrap_mean([values[key] for values in per_subject]) for key in keys}


def _prior_right(measured: Measured) -> float:
    return _per_cent([picture["nearest"] == picture["shows"] for picture in measured["prior"]])


def _per_cent(right: Sequence[bool]) -> float:
    return 100.0 * sum(right) / len(right)
