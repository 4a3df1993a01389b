"""Links to kept pictures that need no key: good for an hour, for one picture, and for nothing else."""

from __future__ import annotations

import hashlib
import hmac
import time
from urllib.parse import urlencode

from enlight.jobkit.database import Documents
from enlight.main_api.gallery.records import KeptPicture, PictureRecords
from enlight.main_api.keys.authentication import LINKS_PREFIX
from enlight.main_api.keys.tenant_secrets import TenantSecrets
from enlight.servicekit.errors import Forbidden, NotFound

LINK_S = 3600
"""As long as OpenAI's links."""


class PictureLinks:
    """Makes links, and finds the pictures that they are to.

    Args:
        database: Holds the tenants' secrets, collection ``link_secrets``.
        records: What is known of pictures.
    """

    def __init__(self, database: Documents, records: PictureRecords) -> None:
        self._secrets = TenantSecrets(database, "link_secrets", prefix="")
        self._records = records

    def link(self, picture: KeptPicture, root_url: str) -> str:
        """A link to the picture.

        Args:
            picture: One that is kept.
            root_url: Where clients reach the gateway, without a slash at the end.

        Raises: DatabaseUnavailable.
        """
        expires_unix_s = int(time.time()) + LINK_S
        signature = self._signature(picture, expires_unix_s)
        return f"{root_url}{LINKS_PREFIX}{picture.id}?{urlencode({'expires': expires_unix_s, 'signature': signature})}"

    def picture(self, picture_id: str, expires_unix_s: int, signature: str) -> KeptPicture:
        """The picture that a link is to.

        Raises:
            NotFound: there is none, or it is not a link that was made here; nobody learns which.
            Forbidden: it was good once.
            DatabaseUnavailable.
        """
        picture = self._records.find(picture_id)
        genuine = picture is not None and hmac.compare_digest(
            self._signature(picture, expires_unix_s).encode(), signature.encode()
        )
        if picture is None or not genuine:
            raise NotFound("There is no picture under this link.")
        if time.time() >= expires_unix_s:
            raise Forbidden("The link has expired. With a key, `GET /v1/pictures` has the picture still.")
        return picture

    def _signature(self, picture: KeptPicture, expires_unix_s: int) -> str:
        secret = self._secrets.secret_of(picture.tenant)
        return hmac.new(secret.encode(), f"{picture.id}.{expires_unix_s}".encode(), hashlib.sha256).hexdigest()
