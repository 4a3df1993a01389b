"""Removes what nobody needs from the jobs' bucket: photos of people must not be there longer than they are good for."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice

from enlight.jobkit.job_store import JobStore
from enlight.jobkit.jobs import Job
from enlight.main_api.trainings.objects import TrainingObjects

_log = logging.getLogger(__name__)

SWEEP_EVERY_S = 600.0
UNTOUCHED_S = 3600.0
"""Longer than a request can be between its photos and its record, and than a worker is between two checkpoints of a
training that has ended."""
_JOBS_AT_ONCE = 500


def sweep(objects: TrainingObjects, store: JobStore, *, photos_kept_s: float, untouched_s: float = UNTOUCHED_S) -> None:
    """Removes the objects of trainings that were never recorded, and what is needless of those that ended.

    Args:
        objects: The bucket.
        store: The jobs.
        photos_kept_s: How long photos are kept after a training ended without a model.
        untouched_s: What was written later than this before now is left alone.

    Raises:
        DatabaseUnavailable: nothing is removed on a guess.
        StorageUnavailable: the rest comes with the next call.
    """
    removed = 0
    photos_kept_since = datetime.now(UTC) - timedelta(seconds=photos_kept_s)
    untouched = objects.untouched(untouched_s)
    while found := dict(islice(untouched, _JOBS_AT_ONCE)):
        jobs = store.find_many(found)
        for job_id, keys in found.items():
            job = jobs.get(job_id)
            needless = keys if job is None else _needless(job, keys, photos_kept_since)
            objects.remove_keys(needless)
            removed += bool(needless)
    if removed:
        _log.info("removed what %d trainings left in the jobs' bucket", removed)


def _needless(job: Job, keys: Sequence[str], photos_kept_since: datetime) -> list[str]:
    if not job.ended:
        return []
    folders = {"checkpoints"}
    if job.state == "succeeded" or job.finished_at is None or job.finished_at < photos_kept_since:
        folders.add("photos")
    return [key for key in keys if key.split("/")[1] in folders]
