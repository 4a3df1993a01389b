"""What resampling makes of class numbers beside an edge."""

from __future__ import annotations

import numpy as np
from PIL import Image

from enlight.bgrem.pure.masks import ALL_GARMENTS, garment_masks
from enlight.servicekit.strips import Strips


def test_a_number_that_is_no_class_stays_a_few_levels_above_black() -> None:
    """As in rembg: within a stripe of class 3 that is two pixels wide Lanczos overshoots to 4, which is no garment."""
    classes = np.zeros((32, 32), np.int64)
    classes[:, 15:17] = 3
    scores = np.eye(4, dtype=np.float32)[classes].transpose(2, 0, 1)
    enlarged = np.asarray(Image.fromarray(classes.astype(np.uint8)).resize((256, 256), Image.Resampling.LANCZOS))
    overshoot = enlarged == 4
    assert overshoot.any()
    for mask in garment_masks(scores, ALL_GARMENTS, 256, 256, Strips(2)):
        assert (mask[overshoot] == 4).all()
        assert set(np.unique(mask[~overshoot])) <= {0, 255}
