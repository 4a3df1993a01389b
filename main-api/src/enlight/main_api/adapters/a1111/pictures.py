"""Pictures as A1111's clients send them, and as they get them."""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

from enlight.main_api.limits.admission import BudgetShare
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.images import Picture, decode_base64, decode_image, decode_picture, encode_png, to_base64

_DATA_URL = re.compile(r"data:image/[\w.+-]{1,50};base64,")


def sent_file(text: str, field: str, share: BudgetShare) -> bytes:
    """The file in a base64 text or a ``data:`` URL.

    Raises:
        InvalidField: an address, at which nothing is fetched.
        InvalidRequest: it is not base64.
        QueueFull: there is no room for it.
    """
    if text[:8].lower().startswith(("http://", "https://")):
        raise InvalidField.of(field, "is an address: send the picture itself, nothing is fetched here")
    begin = _DATA_URL.match(text[:100])
    data = decode_base64(text[begin.end() :] if begin else text, field)
    share.take(len(data))
    return data


def sent_picture(text: str, field: str, share: BudgetShare) -> Image.Image:
    """The picture in such a text, on white where it is transparent. Raises: as `sent_file` and `decode_image`."""
    picture = decode_image(sent_file(text, field, share), field)
    share.take(picture.width * picture.height * 3)
    return picture


def sent_mask(text: str, field: str, share: BudgetShare) -> Image.Image:
    """The mask in such a text, black and white: of a transparent picture what is opaque, else what is light."""
    picture = decode_picture(sent_file(text, field, share), field)
    share.take(picture.width_px * picture.height_px * 4)
    if picture.alpha is not None and picture.alpha.min() < 255:
        grey = Image.fromarray(picture.alpha)
    else:
        grey = Image.fromarray(picture.colour).convert("L")
    return grey.point([0] * 128 + [255] * 128)


def image_of(picture: Picture) -> Image.Image:
    """The same for Pillow, with its transparency."""
    image = Image.fromarray(picture.colour)
    if picture.alpha is not None:
        image.putalpha(Image.fromarray(picture.alpha))
    return image


def png_text(image: Image.Image) -> str:
    """A PNG file as base64."""
    return to_base64(encode_png(np.asarray(image)))
