"""ZIPs of photos, good ones and hostile ones."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping

from training_gateway import photo

PHOTOS: Mapping[str, bytes] = {f"photo-{number}.png": photo(number) for number in range(3)}


def zip_of(entries: Mapping[str, bytes], *, method: int = zipfile.ZIP_STORED) -> bytes:
    """A ZIP as any program makes it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return packed.getvalue()


def zip_of_photos(count: int = 3) -> bytes:
    """Photos that differ."""
    return zip_of({f"{number:02d}.png": photo(number) for number in range(count)})
