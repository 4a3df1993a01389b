"""Figures out of the text that a service answers under ``/metrics``."""

from __future__ import annotations

import requests
from prometheus_client.parser import text_string_to_metric_families


def sample(text: str, name: str, **labels: str) -> float:
    """The sum of all samples of this name that have these labels, whatever others they have. Raises: KeyError."""
    found = [
        each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
        if each.name == name and labels.items() <= each.labels.items()
    ]
    if not found:
        raise KeyError(f"{name} {labels}")
    return sum(found)


def metrics_text(url: str) -> str:
    """What a service says now."""
    answer = requests.get(f"{url}/metrics", timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.text
