"""Pictures with transparency: what colour lies where nothing is to be seen."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

AnyPixels = NDArray[np.uint8] | NDArray[np.uint16]


def with_visible_colours_spread(colour: AnyPixels, alpha: AnyPixels) -> AnyPixels:
    """(H, W, 3) colours, those of transparent pixels replaced by that of the nearest visible pixel.

    What a program left under transparency (black, white, an old background) would otherwise be drawn into the edge
    of what is visible, by a network that looks at many pixels at once. A sixteenth of opacity counts as transparent:
    colours of so thin pixels are the rounding of some program's division.
    """
    hidden = alpha <= np.iinfo(alpha.dtype).max // 16
    if not hidden.any() or hidden.all():
        return colour
    _, labels = cv2.distanceTransformWithLabels(
        hidden.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = np.zeros((labels.max() + 1, 3), colour.dtype)
    visible = ~hidden
    nearest[labels[visible]] = colour[visible]
    filled: AnyPixels = nearest[labels]
    return filled
