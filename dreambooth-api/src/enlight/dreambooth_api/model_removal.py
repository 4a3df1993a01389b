"""Taking models out of the bucket: the order of publishing backwards, and what killed publishers left.

``current`` goes first, so that nobody is sent to a version that disappears; then a tombstone takes the
manifest's place, from when on the version does not exist; then the files; the tombstone last. A removal
that is killed on the way is finished by the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from enlight.dreambooth_api.bucket_layout import (
    TOMBSTONE,
    VersionName,
    by_version,
    current_key,
    manifest_key,
    model_of,
)
from enlight.dreambooth_api.manifest import MANIFEST_BYTES, Manifest, check_model_id, check_version
from enlight.servicekit.errors import Conflict, CorruptModel, NotFound, StorageUnavailable
from enlight.servicekit.object_store import ObjectInfo, ObjectStore

_ATTEMPTS = 30


def delete_model(objects: ObjectStore, model_id: str) -> None:
    """Remove the model with all of its versions. Raises: NotFound when nothing of it is there."""
    pointer, prefix = current_key(model_id), f"{model_id}/"
    if not any(model_of(info.key) for info in objects.list(prefix)):
        raise NotFound(f"There is no model {model_id}.")
    objects.delete(pointer)
    # Listed again: a version that was published until here goes as well.
    for name, infos in by_version(objects.list(prefix)).items():
        _remove_version(objects, name, infos, committed_too=True)


def delete_version(objects: ObjectStore, model_id: str, version: str) -> None:
    """Remove one version, which ``current`` must not name; a missing one is no error."""
    name = VersionName(check_model_id(model_id), check_version(version))
    infos = [*objects.list(f"{model_id}/{version}/")]
    if infos:
        _remove_version(objects, name, infos, committed_too=True)


def sweep(
    objects: ObjectStore, read_manifest: Callable[[str, str], Manifest | None], *, written_before_s: float
) -> int:
    """Remove what nobody can use and nobody wrote to since; gives the number of objects.

    That is: files without a manifest, files that their version's manifest does not name, tombstones, and
    ``current`` of a model without any version. ``read_manifest`` gives None where there is none.
    """
    everything = [*objects.list()]
    versions = by_version(everything)
    removed = 0
    for name, infos in versions.items():
        if max(info.updated_s for info in infos) > written_before_s:
            continue
        try:
            manifest = read_manifest(*name)
        except CorruptModel:
            continue  # somebody should look at it
        if manifest is None:
            removed += _remove_version(objects, name, infos, committed_too=False)
            continue
        named = {manifest.object_key(path) for path in manifest.files} | {manifest_key(*name)}
        removed += _delete(objects, [info.key for info in infos if info.key not in named])
    with_versions = {name.model_id for name in versions}
    dangling = [
        info.key
        for info in everything
        if (model_id := model_of(info.key)) is not None
        and model_id not in with_versions
        and info.updated_s <= written_before_s
    ]
    return removed + _delete(objects, dangling)


def _remove_version(objects: ObjectStore, name: VersionName, infos: list[ObjectInfo], *, committed_too: bool) -> int:
    key = manifest_key(*name)
    if not _bury(objects, key, committed_too=committed_too):
        return 0
    _delete(objects, [info.key for info in infos if info.key != key])
    objects.delete(key)
    return len(infos)


def _bury(objects: ObjectStore, key: str, *, committed_too: bool) -> bool:
    """Put a tombstone in the manifest's place; False when there is a manifest, which is not to be removed."""
    for _ in range(_ATTEMPTS):
        generation: int | None = None
        with suppress(NotFound):
            data, generation = objects.get_bytes(key, max_bytes=MANIFEST_BYTES)
            if data == TOMBSTONE:
                return True
            if not committed_too:
                return False
        with suppress(Conflict):  # somebody else's write came between, or ours whose answer got lost
            objects.put_bytes(key, TOMBSTONE, if_absent=generation is None, if_generation=generation)
            return True
    raise StorageUnavailable(f"{key} is changed by others all the time.")


def _delete(objects: ObjectStore, keys: list[str]) -> int:
    for key in keys:
        objects.delete(key)
    return len(keys)
