"""What a training has in the jobs' bucket: its photos, until it ends, and the checkpoints of its worker.

::

    <job_id>/photos/<nn>                 the files as they were uploaded
    <job_id>/checkpoints/<step>/<file>   written by the worker
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from enlight.servicekit.errors import ServiceError
from enlight.servicekit.object_store import ObjectStore, put_new, remove_folder, untouched_folders

_log = logging.getLogger(__name__)


class TrainingObjects:
    """The objects of trainings in the jobs' bucket."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put_photos(self, job_id: str, photos: Sequence[bytes]) -> list[str]:
        """Uploads the photos of a new training and gives their keys, in order.

        Raises:
            StorageUnavailable: not all are there; what was uploaded is removed as far as the store lets us.
        """
        keys = [f"{job_id}/photos/{index:02d}" for index in range(len(photos))]
        try:
            for key, photo in zip(keys, photos, strict=True):
                put_new(self._store, key, photo)
        except ServiceError:
            self.try_to_remove(job_id)
            raise
        return keys

    def remove(self, job_id: str) -> None:
        """Removes all that the training has here.

        Raises:
            StorageUnavailable: something may be left.
        """
        remove_folder(self._store, job_id)

    def try_to_remove(self, job_id: str) -> None:
        """Removes what it can; the sweep comes for the rest."""
        try:
            self.remove(job_id)
        except ServiceError as error:
            _log.warning("objects of training %s are left to the sweep: %s", job_id, error.message)

    def untouched(self, older_than_s: float) -> Iterator[str]:
        """Ids of the trainings none of whose objects was written within the last ``older_than_s``."""
        return untouched_folders(self._store, older_than_s)
