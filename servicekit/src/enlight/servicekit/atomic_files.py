"""Files and folders that appear whole or not at all, also when the process is killed or the machine loses
power.

The order is what makes it hold: write under a unique temporary name in the same folder, ``fsync`` the
bytes, ``os.replace`` to the final name (atomic in POSIX), ``fsync`` the folder so that the name itself is
on the disk. A killed process leaves at most a temporary, whose name starts with ``.`` and ends in ``.tmp``;
readers never open those, and ``sweep_temporaries`` removes them.

What it relies on: ``rename`` within one filesystem is atomic, and ``fsync`` means it.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
import secrets
import shutil
import time
from collections.abc import Callable
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def temporary_beside(final: Path) -> Path:
    """An unused name in ``final``'s folder, for what will be renamed to it: ``.NAME.RANDOM.tmp``."""
    # The name is cut so that a long final name cannot push the temporary one over the limit of 255 bytes.
    return final.with_name(f".{final.name[:80]}.{secrets.token_hex(8)}.tmp")


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file ``path`` (or make it) by ``data``; its folder must exist.

    Raises: OSError, and then ``path`` is as before.
    """
    temporary = temporary_beside(path)
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_json(path: Path, value: object) -> None:
    """``write_bytes`` of ``value`` as UTF-8 JSON with sorted keys; NaN and infinities are refused
    (ValueError).
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode("utf-8"))


def replace_folder(temporary: Path, final: Path, *, exchange: Callable[[Path, Path], bool] | None = None) -> None:
    """Make the finished folder ``temporary`` appear as ``final``; an older ``final`` is removed.

    Both must be on one filesystem. Every file is synced first, so that what appears is on the disk. Where
    an older ``final`` exists, Linux exchanges the two atomically; where the filesystem cannot, the old one
    is moved aside first, and a reader may find none for a moment, never half of one.

    Raises: OSError, and then ``final`` is as before (or, without exchange, lies beside as
    ``.NAME.RANDOM.tmp``).
    """
    sync_tree(temporary)
    try:
        temporary.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            raise
        aside = temporary_beside(final)
        if (exchange or _exchange)(temporary, final):
            temporary.rename(aside)
        else:
            final.rename(aside)
            temporary.rename(final)
        sync_folder(final.parent)
        shutil.rmtree(aside, ignore_errors=True)
    sync_folder(final.parent)


def sync_file(path: Path) -> None:
    """Bring the file's bytes to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: Path) -> None:
    """Bring the folder's names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network filesystems cannot sync a folder, and need not
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Bring every file and folder below ``folder``, itself included, to the disk; links are not followed."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            path = Path(parent, name)
            if not path.is_symlink():
                sync_file(path)
        sync_folder(Path(parent))


def sweep_temporaries(folder: Path, *, older_than_s: float, clock: Callable[[], float] = time.time) -> int:
    """Remove temporaries that killed processes left directly in ``folder``; gives how many.

    Only the age tells a dead writer's temporary from a living one's, so it must exceed the longest write.
    """
    removed = 0
    for path in folder.glob(".*.tmp"):
        try:
            if clock() - path.lstat().st_mtime < older_than_s:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            continue  # its writer finished, or another sweep was faster
        removed += 1
    return removed


def _exchange(first: Path, second: Path) -> bool:
    """Swap two names atomically; False where kernel or filesystem cannot."""
    renameat2 = _renameat2()
    if renameat2 is None:
        return False
    names = (os.fsencode(first), os.fsencode(second))
    if renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.EOPNOTSUPP):
        return False
    raise OSError(code, os.strerror(code), str(second))


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    # In glibc since 2.28; Python has no wrapper.
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    function.restype = ctypes.c_int
    return function  # type: ignore[no-any-return]
