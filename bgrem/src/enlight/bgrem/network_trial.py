"""Whether a network computed in another way says the same: tried out each time one is loaded."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from enlight.bgrem.pure.network_input import network_input
from enlight.servicekit.strips import Strips

TOLERANCE_LEVELS = 0.5
"""Of the 256 that a prediction is stretched to. Two right orders of fp32 sums are up to a fifth of one apart."""

Values = npt.NDArray[np.float32]


def trial_picture(side_px: int) -> Values:
    """(1, 3, side, side) input, always the same: discs of all sizes on slow changes of colour, with grain, so that
    there is something to see for every layer, from the finest to the coarsest."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:side_px, :side_px] / side_px
    colour = 200 * np.stack([rows, columns, 1 - rows], axis=-1)
    for radius in (0.3, 0.15, 0.08, 0.04, 0.02, 0.01):
        row, column = rng.uniform(0.2, 0.8, 2)
        colour[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = rng.uniform(0, 255, 3)
    colour += rng.normal(0, 8, colour.shape)
    return network_input(colour.clip(0, 255).astype(np.uint8), side_px, Strips(1))


def check_same(found: Values, expected: Values) -> None:
    """Compares two predictions of one picture.

    Raises:
        ArithmeticError: they are further apart than `TOLERANCE_LEVELS`, or what was found is no number.
    """
    levels_apart = 255 * np.abs(found - expected).max()
    if not levels_apart <= TOLERANCE_LEVELS * np.ptp(expected):
        raise ArithmeticError(f"its prediction is wrong by {levels_apart / max(np.ptp(expected), 1e-30):.3g} levels")
