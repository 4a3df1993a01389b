"""Models as files that a tenant takes away and brings back.

An export is sent from this gateway's copy of the version, of which every byte was checked before the first one leaves.
An import is received into a folder of its own, checked there, and only then published, as a training is.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.dreambooth_api.manifest import Manifest
from enlight.dreambooth_api.model_cache import ModelCache
from enlight.dreambooth_api.model_store import ModelDescription, ModelStore
from enlight.dreambooth_api.published_files import LORA_FILE
from enlight.dreambooth_api.requests import Base
from enlight.main_api.models.archive import ZIP_MAGIC, pack, unpack
from enlight.main_api.models.checks import check_weights
from enlight.main_api.models.names import ModelNames
from enlight.main_api.models.service import tenants_words
from enlight.servicekit.atomic_files import sweep_temporaries
from enlight.servicekit.errors import Conflict, CorruptModel, InvalidField, NotFound, QueueFull, StorageFull
from enlight.servicekit.object_store import CHUNK_BYTES

ExportFormat = Literal["zip", "safetensors"]

_KILLED_IMPORT_S = 24 * 3600.0
"""What an import of this age left behind belongs to a process that is dead."""


class ByteStream(Protocol):
    """A body that is read piece by piece."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


@dataclass(frozen=True)
class Export:
    """A file on its way to the tenant. Holds a place and the model's copy until ``close``."""

    filename: str
    content_type: str
    version: str
    size_bytes: int | None
    """None for a zip, whose frame is made on the way."""
    chunks: Iterator[bytes]
    close: Callable[[], None]
    """Gives back what it holds; again is no error."""


@dataclass(frozen=True)
class ImportNotes:
    """What a safetensors file does not say of itself; a zip's manifest says it."""

    base_model: str | None
    """Any name of an allowed base model."""
    instance_prompt: str


class ModelTransfers:
    """Exports and imports, a few at a time.

    Args:
        names: Which names there are.
        store: The models.
        copies: This gateway's copies of models, within their quota.
        catalogue: The base models, with whose weights an import is compared.
        work_folder: For imports that are being received; made if missing.
        limit_bytes: Of an import's body, and of the files in it together.
        slots: Exports and imports at once.
    """

    def __init__(
        self,
        names: ModelNames,
        store: ModelStore,
        copies: ModelCache,
        catalogue: BaseCatalogue,
        *,
        work_folder: Path,
        limit_bytes: int,
        slots: int,
    ) -> None:
        self._names = names
        self._store = store
        self._copies = copies
        self._catalogue = catalogue
        self._work_folder = work_folder
        self._limit_bytes = limit_bytes
        self._slots = threading.BoundedSemaphore(slots)

    def export(self, tenant: str, name: str, file_format: ExportFormat, *, version: str | None = None) -> Export:
        """The model's current version, or the one named, as one file. The caller closes it.

        Raises: NotFound; InvalidField for a version that is no name, or for safetensors of a model that is no LoRA;
        QueueFull; CorruptModel when the bucket's copy is damaged; StorageFull; StorageUnavailable.
        """
        bucket_id = self._names.bucket_id(tenant, name)
        with ExitStack() as resources:
            resources.enter_context(self._slot())
            with tenants_words(name):
                chosen = version or self._store.current_version(bucket_id)
                copy = resources.enter_context(self._copies.lease(bucket_id, version=chosen))
            is_zip = file_format == "zip"
            if not is_zip and copy.manifest.kind != "lora":
                raise InvalidField.of("format", f"safetensors is for LoRAs, and {name} is a full model: ask for zip")
            return Export(
                filename=f"{name}.{file_format}",
                content_type="application/zip" if is_zip else "application/octet-stream",
                version=chosen,
                size_bytes=None if is_zip else copy.manifest.files[LORA_FILE].size_bytes,
                chunks=pack(copy.manifest, copy.folder, name=name) if is_zip else _pieces(copy.folder / LORA_FILE),
                close=resources.pop_all().close,
            )

    def receive(self, tenant: str, name: str, body: ByteStream, *, length_bytes: int | None, notes: ImportNotes) -> str:
        """Publishes the model in ``body``, a zip of an export or a LoRA's safetensors, and gives its version.

        ``length_bytes``: of the body, where it is known.

        Raises: Conflict when the name has a model already; InvalidField naming what is wrong with the file;
        QueueFull; StorageFull; WeightsUnavailable when the base is not on this machine; what reading ``body`` raises.
        """
        self._refuse_taken(tenant, name)
        with self._slot(), self._folder(length_bytes) as folder:
            received, files = folder / "received", folder / "files"
            files.mkdir()
            _write(body, received)
            description = self._open(received, files, notes)
            received.unlink(missing_ok=True)
            self._refuse_taken(tenant, name)  # another import or a training may have been faster
            bucket_id = self._names.reserve(tenant, name)
            version = self._store.publish(bucket_id, files, description).version
            self._keep_or_withdraw(tenant, name, bucket_id)
            return version

    def _keep_or_withdraw(self, tenant: str, name: str, bucket_id: str) -> None:
        """Takes back what was published while the model was being removed: the removal may have looked before."""
        try:
            self._names.name_of(tenant, bucket_id)
        except NotFound:
            with suppress(NotFound):
                self._store.delete(bucket_id)
            raise Conflict(f"The model {name} was removed while its file was taken in.") from None

    def _refuse_taken(self, tenant: str, name: str) -> None:
        try:
            bucket_id = self._names.bucket_id(tenant, name)
            self._store.current_version(bucket_id)
        except NotFound:
            return
        except CorruptModel:
            pass  # there is one, although it is damaged
        raise Conflict(f"There is a model {name} already. Choose another name, or remove it first.")

    def _open(self, received: Path, files: Path, notes: ImportNotes) -> ModelDescription:
        """Puts the model's files into ``files``, checked."""
        with received.open("rb") as file:
            is_zip = file.read(len(ZIP_MAGIC)) == ZIP_MAGIC
        if is_zip:
            manifest = unpack(received, files, limit_bytes=self._limit_bytes)
            base = self._catalogue.resolve(manifest.base_name, field="base_model")
            _check_revision(manifest, base)
            check_weights(manifest.kind, files, base)
            return ModelDescription(
                base_name=base.name,
                base_revision=manifest.base_revision,
                kind=manifest.kind,
                instance_prompt=manifest.instance_prompt,
                parameters=manifest.parameters,
            )
        if notes.base_model is None:
            raise InvalidField.of("base_model", "is required for a safetensors file: the base that the LoRA is for")
        base = self._catalogue.resolve(notes.base_model, field="base_model")
        received.rename(files / LORA_FILE)
        check_weights("lora", files, base)
        return ModelDescription(
            base_name=base.name,
            base_revision=base.revision,
            kind="lora",
            instance_prompt=notes.instance_prompt,
            parameters={},
        )

    @contextmanager
    def _slot(self) -> Iterator[None]:
        if not self._slots.acquire(blocking=False):
            raise QueueFull("As many models are being exported or imported as may be at once.")
        try:
            yield
        finally:
            self._slots.release()

    @contextmanager
    def _folder(self, length_bytes: int | None) -> Iterator[Path]:
        """An empty folder that goes away with the block. Raises: StorageFull for any error of the disk within it."""
        try:
            self._work_folder.mkdir(parents=True, exist_ok=True)
            sweep_temporaries(self._work_folder, older_than_s=_KILLED_IMPORT_S)
            if 2 * (length_bytes or 0) > shutil.disk_usage(self._work_folder).free:  # the zip, and what is in it
                raise StorageFull("The gateway's disk has no room for this model.")
            with tempfile.TemporaryDirectory(prefix=".import.", suffix=".tmp", dir=self._work_folder) as folder:
                yield Path(folder)
        except OSError as error:
            raise StorageFull("The gateway's disk cannot take this model.") from error


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def _write(body: ByteStream, path: Path) -> None:
    size_bytes = 0
    with path.open("xb") as file:
        while chunk := body.read(CHUNK_BYTES):
            size_bytes += file.write(chunk)
    if not size_bytes:
        raise InvalidField.of("body", "is empty; the file of an exported model was expected")


def _check_revision(manifest: Manifest, base: Base) -> None:
    if None not in (manifest.base_revision, base.revision) and manifest.base_revision != base.revision:
        raise InvalidField.of(
            "base_revision",
            f"the model was trained on revision {manifest.base_revision} of {base.name}, here is {base.revision}",
        )
