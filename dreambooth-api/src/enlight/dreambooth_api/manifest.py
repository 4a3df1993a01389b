"""What a version of a model is: its files with their SHA-256, and how it was made.

A manifest comes from the bucket, so it is treated as if it were hostile: every value is checked, and no
path in it can lead out of the folder that its files are written to.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self, TypeGuard

from enlight.dreambooth_api.sealed_json import seal, unseal
from enlight.servicekit.errors import CorruptModel, InvalidField

MANIFEST_BYTES = 1 << 20
"""Limit of a manifest's JSON."""

_FORMAT = 1
_MODEL_BYTES = 1 << 40
_FILES = 256
_PATH_CHARACTERS = 300
_PROMPT_CHARACTERS = 10_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PATH_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_KEYS = {
    *("format", "model_id", "version", "base_name", "base_revision", "kind", "instance_prompt", "parameters"),
    *("files", "created_at"),
}


@dataclass(frozen=True)
class ModelDescription:
    """How a model was made, as whoever publishes it says."""

    base_name: str
    base_revision: str | None
    kind: Literal["full", "lora"]
    instance_prompt: str
    parameters: Mapping[str, object]
    """Anything that is JSON, for people and for training again."""


@dataclass(frozen=True)
class FileEntry:
    """One file of a version."""

    sha256: str
    """64 hexadecimal digits, lower case."""
    size_bytes: int


@dataclass(frozen=True)
class Manifest:
    """A version of a model. A version exists if and only if its manifest does."""

    format: int
    model_id: str
    version: str
    base_name: str
    base_revision: str | None
    kind: Literal["full", "lora"]
    instance_prompt: str
    parameters: Mapping[str, object]
    files: Mapping[str, FileEntry]
    """Relative path (slashes, plain names) to file."""
    created_at: datetime
    """UTC. Later than that of every version that was current when this one was published."""

    @classmethod
    def describe(
        cls,
        model_id: str,
        version: str,
        description: ModelDescription,
        files: Mapping[str, FileEntry],
        created_at: datetime,
    ) -> Self:
        """A new manifest. Raises: InvalidField naming what would not be readable again."""
        manifest = cls(
            format=_FORMAT,
            model_id=check_model_id(model_id),
            version=check_version(version),
            base_name=description.base_name,
            base_revision=description.base_revision,
            kind=description.kind,
            instance_prompt=description.instance_prompt,
            parameters=description.parameters,
            files=files,
            created_at=created_at,
        )
        try:
            data = manifest.to_json()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidField.of("parameters", f"not JSON: {error}") from error
        problem = _problem(json.loads(data))
        if problem is None and len(data) > MANIFEST_BYTES:
            problem = ("parameters", f"the manifest would have more than {MANIFEST_BYTES} bytes")
        if problem is not None:
            raise InvalidField.of(*problem)
        return cls.from_json(data, model_id=model_id, version=version)  # exactly as it will be read

    def to_json(self) -> bytes:
        """The manifest as it is stored."""
        return seal(
            {
                **{name: getattr(self, name) for name in _KEYS - {"files", "created_at", "parameters"}},
                "parameters": dict(self.parameters),
                "files": {
                    path: {"sha256": entry.sha256, "size_bytes": entry.size_bytes} for path, entry in self.files.items()
                },
                "created_at": time_to_text(self.created_at),
            }
        )

    @classmethod
    def from_json(cls, data: bytes, *, model_id: str, version: str) -> Self:
        """The manifest in ``data``. Raises: CorruptModel unless it is a valid one of just this version."""
        what = f"The manifest of {model_id} version {version}"
        record = unseal(data, what)
        problem = _problem(record, with_seal=False)
        if problem is None and (record["model_id"], record["version"]) != (model_id, version):
            problem = ("model_id", "it is another version's")
        if problem is not None:
            raise CorruptModel(f"{what} cannot be used: {problem[0]} {problem[1]}.")
        files = record["files"]
        assert isinstance(files, dict)
        values = {name: record[name] for name in _KEYS - {"files", "created_at"}}
        return cls(
            **values,  # type: ignore[arg-type]
            files={path: FileEntry(entry["sha256"], entry["size_bytes"]) for path, entry in files.items()},
            created_at=text_to_time(str(record["created_at"])),
        )

    @property
    def size_bytes(self) -> int:
        """Sum of the files' sizes."""
        return sum(entry.size_bytes for entry in self.files.values())

    def object_key(self, path: str) -> str:
        """Where the file lies in the bucket.

        The hash is part of the key, so that two attempts at one version, whose bytes may differ, never
        write over each other: the manifest says whose files count.
        """
        return f"{self.model_id}/{self.version}/{self.files[path].sha256}/{path}"

    def same_content(self, other: Manifest) -> bool:
        """Whether both are the same files of the same base and prompt, whenever and however they were made."""
        names = ("model_id", "version", "base_name", "base_revision", "kind", "instance_prompt", "files")
        return all(getattr(self, name) == getattr(other, name) for name in names)


def check_model_id(model_id: str) -> str:
    """``model_id`` itself. Raises: InvalidField."""
    if _NAME.fullmatch(model_id):
        return model_id
    raise InvalidField.of("model_id", "must be 1 to 64 of A-Z a-z 0-9 . _ - and start with a letter or digit")


def check_version(version: str) -> str:
    """``version`` itself. Raises: InvalidField."""
    if _NAME.fullmatch(version) and version != "current":
        return version
    raise InvalidField.of("version", "must be 1 to 64 of A-Z a-z 0-9 . _ - and start with a letter or digit")


def describe_files(folder: Path) -> dict[str, FileEntry]:
    """Every file below ``folder`` with its hash. Raises: InvalidField for anything but plain files and
    names.
    """
    files: dict[str, FileEntry] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InvalidField.of("files", f"{name[:100]!r} is neither a file nor a folder")
        if path.is_file():
            files[name] = describe_file(path)
    return files


def describe_file(path: Path) -> FileEntry:
    """The file's hash and size, read in pieces."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return FileEntry(digest.hexdigest(), file.tell())


def time_to_text(moment: datetime) -> str:
    """UTC with microseconds; sorts as the time does."""
    return moment.astimezone(UTC).strftime(_TIME)


def text_to_time(text: str) -> datetime:
    """The opposite of ``time_to_text``. Raises: ValueError."""
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def _problem(record: Mapping[str, object], *, with_seal: bool = True) -> tuple[str, str] | None:
    """The first thing wrong with a manifest's JSON, as (name, message)."""
    if set(record) - ({"sha256"} if with_seal else set()) != _KEYS:
        return "fields", "are not those of a manifest"
    if type(record["format"]) is not int or record["format"] != _FORMAT:
        return "format", "is not known here"
    for name in ("model_id", "version"):
        if not (isinstance(record[name], str) and _NAME.fullmatch(str(record[name]))):
            return name, "is not a name"
    if not _is_text(record["base_name"], 200) or not record["base_name"]:
        return "base_name", "must be 1 to 200 characters"
    if record["base_revision"] is not None and not _is_text(record["base_revision"], 200):
        return "base_revision", "must be at most 200 characters, or null"
    if record["kind"] not in ("full", "lora"):
        return "kind", "must be full or lora"
    if not _is_text(record["instance_prompt"], _PROMPT_CHARACTERS):
        return "instance_prompt", f"must be at most {_PROMPT_CHARACTERS} characters"
    if not isinstance(record["parameters"], dict):
        return "parameters", "must be an object"
    try:
        text_to_time(str(record["created_at"]))
    except ValueError:
        return "created_at", "is not a time"
    return _files_problem(record["files"])


def _files_problem(files: object) -> tuple[str, str] | None:
    if not isinstance(files, dict) or not 1 <= len(files) <= _FILES:
        return "files", f"must be 1 to {_FILES}"
    total_bytes = 0
    for path, entry in files.items():
        if len(path) > _PATH_CHARACTERS or not all(_PATH_PART.fullmatch(part) for part in path.split("/")):
            return "files", f"{path[:100]!r} is not a relative path of plain names"
        if any(parent.as_posix() in files for parent in Path(path).parents):
            return "files", f"{path[:100]!r} lies below a file"
        if not isinstance(entry, dict) or set(entry) != {"sha256", "size_bytes"}:
            return "files", f"{path[:100]!r} has not just a hash and a size"
        if not (isinstance(entry["sha256"], str) and _SHA256.fullmatch(entry["sha256"])):
            return "files", f"{path[:100]!r} has no SHA-256"
        if type(entry["size_bytes"]) is not int or not 0 <= entry["size_bytes"] <= _MODEL_BYTES:
            return "files", f"{path[:100]!r} has no size"
        total_bytes += entry["size_bytes"]
    if total_bytes > _MODEL_BYTES:
        return "files", f"are larger than {_MODEL_BYTES} bytes"
    return None


def _is_text(value: object, limit: int) -> TypeGuard[str]:
    return isinstance(value, str) and len(value) <= limit
