"""Which models this instance has at hand, and where: in the engine's memory, as that told, and on the local disk."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from enlight.dreambooth_api.cache_layout import REMOVED_NS, last_use_ns, version_folders
from enlight.servicekit.service_status import HeldModel, ModelTier, resident

MAX_ON_DISK = 1000
"""Versions of the local disk that are told of, those that were used last."""


class VersionsOnDisk:
    """The names of the versions that the cache's folder holds, ``model_id@version``.

    One thread at a time looks; whoever comes meanwhile gets what was seen last: a folder that hangs costs one thread.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._looking = threading.Lock()
        self._seen: Sequence[str] = ()

    def names(self) -> Sequence[str]:
        """The most recently used first; none when the folder cannot be read."""
        if self._looking.acquire(blocking=False):
            try:
                self._seen = _names(self._root)
            finally:
                self._looking.release()
        return self._seen


def held_models(engine: Mapping[str, Any], on_disk: Sequence[str]) -> list[HeldModel]:
    """The base models that are loaded, then each version with its quickest place.

    Args:
        engine: The engine's status; before its first word nothing is in memory.
        on_disk: Names of versions.
    """
    places: Mapping[ModelTier, Sequence[str]] = {**engine.get("models", {}), "disk": on_disk}
    quickest: dict[str, ModelTier] = {}
    for tier in get_args(ModelTier):
        for name in places.get(tier, ()):
            quickest.setdefault(name, tier)
    return [*resident(engine.get("bases", ())), *(_held(name, tier) for name, tier in quickest.items())]


def _held(name: str, tier: ModelTier) -> HeldModel:
    model_id, _, version = name.partition("@")
    return HeldModel(model_id=model_id, version=version, tier=tier)


def _names(root: Path) -> Sequence[str]:
    used: list[tuple[int, str]] = []
    with suppress(OSError):
        for folder in version_folders(root):
            used_ns = last_use_ns(folder)
            if used_ns is not None and used_ns != REMOVED_NS:
                used.append((used_ns, f"{folder.parent.name}@{folder.name}"))
    return [name for _, name in sorted(used, reverse=True)[:MAX_ON_DISK]]
