"""Where a model's parts lie in the bucket.

::

    <model_id>/current                            names the version to use
    <model_id>/<version>/manifest.json            exists if and only if the version does
    <model_id>/<version>/<sha256>/<path>          the files

A version that is being removed has a *tombstone* in place of its manifest, so that a publisher cannot
commit it while its files disappear.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from enlight.dreambooth_api.manifest import check_model_id, check_version
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.object_store import ObjectInfo

TOMBSTONE = b'{"removed": true}\n'
_MANIFEST = "manifest.json"


class VersionName(NamedTuple):
    """A version of a model."""

    model_id: str
    version: str


def current_key(model_id: str) -> str:
    """Key of the record that names the version to use. Raises: InvalidField."""
    return f"{check_model_id(model_id)}/current"


def manifest_key(model_id: str, version: str) -> str:
    """Key of the version's manifest. Raises: InvalidField."""
    return f"{check_model_id(model_id)}/{check_version(version)}/{_MANIFEST}"


def model_of(key: str) -> str | None:
    """The model that an object belongs to; None for an object that is not ours."""
    model_id, _, rest = key.partition("/")
    if rest == "current" or version_of(key):
        return model_id if _is_model_id(model_id) else None
    return None


def version_of(key: str) -> VersionName | None:
    """The version that an object belongs to; None for ``current`` and for what is not ours."""
    model_id, _, rest = key.partition("/")
    version, _, name = rest.partition("/")
    try:
        return VersionName(check_model_id(model_id), check_version(version)) if name else None
    except InvalidField:
        return None


def by_version(infos: Iterable[ObjectInfo]) -> dict[VersionName, list[ObjectInfo]]:
    """The objects of each version."""
    versions: dict[VersionName, list[ObjectInfo]] = {}
    for info in infos:
        name = version_of(info.key)
        if name is not None:
            versions.setdefault(name, []).append(info)
    return versions


def committed_version(info: ObjectInfo) -> VersionName | None:
    """The version whose manifest this object is; None for anything else, a tombstone included."""
    name = version_of(info.key)
    if name is None or info.key != manifest_key(*name) or info.size_bytes == len(TOMBSTONE):
        return None
    return name


def _is_model_id(text: str) -> bool:
    try:
        return bool(check_model_id(text))
    except InvalidField:
        return False
