"""Trainings of the whole suite as a client starts and looks at them, through the gateway."""

from __future__ import annotations

from typing import Any

import requests
from clients import PHOTOS
from local_suite import LocalSuite


def start_training(suite: LocalSuite, name: str, *, steps: int) -> str:
    """Id of a training of the pocket base, accepted."""
    body = {
        "model_id": name,
        "instance_prompt": "a sks robot",
        "photos": PHOTOS,
        "max_training_steps": steps,
        "train_batch_size": 1,
    }
    answer = requests.post(f"{suite.url}/v1/trainings", json=body, timeout=30)
    assert answer.status_code == 202, answer.text
    job_id: str = answer.json()["id"]
    return job_id


def training(suite: LocalSuite, job_id: str) -> dict[str, Any] | None:
    """The training's record; None while the gateway or its database is away."""
    try:
        answer = requests.get(f"{suite.url}/v1/trainings/{job_id}", timeout=10)
    except requests.ConnectionError:
        return None
    assert answer.status_code in (200, 503), answer.text
    record: dict[str, Any] = answer.json()
    return record if answer.status_code == 200 else None
