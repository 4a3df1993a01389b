"""What a training has in the jobs' bucket.

::

    <job_id>/photos/<nn>                 the files as they were uploaded
    <job_id>/checkpoints/<step>/<file>   written by the worker
    <job_id>/samples/<step>-<attempt>    PNG files, written by the worker

When a training ends its checkpoints go, and its photos once there is a model; without one they wait for another try.
All of it goes with the training's record.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from hashlib import sha256
from itertools import groupby
from pathlib import Path

from enlight.jobkit.jobs import Job, JobSample, sample_key
from enlight.servicekit.errors import Conflict, ServiceError, StorageUnavailable
from enlight.servicekit.object_store import ObjectStore, put_new, remove_folder

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
        keys = _photo_keys(job_id, len(photos))
        try:
            for key, photo in zip(keys, photos, strict=True):
                put_new(self._store, key, photo)
        except ServiceError:
            self.try_to_remove(job_id)
            raise
        return keys

    def copy_photos(self, job_id: str, photo_keys: Sequence[str]) -> list[str]:
        """The same with the photos of another training, one after the other over the disk.

        Raises:
            NotFound: they are no longer kept.
            StorageUnavailable: as `put_photos`.
        """
        keys = _photo_keys(job_id, len(photo_keys))
        try:
            for key, original in zip(keys, photo_keys, strict=True):
                with tempfile.NamedTemporaryFile(prefix="enlight-photo-") as file:
                    self._store.download(original, file.write)
                    file.flush()
                    with suppress(Conflict):  # a try of this call whose answer got lost
                        self._store.put_file(key, Path(file.name), if_absent=True)
        except ServiceError:
            self.try_to_remove(job_id)
            raise
        return keys

    def read_sample(self, job: Job, sample: JobSample) -> bytes:
        """The file of a sample, compared with its record.

        Raises:
            NotFound: it was removed meanwhile.
            StorageUnavailable: what is there is not what the worker made.
        """
        data, _ = self._store.get_bytes(sample_key(job.id, sample), max_bytes=sample.size_bytes)
        if sha256(data).hexdigest() != sample.sha256:
            raise StorageUnavailable("The sample in the bucket is not the one that was made.")
        return data

    def remove(self, folder: str) -> None:
        """Removes all that a training has here, or what is in one of its folders.

        Raises:
            StorageUnavailable: something may be left.
        """
        remove_folder(self._store, folder)

    def try_to_remove(self, folder: str) -> None:
        """Removes what it can; the sweep comes for the rest."""
        try:
            self.remove(folder)
        except ServiceError as error:
            _log.warning("objects of training %s are left to the sweep: %s", folder, error.message)

    def untouched(self, older_than_s: float) -> Iterator[tuple[str, list[str]]]:
        """Ids of the trainings none of whose objects was written within the last ``older_than_s``, and their keys."""
        limit_s = time.time() - older_than_s
        for job_id, group in groupby(self._store.list(), key=lambda info: info.key.partition("/")[0]):
            infos = list(group)
            if max(info.updated_s for info in infos) < limit_s:
                yield job_id, [info.key for info in infos]

    def remove_keys(self, keys: Iterable[str]) -> None:
        """Removes these objects. Raises: StorageUnavailable."""
        for key in keys:
            self._store.delete(key)


def _photo_keys(job_id: str, count: int) -> list[str]:
    return [f"{job_id}/photos/{index:02d}" for index in range(count)]
