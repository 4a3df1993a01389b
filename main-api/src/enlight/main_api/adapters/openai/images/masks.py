"""OpenAI's masks, whose transparent parts are painted anew, as dreambooth-api's, whose white parts are."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from enlight.servicekit.errors import InvalidField
from enlight.servicekit.images import decode_picture


def white_where_transparent(mask: bytes, field: str) -> bytes:
    """A black and white PNG: white where nothing at all is to be seen of ``mask``.

    Raises:
        InvalidField: it has no transparency, so that nothing would be painted.
        UnsupportedImage, ImageTooLarge, BrokenImage: as `decode_picture`.
    """
    alpha = decode_picture(mask, field).alpha
    if alpha is None or alpha.min() > 0:
        raise InvalidField.of(field, "has no part that is fully transparent, where the picture is to be edited")
    encoded = io.BytesIO()
    Image.fromarray(np.where(alpha == 0, 255, 0).astype(np.uint8)).save(encoded, "PNG")
    return encoded.getvalue()
