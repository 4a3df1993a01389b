"""The files of kept pictures in their bucket: the picture as it was made, and a small one for lists.

::

    <picture_id>/picture
    <picture_id>/thumbnail
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

from enlight.main_api.gallery.records import KeptPicture
from enlight.servicekit.errors import StorageUnavailable
from enlight.servicekit.object_store import ObjectStore, put_new, remove_folder, untouched_folders


class PictureFiles:
    """The bucket of pictures. Methods raise StorageUnavailable."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def put(self, picture_id: str, data: bytes, thumbnail: bytes) -> None:
        """Writes both files of a new picture."""
        put_new(self._store, f"{picture_id}/picture", data)
        put_new(self._store, f"{picture_id}/thumbnail", thumbnail)

    def read(self, picture: KeptPicture) -> bytes:
        """The picture, compared with its record.

        Raises:
            NotFound: it was removed meanwhile.
            StorageUnavailable: what is there is not what was kept.
        """
        data, _ = self._store.get_bytes(f"{picture.id}/picture", max_bytes=picture.size_bytes)
        if sha256(data).hexdigest() != picture.sha256:
            raise StorageUnavailable("The picture in the bucket is not the one that was kept.")
        return data

    def read_thumbnail(self, picture: KeptPicture) -> bytes:
        """The small one, a WebP. Raises: NotFound when the picture was removed meanwhile."""
        return self._store.get_bytes(f"{picture.id}/thumbnail")[0]

    def remove(self, picture_id: str) -> None:
        """Removes both."""
        remove_folder(self._store, picture_id)

    def untouched(self, older_than_s: float) -> Iterator[str]:
        """Ids of the pictures none of whose files was written within the last ``older_than_s``."""
        return untouched_folders(self._store, older_than_s)
