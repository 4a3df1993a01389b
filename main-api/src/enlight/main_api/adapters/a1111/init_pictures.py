"""What img2img begins from: the picture in its size, the part of it that is painted, and how that comes back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from enlight.main_api.adapters.a1111.pictures import sent_mask, sent_picture
from enlight.main_api.adapters.a1111.schemas import ImageToImageBody
from enlight.main_api.limits.admission import BudgetShare
from enlight.servicekit.errors import InvalidField

STRETCH, COVER, FILL = 0, 1, 2
"""A1111's ``resize_mode``."""
FROM_SURROUNDINGS = 0
"""A1111's ``inpainting_fill``."""
_FILL_RADII_PX = (64, 16, 4, 1)
"""From the colours of everything around to those of the nearest pixels."""
_LEAST_WEIGHT = 2
"""Of 255: where less of the surroundings comes through a blur, it says nothing."""

Size = tuple[int, int]


@dataclass(frozen=True)
class InitPicture:
    """What is painted over, and what becomes of the result."""

    picture: Image.Image
    mask: Image.Image | None
    """Black and white; None: all of it is painted over."""
    finish: Callable[[Image.Image], Image.Image]
    """Puts what was painted into the picture."""


def init_picture(body: ImageToImageBody, share: BudgetShare) -> InitPicture:
    """What a request begins from.

    Raises:
        InvalidField: the mask has nothing to paint.
        InvalidField, InvalidRequest, BrokenImage, ImageTooLarge, UnsupportedImage, QueueFull: see `sent_picture`.
    """
    picture = sent_picture(body.init_images[0], "init_images[0]", share)
    size = (body.width, body.height) if body.width is not None and body.height is not None else None
    if body.mask is None:
        return InitPicture(resized(picture, size, body.resize_mode), None, lambda made: made)
    mask = sent_mask(body.mask, "mask", share)
    if mask.size != picture.size:
        mask = mask.resize(picture.size, Image.Resampling.NEAREST)
    if body.inpainting_mask_invert:
        mask = ImageChops.invert(mask)
    if mask.getbbox() is None:
        raise InvalidField.of("mask", "must be white where the picture is painted anew; it is black everywhere")
    if body.inpaint_full_res:
        return _part_of(body, picture, mask, size)
    whole, mask = (resized(each, size, body.resize_mode) for each in (picture, mask))
    return _masked(body, whole, _black_and_white(mask), None)


def _part_of(body: ImageToImageBody, picture: Image.Image, mask: Image.Image, size: Size | None) -> InitPicture:
    """Only the masked part, as large as pictures are made; the picture keeps its size."""
    box = part_box(mask, body.inpaint_full_res_padding + body.mask_blur, size)
    inner = _masked(body, picture.crop(box), mask.crop(box), size)

    def finish(made: Image.Image) -> Image.Image:
        whole = picture.copy()
        whole.paste(inner.finish(made), box[:2])
        return whole

    return InitPicture(inner.picture, inner.mask, finish)


def _masked(body: ImageToImageBody, picture: Image.Image, mask: Image.Image, size: Size | None) -> InitPicture:
    """Painting where ``mask`` is white, in pictures of ``size``; None: of the picture's."""
    soft = mask.filter(ImageFilter.GaussianBlur(body.mask_blur)) if body.mask_blur else mask
    begin = filled(picture, mask) if body.inpainting_fill == FROM_SURROUNDINGS else picture

    def finish(made: Image.Image) -> Image.Image:
        if size is None and made.size != picture.size:  # within the base's limits, where no size was asked for
            return Image.composite(made, ImageOps.fit(picture, made.size), ImageOps.fit(soft, made.size))
        return Image.composite(made.resize(picture.size, Image.Resampling.LANCZOS), picture, soft)

    begin, painted = (
        (begin, mask) if size is None else (begin.resize(size, Image.Resampling.LANCZOS), mask.resize(size))
    )
    return InitPicture(begin, _black_and_white(painted), finish)


def _black_and_white(mask: Image.Image) -> Image.Image:
    return mask.point([0] * 128 + [255] * 128)


def resized(picture: Image.Image, size: Size | None, mode: int) -> Image.Image:
    """The picture in another size, as ``resize_mode`` says; None: as it is."""
    if size is None or picture.size == size:
        return picture
    if mode == STRETCH:
        return picture.resize(size, Image.Resampling.LANCZOS)
    if mode == COVER:
        return ImageOps.fit(picture, size, Image.Resampling.LANCZOS)
    within = np.asarray(ImageOps.contain(picture, size, Image.Resampling.LANCZOS))
    left, top = (size[0] - within.shape[1]) // 2, (size[1] - within.shape[0]) // 2
    right, bottom = size[0] - within.shape[1] - left, size[1] - within.shape[0] - top
    around = [(top, bottom), (left, right), (0, 0)][: within.ndim]
    return Image.fromarray(np.pad(within, around, mode="edge"))


def part_box(mask: Image.Image, padding_px: int, size: Size | None) -> tuple[int, int, int, int]:
    """The part of the picture with all that is white and ``padding_px`` around, of the shape of ``size`` as far as the
    picture reaches."""
    found = mask.getbbox()
    assert found is not None, "the mask has something white"
    left, top = max(0, found[0] - padding_px), max(0, found[1] - padding_px)
    right, bottom = min(mask.width, found[2] + padding_px), min(mask.height, found[3] + padding_px)
    aspect = size[0] / size[1] if size else 1.0
    width = min(mask.width, max(right - left, round((bottom - top) * aspect)))
    height = min(mask.height, max(bottom - top, round((right - left) / aspect)))
    left = min(max(0, left - (width - (right - left)) // 2), mask.width - width)
    top = min(max(0, top - (height - (bottom - top)) // 2), mask.height - height)
    return left, top, left + width, top + height


def filled(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """The picture with its masked part in the colours of what is around it."""
    kept = ImageChops.invert(mask)
    around = Image.composite(picture, Image.new("RGB", picture.size), kept)
    result = picture.copy()
    for radius_px in _FILL_RADII_PX:
        blur = ImageFilter.GaussianBlur(radius_px)
        colours, weights = np.asarray(around.filter(blur), np.float32), np.asarray(kept.filter(blur), np.float32)
        reached = Image.fromarray(np.where(weights >= _LEAST_WEIGHT, np.uint8(255), np.uint8(0)))
        shades = np.clip(colours * (255 / np.maximum(weights, 1))[..., None], 0, 255).astype(np.uint8)
        result.paste(Image.fromarray(shades), mask=ImageChops.darker(mask, reached))
    return result
