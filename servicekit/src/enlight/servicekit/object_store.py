"""The bucket, as small an interface as this suite needs, and ``open_store``, which picks the implementation.

An object is bytes under a key. It appears whole or not at all; a reader never sees half of an upload. Keys
are slash-separated names of ``[A-Za-z0-9_][A-Za-z0-9._-]*``: the same strict rule for every store, so that
no key can mean a path outside of a folder, whoever made it.

Every call gives up in time: one try of the network is limited by ``timeout_s``, a call with all of its
retries by about ``retry_total_s + timeout_s``, counted from the last progress where bytes are streaming.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Protocol
from urllib.parse import unquote, urlsplit

from enlight.servicekit.errors import Conflict, InvalidField

CHUNK_BYTES = 1 << 20
"""Size in which files are read, hashed and streamed: large enough for full speed, small beside any model."""

SMALL_OBJECT_BYTES = 4 << 20
"""Limit of ``put_bytes`` and default limit of ``get_bytes``: these hold the whole object in memory."""

_KEY_BYTES = 900  # Google's limit is 1,024 bytes with the store's prefix
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")


class ObjectInfo(NamedTuple):
    """One row of a listing."""

    key: str
    size_bytes: int
    updated_s: float
    """Time of the last write in seconds since 1970, by the store's own clock."""


class ObjectStore(Protocol):
    """A bucket. Implementations are safe to use from several threads and processes at once.

    All methods raise StorageUnavailable when the store cannot be reached in time or refuses, and
    InvalidField for a key that breaks the rule.
    """

    def put_file(self, key: str, path: Path, *, if_absent: bool = False) -> None:
        """Upload a file of any size, streaming. Raises: Conflict when ``if_absent`` and the key exists."""

    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False, if_generation: int | None = None) -> int:
        """Write a small object and give its generation, a number that names this content of this key.

        ``if_absent``: only if the key does not exist. ``if_generation``: only over the object that
        ``get_bytes`` gave with this generation. Calls with a condition are tried again on errors, calls
        without are not.

        Raises: Conflict when the condition does not hold. It may be this very call that wrote the object,
        in a try whose answer got lost: a caller that must know reads the object and compares.
        """

    def get_bytes(self, key: str, *, max_bytes: int = SMALL_OBJECT_BYTES) -> tuple[bytes, int]:
        """A small object and its generation. Raises: NotFound; CorruptModel if larger than ``max_bytes``."""

    def download(self, key: str, sink: Callable[[bytes], object]) -> int:
        """Hand the object's bytes to ``sink`` in order, in chunks, and give their number.

        An exception of the sink ends the download and passes through. A broken connection is resumed where it
        broke; bytes are not checked here, so a caller hashes what arrives.

        Raises: NotFound, before the sink got anything.
        """

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every object whose key starts with ``prefix``, in order of keys; temporaries are never listed."""

    def delete(self, key: str) -> None:
        """Remove an object; a missing one is no error."""


def put_new(store: ObjectStore, key: str, data: bytes) -> None:
    """Writes an object of any size under a key that nobody else writes, such as one below a new id.

    Raises: StorageUnavailable.
    """
    # With a condition a failed call is tried again. What is there already is what an earlier try of ours wrote before
    # its answer was lost.
    with suppress(Conflict):
        if len(data) <= SMALL_OBJECT_BYTES:
            store.put_bytes(key, data, if_absent=True)
            return
        with tempfile.NamedTemporaryFile(prefix="enlight-object-") as file:
            file.write(data)
            file.flush()
            store.put_file(key, Path(file.name), if_absent=True)


def remove_folder(store: ObjectStore, name: str) -> None:
    """Removes every object below ``name``.

    Raises:
        StorageUnavailable: something may be left.
    """
    for info in list(store.list(f"{name}/")):
        store.delete(info.key)


def untouched_folders(store: ObjectStore, older_than_s: float) -> Iterator[str]:
    """First parts of the keys below which no object was written within the last ``older_than_s``."""
    limit_s = time.time() - older_than_s
    for name, infos in groupby(store.list(), key=lambda info: info.key.partition("/")[0]):
        if max(info.updated_s for info in infos) < limit_s:
            yield name


def check_key(key: str) -> str:
    """``key`` itself. Raises: InvalidField when it breaks the rule of this module."""
    if len(key) <= _KEY_BYTES and all(_SEGMENT.fullmatch(segment) for segment in key.split("/")):
        return key
    raise InvalidField.of("key", f"{key[:100]!r} is not a slash-separated list of plain names")


def check_prefix(prefix: str) -> str:
    """``prefix`` itself: empty, or the beginning of a key. Raises: InvalidField."""
    if prefix:
        check_key(prefix + "x" if prefix.endswith("/") else prefix)
    return prefix


def open_store(url: str, *, timeout_s: float, retry_total_s: float) -> ObjectStore:
    """The store that ``url`` names: ``file:///absolute/folder`` (made if missing) or
    ``gs://bucket[/prefix]``.

    Nothing is sent: an unreachable bucket shows at the first call. ``timeout_s`` limits one try of a
    network call, ``retry_total_s`` the time in which failed tries are repeated.

    Raises: InvalidField naming ``bucket_url``; StorageUnavailable when the folder cannot be made.
    """
    # Imported late: Google's client takes most of a second to import, and a file:// service never needs it.
    try:
        parts = urlsplit(url)
    except ValueError:  # an unclosed bracket in the host
        raise _invalid_url(url) from None
    if parts.query or parts.fragment or not parts.path.isprintable():
        raise _invalid_url(url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        from enlight.servicekit.directory_store import DirectoryStore

        return DirectoryStore(Path(unquote(parts.path)))
    if parts.scheme == "gs" and _BUCKET.fullmatch(parts.netloc):
        from enlight.servicekit.gcs_store import GcsStore

        prefix = parts.path.strip("/")
        try:
            check_prefix(prefix)
        except InvalidField:
            raise _invalid_url(url) from None
        return GcsStore(parts.netloc, prefix=prefix, timeout_s=timeout_s, retry_total_s=retry_total_s)
    raise _invalid_url(url)


def _invalid_url(url: str) -> InvalidField:
    return InvalidField.of("bucket_url", f"{url[:200]!r} is neither file:///absolute/folder nor gs://bucket[/prefix]")
