"""Files of network weights in a folder: there or not, and byte for byte the published ones. No torch."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from enlight.servicekit.errors import CorruptModel, WeightsUnavailable


@dataclass(frozen=True)
class WeightFile:
    """One file of weights.

    Attributes:
        name: File name in the folder.
        sha256: Of its bytes, in hex. None where nobody publishes one: any file of this name is taken, unless the
            settings name a sum.
        source: How to get it, as the end of a sentence: ``run dev-scripts/fetch-weights``.
    """

    name: str
    sha256: str | None
    source: str


class WeightFolder:
    """The folder that holds a service's weights.

    Args:
        folder: It need not exist.
        setting: Name of the setting that chose the folder, for messages.
        sha256: Sums that go before the catalogue's, by file name: an operator's own weights.
    """

    def __init__(self, folder: Path, *, setting: str, sha256: Mapping[str, str] | None = None) -> None:
        self._folder = folder.absolute()
        self._setting = setting
        self._sha256 = {name: value.lower() for name, value in (sha256 or {}).items()}
        self._lock = threading.Lock()
        self._checked: dict[Path, tuple[int, int]] = {}

    def has(self, *alternatives: WeightFile) -> bool:
        """Whether one of the files is there; its bytes are not looked at."""
        return any((self._folder / file.name).is_file() for file in alternatives)

    def find(self, *alternatives: WeightFile) -> Path:
        """Path of the first of ``alternatives`` that is there. Its bytes are checked, once for each state of the file.

        Raises:
            WeightsUnavailable: none is there; the message says which file to put where, and how to get it.
            CorruptModel: the file is not the published one.
        """
        for file in alternatives:
            path = self._folder / file.name
            if path.is_file():
                self._check(path, self._sha256.get(file.name, file.sha256))
                return path
        first = alternatives[0]
        raise WeightsUnavailable(
            f"The weights {first.name} are not on this machine: {first.source}. The file belongs into the folder that "
            f"{self._setting} names.",
            details={"file": first.name, "setting": self._setting, "source": first.source},
        )

    def _check(self, path: Path, sha256: str | None) -> None:
        if sha256 is None:
            return
        status = path.stat()
        state = (status.st_size, status.st_mtime_ns)
        with self._lock:  # a second caller waits instead of reading the file as well
            if self._checked.get(path) == state:
                return
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != sha256:
                raise CorruptModel(
                    f"The weights {path.name} are not the published ones: their SHA-256 is {found}, not {sha256}. Get "
                    "the file again; for weights of your own, set their sum.",
                    details={"file": path.name, "sha256": found, "expected_sha256": sha256},
                )
            self._checked[path] = state
