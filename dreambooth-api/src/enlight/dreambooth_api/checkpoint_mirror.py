"""Checkpoints of a job in the jobs' bucket, so that a worker on another machine goes on where the last one was lost.

::

    <job_id>/checkpoints/<step>-<attempt>/<file>       the files of one checkpoint
    <job_id>/checkpoints/<step>-<attempt>/seal.json    their SHA-256; written last: without it there is no checkpoint

The attempt is part of the name, so that a worker which lost its lease and the one that took over never write the
same object. Nothing is believed that the seal does not confirm.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from enlight.dreambooth_api.checkpoint_names import checkpoint_name, checkpoint_steps
from enlight.dreambooth_api.sealed_folders import BrokenSealError, check_seal, sealed_folder
from enlight.dreambooth_api.sealed_json import seal, unseal
from enlight.servicekit.errors import Conflict, CorruptModel, InvalidField, NotFound
from enlight.servicekit.object_store import ObjectStore, check_key

_log = logging.getLogger(__name__)

KEPT = 2
"""Whole checkpoints kept of a job: the newest, and the one before in case that one is damaged."""

_SEAL = "seal.json"
_NAME = re.compile(r"(\d{8})-(\d{4,})")


class CheckpointMirror:
    """The checkpoints of one attempt at one job. Used by one thread at a time; all methods raise StorageUnavailable.

    Args:
        store: The jobs' bucket.
        job_id: The job.
        attempt: Number of this attempt, above that of every earlier one.
        folder: The trainer's checkpoints of this attempt.
        staging: A folder of the same filesystem that is the mirror's own.
    """

    def __init__(self, store: ObjectStore, job_id: str, attempt: int, *, folder: Path, staging: Path) -> None:
        self._store = store
        self._prefix = f"{job_id}/checkpoints/"
        self._attempt = attempt
        self._folder = folder
        self._staging = staging
        self._newest_step = 0

    def restore(self, *, on_bytes: Callable[[int], object] = lambda size_bytes: None) -> int:
        """Bring the newest whole checkpoint of the job into the folder; gives its step, 0 when there is none.

        A damaged one is passed over for the one before. ``on_bytes`` is told the size of each piece that arrived.
        """
        for name in reversed(self._sealed()):
            step = int(name.partition("-")[0])
            try:
                with sealed_folder(self._folder / checkpoint_name(step)) as folder:
                    self._download(name, folder, on_bytes)
            except (CorruptModel, NotFound) as error:
                _log.warning("checkpoint %s%s is not used: %s", self._prefix, name, error.message)
                continue
            self._newest_step = step
            return step
        return 0

    def upload_new(
        self, *, before: Callable[[], object] = lambda: None, give_up: Callable[[], bool] = lambda: False
    ) -> int | None:
        """Upload the newest whole checkpoint of the folder, unless it is there already; gives its step, or None.

        Older ones beyond `KEPT` go afterwards. ``before`` is called when there is one to upload. ``give_up`` is asked
        between two files; what was uploaded until then is no checkpoint.
        """
        for step in checkpoint_steps(self._folder):
            if step <= self._newest_step:
                return None
            try:
                hashes = self._stage(step)
            except (FileNotFoundError, BrokenSealError):
                continue  # the trainer has removed it: a newer one is there soon
            before()
            if not self._upload(step, hashes, give_up):
                return None
            self._newest_step = step
            self._prune()
            return step
        return None

    def _stage(self, step: int) -> dict[str, str]:
        """Hold on to the checkpoint's files, whatever the trainer removes; gives their hashes."""
        shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.mkdir(parents=True)
        for path in (self._folder / checkpoint_name(step)).iterdir():
            try:
                os.link(path, self._staging / path.name)
            except FileNotFoundError:
                raise
            except OSError:  # a filesystem without hard links
                shutil.copyfile(path, self._staging / path.name)
        return check_seal(self._staging)

    def _upload(self, step: int, hashes: dict[str, str], give_up: Callable[[], bool]) -> bool:
        prefix = f"{self._prefix}{step:08d}-{self._attempt:04d}/"
        present = {info.key for info in self._store.list(prefix)}  # a try of this attempt that gave up: the same bytes
        for name in hashes:
            if give_up():
                return False
            if prefix + name not in present:
                with suppress(Conflict):  # a try of this call whose answer got lost
                    self._store.put_file(prefix + name, self._staging / name, if_absent=True)
        files = {
            name: {"sha256": sha256, "size_bytes": (self._staging / name).stat().st_size}
            for name, sha256 in hashes.items()
        }
        with suppress(Conflict):
            self._store.put_bytes(prefix + _SEAL, seal({"step": step, "files": files}), if_absent=True)
        shutil.rmtree(self._staging, ignore_errors=True)
        return True

    def _prune(self) -> None:
        kept = self._sealed()[-KEPT:]
        names: dict[str, list[str]] = {}
        for info in self._store.list(self._prefix):
            names.setdefault(info.key.removeprefix(self._prefix).partition("/")[0], []).append(info.key)
        for name, keys in names.items():
            if kept and name < kept[0]:
                for key in sorted(keys, key=lambda key: not key.endswith(f"/{_SEAL}")):  # the seal goes first
                    self._store.delete(key)

    def _sealed(self) -> list[str]:
        """Names of the sealed checkpoints, by step and attempt."""
        folders = [
            info.key.removeprefix(self._prefix).removesuffix(f"/{_SEAL}")
            for info in self._store.list(self._prefix)
            if info.key.endswith(f"/{_SEAL}")
        ]
        return sorted(name for name in folders if _NAME.fullmatch(name))

    def _download(self, name: str, folder: Path, on_bytes: Callable[[int], object]) -> None:
        """Raises: CorruptModel, NotFound: it is not what was uploaded."""
        prefix = f"{self._prefix}{name}/"
        record = unseal(self._store.get_bytes(prefix + _SEAL)[0], prefix + _SEAL)
        for file_name, sha256, size_bytes in _files(record):
            self._download_file(prefix + file_name, folder / file_name, sha256, size_bytes, on_bytes)

    def _download_file(
        self, key: str, path: Path, sha256: str, size_bytes: int, on_bytes: Callable[[int], object]
    ) -> None:
        digest, left_bytes = hashlib.sha256(), size_bytes
        with path.open("xb") as file:

            def add(chunk: bytes) -> None:
                nonlocal left_bytes
                left_bytes -= len(chunk)
                if left_bytes < 0:  # never more on the disk than the seal says
                    raise CorruptModel(f"{key} is longer than it was.")
                digest.update(chunk)
                file.write(chunk)
                on_bytes(len(chunk))

            self._store.download(key, add)
        if left_bytes or digest.hexdigest() != sha256:
            raise CorruptModel(f"{key} is not what it was.")


def _files(record: dict[str, object]) -> list[tuple[str, str, int]]:
    """Name, hash and size of each file in a seal. Raises: CorruptModel."""
    try:
        files = record["files"]
        if not isinstance(files, dict) or any("/" in check_key(name) for name in files):
            raise ValueError("not a list of plain names")
        return [(name, str(entry["sha256"]), int(entry["size_bytes"])) for name, entry in files.items()]
    except (KeyError, TypeError, ValueError, InvalidField) as error:
        raise CorruptModel("The checkpoint's seal cannot be used.") from error
