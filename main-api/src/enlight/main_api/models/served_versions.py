"""Which weights a request for pictures meets: pictures that are kept are true of these and of no others."""

from __future__ import annotations

from dataclasses import dataclass

from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.dreambooth_api.model_store import ModelStore
from enlight.servicekit.errors import ServiceError


@dataclass(frozen=True)
class ServedVersion:
    """A model as it is now."""

    told: str
    """What ``X-Model-Version`` says of its pictures."""
    weights: str
    """Another one for all other weights."""


class ServedVersions:
    """Looks models up as the services behind do. No method raises: what is wrong with a model they say themselves.

    Args:
        models: Trained models.
        catalogue: Base models.
    """

    def __init__(self, models: ModelStore, catalogue: BaseCatalogue) -> None:
        self._models = models
        self._catalogue = catalogue

    def of_model(self, bucket_id: str) -> ServedVersion | None:
        """The model's current version; None when it cannot be told."""
        try:
            version = self._models.current_version(bucket_id)
        except ServiceError:
            return None
        return ServedVersion(version, version)

    def of_base(self, name: str) -> ServedVersion | None:
        """The base model; None when there is none of that name."""
        try:
            base = self._catalogue.resolve(name, field="model_id")
        except ServiceError:
            return None
        return ServedVersion(base.name, f"{base.name}@{base.revision}")
