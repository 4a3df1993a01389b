"""Removes what nobody needs from the jobs' bucket: photos of people must not outlive their training."""

from __future__ import annotations

import logging

from enlight.jobkit.job_store import JobStore
from enlight.main_api.trainings.objects import TrainingObjects

_log = logging.getLogger(__name__)

SWEEP_EVERY_S = 600.0
UNTOUCHED_S = 3600.0
"""Longer than a request can be between its photos and its record, and than a worker is between two checkpoints of a
training that has ended."""


def sweep(objects: TrainingObjects, store: JobStore, *, untouched_s: float = UNTOUCHED_S) -> None:
    """Removes the objects of trainings that ended or were never recorded.

    Raises:
        DatabaseUnavailable: nothing is removed on a guess.
        StorageUnavailable: the rest comes with the next call.
    """
    removed = 0
    for job_id in list(objects.untouched(untouched_s)):
        job = store.find(job_id)
        if job is None or job.ended:
            objects.remove(job_id)
            removed += 1
    if removed:
        _log.info("removed what %d trainings left in the jobs' bucket", removed)
