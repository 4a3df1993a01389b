"""The versions of a model that the attempts at one job publish: at most one of them becomes the job's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256

from enlight.dreambooth_api.model_store import ModelStore
from enlight.dreambooth_api.requests import TrainingOutcome
from enlight.jobkit.jobs import Job
from enlight.servicekit.errors import ServiceError


class AttemptVersions:
    """The versions of a job's model. All methods but `remove` raise StorageUnavailable.

    Args:
        models: Where they are.
        job: As this attempt claimed it.
    """

    def __init__(self, models: ModelStore, job: Job) -> None:
        self._models = models
        self._model_id = job.model_id
        self._prefix = f"{job.created_at:%Y%m%dT%H%M%S%f}-{sha256(job.id.encode()).hexdigest()[:8]}-a"
        self.own = f"{self._prefix}{job.attempt:04d}"
        """What this attempt publishes. No other has the name: an orphan cannot spoil what its heir does."""

    def make_current(self, version: str) -> None:
        """Send everybody to the job's version, unless a later job's is current. May be repeated.

        Raises: NotFound, CorruptModel: it was removed, or is damaged.
        """
        self._models.make_current(self._model_id, version)

    def describe(self, version: str) -> Mapping[str, object]:
        """The result of a job whose version an earlier attempt published, as far as the version tells.

        Raises: NotFound, CorruptModel.
        """
        manifest = self._models.manifest(self._model_id, version)
        return {
            "model_id": manifest.model_id,
            "version": manifest.version,
            "steps": manifest.parameters.get("max_training_steps"),
            "final_loss": manifest.parameters.get("final_loss"),
            "size_bytes": manifest.size_bytes,
            "parameters": dict(manifest.parameters),
        }

    def remove(self, *, kept: str) -> None:
        """Remove what the job's other attempts left, as far as the bucket lets us."""
        with suppress(ServiceError):
            for version in self._models.versions(self._model_id):
                if version.startswith(self._prefix) and version != kept:
                    self._models.delete_version(self._model_id, version)

    def remove_own(self) -> None:
        """Remove what this attempt published, as far as the bucket lets us."""
        with suppress(ServiceError):
            self._models.delete_version(self._model_id, self.own)


def describe_outcome(outcome: TrainingOutcome) -> Mapping[str, object]:
    """The result of a job that this attempt trained: what `AttemptVersions.describe` says, and how it went."""
    return dataclasses.asdict(outcome)
