"""What the bucket said last about which version of a model is current, kept beside the cached models.

All processes of the machine share these records, so one of them asks and all know; and a bucket that is
away can be done without. A record that is damaged, from the future or missing only means that the bucket is
asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from enlight.dreambooth_api.manifest import check_version
from enlight.dreambooth_api.sealed_json import seal, unseal
from enlight.servicekit.atomic_files import sweep_temporaries, temporary_beside
from enlight.servicekit.errors import CorruptModel, InvalidField

_ABANDONED_S = 60.0


@dataclass(frozen=True)
class Alias:
    """The version that was current, and whether that may still be believed."""

    version: str
    fresh: bool


class AliasRecords:
    """The records of one cache folder. ``clock`` gives seconds since 1970."""

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._clock = clock
        self._unwritten: dict[str, bytes] = {}  # where the volume is read-only

    def sweep(self) -> None:
        """Remove what killed writers left."""
        sweep_temporaries(self._folder, older_than_s=_ABANDONED_S)

    def read(self, model_id: str) -> Alias | None:
        """The record, if there is a usable one."""
        data = self._unwritten.get(model_id)
        if data is None:
            try:
                data = self._path(model_id).read_bytes()
            except OSError:
                return None
        with suppress(CorruptModel, InvalidField, KeyError, TypeError, ValueError):
            record = unseal(data, "the alias record")
            if record["model_id"] != model_id:
                return None
            written_s, valid_s = float(str(record["written_s"])), float(str(record["valid_s"]))
            # A record from the future was written before the clock stepped back: nobody knows its age.
            age_s = self._clock() - written_s
            return Alias(check_version(str(record["version"])), 0.0 <= age_s < valid_s)
        return None

    def write(self, model_id: str, version: str, *, valid_s: float) -> None:
        """Remember the version; it is to be believed for ``valid_s``."""
        data = seal({"model_id": model_id, "version": version, "written_s": self._clock(), "valid_s": valid_s})
        path = self._path(model_id)
        temporary = temporary_beside(path)
        try:
            # Not synced: losing a record in a power cut costs one question, syncing costs every one.
            temporary.write_bytes(data)
            temporary.replace(path)
            self._unwritten.pop(model_id, None)
        except OSError:
            self._unwritten[model_id] = data
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def drop(self, model_id: str) -> None:
        """Forget the model."""
        self._unwritten.pop(model_id, None)
        with suppress(OSError):
            self._path(model_id).unlink(missing_ok=True)

    def _path(self, model_id: str) -> Path:
        return self._folder / f"{model_id}.json"
