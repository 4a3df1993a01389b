"""From a body's base64 to the picture that a generation begins from: read and checked before it is queued. No torch."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from enlight.dreambooth_api.init_images import SizeLimits, fit
from enlight.dreambooth_api.requests import InitImage
from enlight.dreambooth_api.schemas import GenerationBody
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.images import decode_base64, decode_image

READ_AT_ONCE = 4
"""Pictures in the hands of the HTTP process's threads: one of 25 megapixels and its mask take 200 MB until they are
scaled. Others wait for it."""
IMAGE_STRENGTH = 0.8
MASKED_STRENGTH = 1.0
"""Where the body names none."""


class InitImageReader:
    """Reads `image` and `mask` of bodies.

    Args:
        read_at_once: Bodies whose pictures are read at the same time.
    """

    def __init__(self, read_at_once: int = READ_AT_ONCE) -> None:
        self.places = threading.BoundedSemaphore(read_at_once)
        """One for each body that is being read."""

    def read(self, body: GenerationBody, limits: SizeLimits) -> InitImage | None:
        """What the body says to begin from; None: noise.

        Args:
            body: Of ``/v1/generations``.
            limits: Of the base model, or of all where it is not known yet.

        Raises:
            InvalidField: a field without the one that it belongs to, or a mask that is of no use.
            InvalidRequest, BrokenImage, UnsupportedImage, ImageTooLarge: no picture that can be read.
        """
        if body.image is None:
            _refuse(body, ("mask", "strength"), "an `image`")
        if body.mask is None:
            _refuse(body, ("keep_unmasked",), "a `mask`")
        if body.image is None:
            return None
        with self.places:
            rgb = np.asarray(decode_image(decode_base64(body.image, "image"), "image"))
            mask = None
            if body.mask is not None:
                mask = np.asarray(decode_image(decode_base64(body.mask, "mask"), "mask").convert("L"))
                _check_same_size(rgb, mask)
            default_strength = IMAGE_STRENGTH if mask is None else MASKED_STRENGTH
            strength = default_strength if body.strength is None else body.strength
            init = InitImage(rgb, mask, strength, body.keep_unmasked)
            return fit(init, limits, width_px=body.width, height_px=body.height)


def _refuse(body: GenerationBody, fields: tuple[str, ...], needed: str) -> None:
    for field in fields:
        if field in body.model_fields_set and getattr(body, field) is not None:
            raise InvalidField.of(field, f"means nothing without {needed}")


def _check_same_size(rgb: NDArray[np.uint8], mask: NDArray[np.uint8]) -> None:
    if mask.shape != rgb.shape[:2]:
        (mask_height_px, mask_width_px), (height_px, width_px) = mask.shape, rgb.shape[:2]
        raise InvalidField.of(
            "mask",
            f"must have the image's size, {width_px} x {height_px} pixels, not {mask_width_px} x {mask_height_px}",
        )
