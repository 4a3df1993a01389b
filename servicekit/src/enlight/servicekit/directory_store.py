"""A bucket in a folder of this machine: the embedded default, and what ``file://`` means.

Object ``a/b/c`` is the file ``ROOT/a/b/c``. Beside the objects the root holds ``.tmp`` (uploads in
progress, never listed) and ``.locks``; keys cannot start with a dot.

What it relies on, per promise:

- *An object appears whole or not at all*: ``rename`` and ``link`` within one filesystem are atomic,
  ``fsync`` before.
- *``if_absent`` has exactly one winner*: ``link`` fails where the name exists, on every POSIX filesystem
  and over NFS, without any lock. Filesystems without hard links fall back to a check under the lock below.
- *``if_generation`` loses no update*: a lock (``flock``) around compare and write. It holds between
  processes and containers of one kernel and is freed by ``kill -9``. Where a network filesystem makes
  ``flock`` do nothing, two writers in the same millisecond can both succeed and the later one wins. Nothing
  that decides whether bytes are right rests on it, only which of two good versions an alias names.
- *A generation names content*: it is a hash of the bytes, so a file restored from a backup keeps its
  generation.

There are no timeouts: a local disk that hangs, hangs its caller in the kernel.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from enlight.servicekit.atomic_files import sync_folder
from enlight.servicekit.errors import Conflict, CorruptModel, NotFound, StorageUnavailable
from enlight.servicekit.object_store import (
    CHUNK_BYTES,
    SMALL_OBJECT_BYTES,
    ObjectInfo,
    check_key,
    check_prefix,
)

_LOCKS = 64
_NO_HARD_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_ATTEMPTS = 100
_ABANDONED_UPLOAD_S = 24 * 3600.0
"""Age at which what a killed process left in ``.tmp`` is removed; no upload into a folder takes that long."""


class DirectoryStore:
    """``ObjectStore`` over a folder, made if missing. Raises: StorageUnavailable when it cannot be made."""

    def __init__(self, root: Path, *, link: Callable[[Path, Path], None] = os.link) -> None:
        self._root = root
        self._link = link
        with self._errors("open"):
            for folder in (root, root / ".tmp", root / ".locks"):
                folder.mkdir(parents=True, exist_ok=True)
            self._sweep_uploads()

    def put_file(self, key: str, path: Path, *, if_absent: bool = False) -> None:
        """See ``ObjectStore.put_file``."""

        def copy(temporary: Path) -> None:
            with path.open("rb") as source, temporary.open("xb") as target:
                while os.sendfile(target.fileno(), source.fileno(), None, CHUNK_BYTES):
                    pass  # copied by the kernel, from where the last call ended
                os.fsync(target.fileno())

        target = self._path(key)
        with self._errors(f"write {key}"), self._temporary(copy) as temporary:
            if if_absent:
                self._create(key, temporary, target)
            else:
                self._into_place(temporary, target, os.replace)

    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False, if_generation: int | None = None) -> int:
        """See ``ObjectStore.put_bytes``."""

        def write(temporary: Path) -> None:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())

        if len(data) > SMALL_OBJECT_BYTES:
            raise ValueError(f"{key} has {len(data)} bytes: put_file is for large objects")
        target = self._path(key)
        with self._errors(f"write {key}"), self._temporary(write) as temporary:
            if if_absent:
                self._create(key, temporary, target)
            elif if_generation is None:
                self._into_place(temporary, target, os.replace)
            else:
                with self._lock(key):
                    if not target.is_file() or _generation(target.read_bytes()) != if_generation:
                        raise _changed(key)
                    self._into_place(temporary, target, os.replace)
        return _generation(data)

    def get_bytes(self, key: str, *, max_bytes: int = SMALL_OBJECT_BYTES) -> tuple[bytes, int]:
        """See ``ObjectStore.get_bytes``."""
        with self._open(key) as descriptor, os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(max_bytes + 1)
        if len(data) > max_bytes:
            raise CorruptModel(f"The object {key} is larger than {max_bytes} bytes, more than it can be.")
        return data, _generation(data)

    def download(self, key: str, sink: Callable[[bytes], object]) -> int:
        """See ``ObjectStore.download``."""
        done = 0
        with self._open(key) as descriptor:
            while True:
                with self._errors(f"read {key}"):
                    chunk = os.read(descriptor, CHUNK_BYTES)
                if not chunk:
                    return done
                sink(chunk)
                done += len(chunk)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See ``ObjectStore.list``."""
        check_prefix(prefix)
        folder, _, _ = prefix.rpartition("/")
        with self._errors(f"list {prefix!r}"):
            self._check_root()
            rows = sorted(self._walk(self._root / folder, f"{folder}/" if folder else "", prefix))
        yield from rows

    def delete(self, key: str) -> None:
        """See ``ObjectStore.delete``."""
        target = self._path(key)
        with self._errors(f"delete {key}"):
            self._check_root()
            try:
                target.unlink()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return
            with suppress(FileNotFoundError):  # another delete removed the emptied folder
                sync_folder(target.parent)
            self._remove_empty_parents(target.parent)

    def _remove_empty_parents(self, folder: Path) -> None:
        with suppress(OSError):  # something is left in it, or somebody else was faster
            while folder != self._root:
                folder.rmdir()
                folder = folder.parent

    def _sweep_uploads(self) -> None:
        for entry in list_folder(self._root / ".tmp"):
            with suppress(OSError):  # somebody else's sweep was faster, or the volume is read-only
                if time.time() - entry.stat().st_mtime > _ABANDONED_UPLOAD_S:
                    Path(entry.path).unlink()

    def _path(self, key: str) -> Path:
        return self._root.joinpath(*check_key(key).split("/"))

    def _create(self, key: str, temporary: Path, target: Path) -> None:
        try:
            self._into_place(temporary, target, self._link)
        except FileExistsError:
            raise _changed(key) from None
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            with self._lock(key):
                if target.exists():
                    raise _changed(key) from None
                self._into_place(temporary, target, os.replace)

    def _into_place(self, temporary: Path, target: Path, place: Callable[[Path, Path], None]) -> None:
        for _ in range(_ATTEMPTS):
            self._check_root()
            self._make_parents(target.parent)
            try:
                place(temporary, target)
                sync_folder(target.parent)
            except FileNotFoundError:
                continue  # a delete removed the emptied parent between the two lines
            return
        raise StorageUnavailable("A folder of the bucket is removed again and again while it is written to.")

    def _make_parents(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_parents(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)

    @contextmanager
    def _temporary(self, write: Callable[[Path], None]) -> Iterator[Path]:
        self._check_root()
        temporary = self._root / ".tmp" / secrets.token_hex(16)
        try:
            write(temporary)
            yield temporary
        finally:
            temporary.unlink(missing_ok=True)

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        # A fixed number of lock files, so that none has to be removed; two keys that share one only wait.
        name = f"{zlib.crc32(key.encode()) % _LOCKS:02d}.lock"
        descriptor = os.open(self._root / ".locks" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def _open(self, key: str) -> Iterator[int]:
        path = self._path(key)
        with self._errors(f"read {key}"):
            try:
                # A link inside of the bucket could point outside of it: not followed.
                descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                if not os.path.isfile(descriptor):  # noqa: PTH113 - a descriptor, not a path
                    os.close(descriptor)
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                self._check_root()
                raise NotFound(f"The bucket has no object {key}.") from None
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _walk(self, folder: Path, base: str, prefix: str) -> Iterator[ObjectInfo]:
        try:
            entries = list_folder(folder)
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            key = base + entry.name
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir(follow_symlinks=False):
                    if prefix.startswith(key + "/") or (key + "/").startswith(prefix):
                        yield from self._walk(Path(entry.path), key + "/", prefix)
                elif entry.is_file(follow_symlinks=False) and key.startswith(prefix):
                    status = entry.stat(follow_symlinks=False)
                    yield ObjectInfo(key, status.st_size, status.st_mtime)
            except FileNotFoundError:
                continue  # deleted while listing

    def _check_root(self) -> None:
        # A volume that went away must not look like a bucket without objects: caches would believe it.
        if not (self._root / ".locks").is_dir():
            raise StorageUnavailable("The bucket's folder is gone.")

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise StorageUnavailable(f"The bucket's folder failed to {action}: {reason}.") from error


def list_folder(folder: Path) -> list[os.DirEntry[str]]:
    """The folder's entries, read at once and closed."""
    with os.scandir(folder) as entries:
        return [*entries]


def _generation(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 1


def _changed(key: str) -> Conflict:
    return Conflict(f"The object {key} was made or changed by somebody else.")
