"""A tenant's models: what there is, what each was trained on, a new name for one, and its end.

The database says which models a tenant has and what they are called; the bucket says what they are. Nothing about a
version is written down twice: what is shown is read from the version's manifest, which never changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from enlight.dreambooth_api.lru_cache import LruCache
from enlight.dreambooth_api.manifest import Manifest
from enlight.dreambooth_api.model_cache import ModelCache
from enlight.dreambooth_api.model_store import ModelStore
from enlight.jobkit.job_store import JobStore
from enlight.jobkit.states import State
from enlight.main_api.models.names import ModelNames, NamedModel
from enlight.servicekit.errors import Conflict, CorruptModel, NotFound, StorageUnavailable
from enlight.servicekit.object_store import ObjectStore

_LOOKUP_THREADS = 8
_FACTS_BYTES = 1 << 10  # about what the facts of one version take
_FACTS_QUOTA_BYTES = 4 << 20
_ACTIVE: tuple[State, ...] = ("queued", "running")
_JOBS_PER_PAGE = 100


@dataclass(frozen=True)
class VersionFacts:
    """What a list says of a version."""

    version: str
    created_at: datetime
    kind: Literal["full", "lora"]
    base_name: str
    base_revision: str | None
    size_bytes: int


@dataclass(frozen=True)
class ModelFacts:
    """One row of the list of models."""

    named: NamedModel
    state: Literal["ready", "empty", "damaged"]
    """``empty``: no training of it succeeded yet. ``damaged``: none of its versions can be read."""
    current: VersionFacts | None
    """The version that is used; None unless ready."""


@dataclass(frozen=True)
class ModelDetails:
    """Everything about one model."""

    facts: ModelFacts
    instance_prompt: str | None
    """Of the current version, as ``parameters``."""
    parameters: Mapping[str, object] | None
    versions: list[VersionFacts]
    """Newest first."""
    damaged_versions: list[str]


@dataclass(frozen=True)
class Removal:
    """What was seen after a removal, not what was meant."""

    name: str
    bucket_objects_left: int
    gateway_copies_in_use: int
    """Versions in this gateway's cache folder that are being exported now; they go when that ends."""
    name_forgotten: bool
    """Whether the cache confirmed that it forgot the name; else it believes it for its few seconds."""


class ModelsService:
    """What ``/v1/models`` does. Every method raises DatabaseUnavailable and StorageUnavailable, and NotFound for a name
    that the tenant does not have.

    Args:
        names: Which names there are.
        objects: The bucket of models, also behind ``store``.
        store: The models.
        copies: This gateway's copies of models, made by exports.
        jobs: The trainings, which keep a model from being removed.
        forget_name: Told (tenant, name) after a name changed its meaning; True when the cache confirmed.
    """

    def __init__(
        self,
        names: ModelNames,
        objects: ObjectStore,
        store: ModelStore,
        copies: ModelCache,
        jobs: JobStore,
        *,
        forget_name: Callable[[str, str], bool],
    ) -> None:
        self._names = names
        self._objects = objects
        self._store = store
        self._copies = copies
        self._jobs = jobs
        self._forget_name = forget_name
        self._lookups = ThreadPoolExecutor(_LOOKUP_THREADS, thread_name_prefix="model-facts")
        self._facts: LruCache[VersionFacts] = LruCache(_FACTS_QUOTA_BYTES)

    def close(self) -> None:
        """Ends the threads that look into the bucket."""
        self._lookups.shutdown(cancel_futures=True)

    def list(self, tenant: str, *, limit: int, after: str | None = None) -> tuple[list[ModelFacts], bool]:
        """Models by name, those after the name ``after``, and whether there are more."""
        found = self._names.list(tenant, limit=limit + 1, after=after)
        return list(self._lookups.map(self._model_facts, found[:limit])), len(found) > limit

    def show(self, tenant: str, name: str) -> ModelDetails:
        """The model with all of its versions."""
        named = self._names.get(tenant, name)
        facts = self._model_facts(named)
        manifest: Manifest | None = None
        if facts.current is not None:
            with tenants_words(name):
                manifest = self._store.manifest(named.bucket_id, facts.current.version)
        versions: list[VersionFacts] = []
        damaged: list[str] = []
        for version in reversed(self._store.versions(named.bucket_id)):
            try:
                versions.append(self._version_facts(named.bucket_id, version))
            except CorruptModel:
                damaged.append(version)
            except NotFound:
                continue  # removed meanwhile
        return ModelDetails(
            facts=facts,
            instance_prompt=manifest.instance_prompt if manifest else None,
            parameters=manifest.parameters if manifest else None,
            versions=sorted(versions, key=lambda each: each.created_at, reverse=True),
            damaged_versions=damaged,
        )

    def rename(self, tenant: str, name: str, new_name: str) -> ModelFacts:
        """Gives the model another name. Raises: Conflict, InvalidField."""
        named = self._names.rename(tenant, name, new_name)
        self._forget_name(tenant, name)
        self._forget_name(tenant, new_name)
        return self._model_facts(named)

    def remove(self, tenant: str, name: str) -> Removal:
        """Removes the model: its name first, so that nobody uses it while its files go; its row last, so that a removal
        that was interrupted can be asked for again.

        Raises: Conflict while a training of it waits or runs; StorageUnavailable when files of it are still there.
        """
        bucket_id = self._names.get(tenant, name, in_removal_too=True).bucket_id
        self._refuse_while_training(tenant, name, bucket_id)
        self._names.begin_removal(bucket_id)
        forgotten = self._forget_name(tenant, name)
        with suppress(NotFound):  # never trained, or an earlier removal came this far
            self._store.delete(bucket_id)
        left = sum(1 for _ in self._objects.list(f"{bucket_id}/"))
        if left:
            raise StorageUnavailable(
                f"{left} files of the model {name} are still in the bucket. DELETE it again.",
                details={"bucket_objects_left": left},
            )
        in_use = self._copies.remove(bucket_id)
        self._names.forget(bucket_id)
        return Removal(name, left, in_use, forgotten)

    def _refuse_while_training(self, tenant: str, name: str, bucket_id: str) -> None:
        active = [job_id for job_id, model_id in self._active_trainings(tenant) if model_id == bucket_id]
        if active:
            raise Conflict(
                f"The model {name} is being trained. Cancel the training first, or wait for its end.",
                details={"trainings": active[:10]},
            )

    def _active_trainings(self, tenant: str) -> Iterator[tuple[str, str]]:
        """Id and bucket id of each; not found by name, because a model may have been renamed since."""
        for state in _ACTIVE:
            before: str | None = None
            while page := self._jobs.list(tenant, state=state, limit=_JOBS_PER_PAGE, before=before):
                yield from ((job.id, job.model_id) for job in page)
                before = page[-1].id

    def _model_facts(self, named: NamedModel) -> ModelFacts:
        try:
            version = self._store.current_version(named.bucket_id)
            return ModelFacts(named, "ready", self._version_facts(named.bucket_id, version))
        except NotFound:
            return ModelFacts(named, "empty", None)
        except CorruptModel:
            return ModelFacts(named, "damaged", None)

    def _version_facts(self, bucket_id: str, version: str) -> VersionFacts:
        key = f"{bucket_id}@{version}"
        facts = self._facts.get(key)
        if facts is None:
            manifest = self._store.manifest(bucket_id, version)
            facts = VersionFacts(
                version=version,
                created_at=manifest.created_at,
                kind=manifest.kind,
                base_name=manifest.base_name,
                base_revision=manifest.base_revision,
                size_bytes=manifest.size_bytes,
            )
            self._facts.put(key, facts, _FACTS_BYTES)
        return facts


@contextmanager
def tenants_words(name: str) -> Iterator[None]:
    """Errors of the model store about ``name``, without the bucket id, which means nothing to a tenant."""
    try:
        yield
    except NotFound:
        raise NotFound(f"There is no such version of the model {name}.") from None
    except CorruptModel as error:
        raise CorruptModel(f"The model {name} is damaged in the bucket.") from error
