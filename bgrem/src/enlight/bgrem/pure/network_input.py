"""A picture as the networks see it, to the bit as rembg makes it.

The networks are touchy: an error of one level in their input moves a few percent of the mask by more than a level.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from enlight.bgrem.pure.lanczos import lanczos
from enlight.servicekit.strips import Strips

_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def network_input(colour: npt.NDArray[np.uint8], side_px: int, strips: Strips) -> npt.NDArray[np.float32]:
    """(1, 3, side, side) normalised values of an (H, W, 3) RGB picture, squeezed into the square by Lanczos."""
    return _normalised(lanczos(colour, side_px, side_px, strips))[None]


def _normalised(small: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(3, side, side): each of the 256 levels is computed once, in double precision, and looked up."""
    levels = np.arange(256) / max(int(small.max()), 1e-6)
    channels = [
        ((levels - mean) / std).astype(np.float32)[small[..., channel]]
        for channel, (mean, std) in enumerate(zip(_MEAN, _STD, strict=True))
    ]
    return np.stack(channels)
