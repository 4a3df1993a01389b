"""A model as one file: the zip that an export gives and an import takes.

It holds ``manifest.json``, which is the version's own with the tenant's name in place of the bucket id, and beside it
the files that the manifest names, with their hashes. Nothing is compressed (weights do not shrink).

``unpack`` reads a zip as if it were hostile. Its names are compared with the few that a model can have and are never
turned into paths; sizes are those of the manifest and are believed only up to a limit; what is written is counted and
hashed while it is written, so that neither a compression bomb nor a wrong byte gets further than its declared size.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from enlight.dreambooth_api.manifest import MANIFEST_BYTES, Manifest
from enlight.main_api.models.checks import CONFIG_BYTES, CONFIG_FILES, check_file_names
from enlight.main_api.zip_reads import BROKEN_ZIP, BoundedReads, check_readable
from enlight.servicekit.errors import CorruptModel, InvalidField
from enlight.servicekit.http_bodies import limit_text
from enlight.servicekit.object_store import CHUNK_BYTES

MANIFEST_NAME = "manifest.json"
ZIP_MAGIC = b"PK\x03\x04"

_FOLDERS = {"unet/", "text_encoder/"}
"""Entries of their own in zips of some tools."""
_ZIP64_FROM_BYTES = 1 << 30  # zipfile's own limit is 2 GiB; it must know before it writes


def pack(manifest: Manifest, folder: Path, *, name: str) -> Iterator[bytes]:
    """The zip of a version whose files are in ``folder``, piece by piece; equal versions give equal bytes.

    ``name``: what the tenant calls the model. The pieces have about ``CHUNK_BYTES``.
    """
    sink = _Sink()
    moment = manifest.created_at
    date = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(MANIFEST_NAME, date), replace(manifest, model_id=name).to_json())
        for path in sorted(manifest.files):
            large = manifest.files[path].size_bytes >= _ZIP64_FROM_BYTES
            with (
                folder.joinpath(*path.split("/")).open("rb") as file,
                archive.open(zipfile.ZipInfo(path, date), "w", force_zip64=large) as member,
            ):
                while chunk := file.read(CHUNK_BYTES):
                    member.write(chunk)
                    yield sink.take()
    yield sink.take()


def unpack(path: Path, folder: Path, *, limit_bytes: int) -> Manifest:
    """Writes the files of the zip at ``path`` below ``folder``, which is empty, and gives its manifest.

    ``limit_bytes`` bounds the files' sizes together. The manifest's ``model_id`` is the name that the model had.

    Raises: InvalidField naming the wrong part of the zip, and then ``folder`` is not to be used; OSError of ``folder``.
    """
    try:
        with path.open("rb") as file, zipfile.ZipFile(BoundedReads(file)) as archive:
            entries = _entries(archive)
            manifest = _manifest(_read_small(archive, entries.pop(MANIFEST_NAME, None)))
            check_file_names(manifest.kind, manifest.files)
            _check_sizes(manifest, entries, limit_bytes)
            for name in manifest.files:
                _extract(archive, entries[name], manifest, folder)
            return manifest
    except BROKEN_ZIP as error:
        raise InvalidField.of("body", "is no whole zip file") from error


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        shown = repr(entry.filename[:100])
        if entry.orig_filename in _FOLDERS:
            continue
        if entry.orig_filename in entries:
            raise InvalidField.of("body", f"holds {shown} twice")
        check_readable(entry, field="body")
        entries[entry.orig_filename] = entry
    return entries


def _read_small(archive: zipfile.ZipFile, entry: zipfile.ZipInfo | None) -> bytes:
    if entry is None:
        raise InvalidField.of(MANIFEST_NAME, "is missing: send a file that an export gave")
    with archive.open(entry) as member:
        data = member.read(MANIFEST_BYTES + 1)
    if len(data) > MANIFEST_BYTES:
        raise InvalidField.of(MANIFEST_NAME, f"is larger than {limit_text(MANIFEST_BYTES)}")
    return data


def _manifest(data: bytes) -> Manifest:
    try:
        named = json.loads(data.decode("ascii"))
        model_id, version = str(named["model_id"]), str(named["version"])
        return Manifest.from_json(data, model_id=model_id, version=version)
    except (ValueError, KeyError, TypeError, RecursionError, CorruptModel) as error:
        raise InvalidField.of(MANIFEST_NAME, "is not the manifest of an exported model, or was changed") from error


def _check_sizes(manifest: Manifest, entries: dict[str, zipfile.ZipInfo], limit_bytes: int) -> None:
    if set(entries) != set(manifest.files):
        odd = sorted(set(entries) ^ set(manifest.files))[0]
        raise InvalidField.of("body", f"{odd[:100]!r} is only in the zip, or only in its manifest")
    if manifest.size_bytes > limit_bytes:
        raise InvalidField.of("body", f"the model's files are larger than {limit_text(limit_bytes)}")
    for name, entry in entries.items():
        if entry.file_size != manifest.files[name].size_bytes:
            raise InvalidField.of("body", f"{name} has another size than its manifest says")
        if name in CONFIG_FILES and entry.file_size > CONFIG_BYTES:
            raise InvalidField.of("body", f"{name} is larger than {limit_text(CONFIG_BYTES)}")


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, manifest: Manifest, folder: Path) -> None:
    name = entry.orig_filename  # one of the few that check_file_names knows
    expected = manifest.files[name]
    target = folder.joinpath(*name.split("/"))
    target.parent.mkdir(parents=True, exist_ok=True)
    digest, size_bytes = hashlib.sha256(), 0
    with archive.open(entry) as member, target.open("xb") as file:
        while chunk := member.read(min(CHUNK_BYTES, expected.size_bytes - size_bytes + 1)):
            size_bytes += len(chunk)
            if size_bytes > expected.size_bytes:
                break
            digest.update(chunk)
            file.write(chunk)
    if (size_bytes, digest.hexdigest()) != (expected.size_bytes, expected.sha256):
        raise InvalidField.of("body", f"{name} is not the file that the manifest describes")


class _Sink(io.RawIOBase):
    """Collects what zipfile writes. It cannot seek, so zipfile puts sizes behind the files."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        return len(piece)

    def take(self) -> bytes:
        """What was written since the last call."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data
