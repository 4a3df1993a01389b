"""Reading zips as if they were hostile: what holds for all of them, whatever should be in them."""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import BinaryIO

from enlight.servicekit.errors import InvalidField

BROKEN_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    UnicodeDecodeError,
    OverflowError,
)
"""What `zipfile` raises of a file that is no whole zip."""

_READ_BYTES = 2 << 20
"""Limit of one read, and so of a zip's table of contents: what is read here has few files, other tools add little."""
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1


def check_readable(entry: zipfile.ZipInfo, *, field: str) -> None:
    """Raises: InvalidField when the entry is packed in another way than any program that knows zips can read."""
    if entry.flag_bits & _ENCRYPTED or entry.compress_type not in _METHODS:
        shown = repr(entry.filename[:100])
        raise InvalidField.of(field, f"{shown} is encrypted or compressed otherwise than by deflate")


class BoundedReads:
    """A file of which no single read may be large: zipfile reads a table of contents whole, however long it is."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        """Reads as the file does. Raises: BadZipFile for more than anything here needs at once."""
        at = self._file.tell()
        rest = self._file.seek(0, io.SEEK_END) - at
        self._file.seek(at)
        if (rest if size < 0 else min(size, rest)) > _READ_BYTES:
            raise zipfile.BadZipFile("its table of contents is too long")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Seeks as the file does. Raises: BadZipFile for a place before its beginning."""
        if whence == io.SEEK_SET and offset < 0:
            raise zipfile.BadZipFile("it points before its beginning")
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Where it is."""
        return self._file.tell()

    def seekable(self) -> bool:
        """True."""
        return True

    def close(self) -> None:
        """Leaves the file to whoever opened it."""
