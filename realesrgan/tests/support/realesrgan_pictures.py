"""Picture files for tests."""

from __future__ import annotations

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray


def sample(name: str) -> NDArray[np.uint8]:
    """A photo of scikit-image, RGB."""
    return np.asarray(getattr(skimage.data, name)(), np.uint8)


def photo(height: int, width: int) -> NDArray[np.uint8]:
    """(H, W, 3) RGB: the astronaut, stretched."""
    stretched = cv2.resize(sample("astronaut"), (width, height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(stretched, np.uint8)


def png(pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> bytes:
    """A PNG file of (H, W), (H, W, 3) RGB or (H, W, 4) RGBA pixels."""
    if pixels.ndim == 3:
        order = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
        return cv2.imencode(".png", cv2.cvtColor(pixels, order))[1].tobytes()
    return cv2.imencode(".png", pixels)[1].tobytes()


def read(data: bytes) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """(H, W, 3) RGB or (H, W, 4) RGBA pixels of a file, with its bits."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    if pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    order = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    turned = cv2.cvtColor(pixels, order)
    return turned.astype(np.uint16) if turned.dtype == np.uint16 else turned.astype(np.uint8)
