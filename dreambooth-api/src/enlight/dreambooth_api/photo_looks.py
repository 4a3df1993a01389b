"""How a photo looks to a training: the few numbers and the thumbnail that `photo_preflight` judges it by. No torch.

Everything is measured on the centre square, because that is what a training sees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from enlight.dreambooth_api.centre_square import centre_square

Floats = npt.NDArray[np.float32]

JUDGED_SIDE_PX = 384
"""Blur is measured on at most this many pixels a side: at more, the grain of a sensor looks like sharp detail."""
THUMBNAIL_PX = 32
_REBLUR_PX = 2.0
_LEAST_GRADIENT = 0.3
"""Levels per pixel. Below it there is only rounding, which is always sharp."""
_LEAST_BLUR_SIDE_PX = 16
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_CHROMA_WEIGHT = 0.5
"""Colour counts less than light in a comparison: JPEG keeps only a quarter of it, so that copies differ in it."""


@dataclass(frozen=True)
class PhotoLook:
    """What is kept of a photo once its pixels are gone: about 12 kB."""

    width_px: int
    height_px: int
    blur_px: float | None
    """Gaussian blur (standard deviation) of its sharpest edges in pixels of the judged square; None: no edges."""
    dark_level: float
    """The level, in [0, 255], below which the darkest hundredth of the picture lies."""
    bright_level: float
    """The level, in [0, 255], above which the brightest hundredth of the picture lies."""
    contrast_levels: float
    """How far the most conspicuous spot stands out, in levels, once a smooth gradient is taken away."""
    coherence: float
    """Correlation of neighbouring points of the thumbnail, in [-1, 1]: 0 for noise, near 1 for large shapes."""
    thumbnail: Floats
    """(THUMBNAIL_PX, THUMBNAIL_PX, 3), RGB levels."""


def look_at(image: Image.Image, resolution_px: int) -> PhotoLook:
    """Looks at one upright RGB photo that is to be trained on at ``resolution_px``.

    A photo smaller than the training is judged at its own size: that it will be enlarged is another matter than blur.
    """
    judged_px = min(*image.size, resolution_px, JUDGED_SIDE_PX)
    judged = centre_square(image, judged_px)
    grey = np.asarray(judged.convert("L"), np.float32)
    dark_level, bright_level = np.percentile(grey, (1, 99))
    thumbnail = np.asarray(centre_square(judged, THUMBNAIL_PX), np.float32)
    contrast_levels, coherence = _prominence(thumbnail)
    return PhotoLook(
        width_px=image.width,
        height_px=image.height,
        blur_px=_blur_px(grey) if judged_px >= _LEAST_BLUR_SIDE_PX else None,
        dark_level=float(dark_level),
        bright_level=float(bright_level),
        contrast_levels=contrast_levels,
        coherence=coherence,
        thumbnail=thumbnail,
    )


def difference(first: PhotoLook, second: PhotoLook) -> float:
    """How different two photos are where they differ most, whatever their brightness and whether one is mirrored.

    0 for the same picture; the unit is the standard deviation of a photo's own levels. Taken at the worst place and
    not over the whole picture, because a subject that moved before the same wall changes little of the whole.
    """
    one, other = _standardised(first.thumbnail), _standardised(second.thumbnail)
    return min(_largest_local(one - other), _largest_local(one - other[:, ::-1]))


def _blur_px(grey: Floats) -> float | None:
    """Blur of the sharpest tenth of the strong edges, which are the steepest tenth of the picture.

    An edge of blur s has a slope in proportion to 1 / s; blurred again by t, to 1 / sqrt(s² + t²). The ratio of the two
    slopes gives s whatever the edge's contrast (Zhuo and Sim 2011, "Defocus map estimation from a single image"). The
    sharpest edges count, so that a soft background behind a sharp subject is no fault. Strong edges are found in the
    picture that was blurred again, where noise is weak.
    """
    slope, weak_slope = _gradient(grey), _gradient(cast(Floats, cv2.GaussianBlur(grey, (0, 0), _REBLUR_PX)))
    strong = weak_slope >= max(float(np.quantile(weak_slope, 0.9)), _LEAST_GRADIENT)
    if not strong.any():
        return None
    ratio = float(np.quantile(slope[strong] / weak_slope[strong], 0.9))
    return _REBLUR_PX / math.sqrt(max(ratio * ratio - 1, 1e-3))


def _gradient(grey: Floats) -> Floats:
    across, down = (cv2.Scharr(grey, cv2.CV_32F, *axis, scale=1 / 32) for axis in ((1, 0), (0, 1)))
    return np.hypot(across, down).astype(np.float32)


def _prominence(thumbnail: Floats) -> tuple[float, float]:
    """Contrast and coherence (see `PhotoLook`) of what is left of a picture without its smooth gradient."""
    rest = thumbnail.reshape(-1, 3) - _SMOOTH @ (_SMOOTH.T @ thumbnail.reshape(-1, 3))
    rest = rest.reshape(thumbnail.shape)
    spots = cv2.GaussianBlur(rest, (0, 0), 1.5)
    contrast_levels = float(np.sqrt((spots**2).mean(axis=-1)).max())
    across, down = (rest[:, 1:] * rest[:, :-1]).sum(), (rest[1:] * rest[:-1]).sum()
    return contrast_levels, float((across + down) / 2 / max(float((rest**2).sum()), 1e-6))


def _smooth_basis(degree: int = 4) -> Floats:
    """Orthonormal columns: the thumbnail's pictures that are polynomials of x and y up to ``degree``."""
    y, x = np.mgrid[-1 : 1 : THUMBNAIL_PX * 1j, -1 : 1 : THUMBNAIL_PX * 1j]
    powers = [x**i * y**j for i in range(degree + 1) for j in range(degree + 1 - i)]
    return np.linalg.qr(np.stack([power.ravel() for power in powers], axis=1))[0].astype(np.float32)


_SMOOTH = _smooth_basis()


def _standardised(thumbnail: Floats) -> Floats:
    """Light and two colour differences, of mean 0 and standard deviation 1 over all three."""
    light = thumbnail @ _LUMA
    channels = [light, *(_CHROMA_WEIGHT * (thumbnail[..., channel] - light) for channel in (0, 2))]
    centred = np.stack(channels, axis=-1)
    centred -= centred.mean()
    return cast(Floats, centred / max(float(centred.std()), 1e-3))


def _largest_local(gap: Floats) -> float:
    squares = (gap**2).mean(axis=-1)
    return float(np.sqrt(cv2.blur(squares, (3, 3)).max()))
