"""Where a face goes: from a picture into the square that the restoring network wants, and back without a seam."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from enlight.realesrgan.pure.sizes import Size

CROP_PX = 512
TEMPLATE = np.array(
    [
        [192.98138, 239.94708],
        [318.90277, 240.19360],
        [256.63416, 314.01935],
        [201.26117, 371.41043],
        [313.08905, 371.15118],
    ]
)
"""Eyes, tip of the nose, corners of the mouth in the aligned faces of FFHQ at 512 x 512, as (x, y); the left of each
pair is the one on the picture's left. The network was trained on faces that lie like this."""
FEATHER_PX = 80
"""Of the crop: from the edge inwards, a restored face fades in."""

Points = NDArray[np.float64]
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Face:
    """A face in a picture.

    Attributes:
        landmarks: (5, 2): eyes, tip of the nose, corners of the mouth, as `TEMPLATE`, in the picture's pixels; the
            centre of the first pixel is (0, 0).
        score: Of the detector, in [0, 1].
    """

    landmarks: Points
    score: float

    @property
    def eye_distance_px(self) -> float:
        """Between the centres of the eyes."""
        return float(np.linalg.norm(self.landmarks[1] - self.landmarks[0]))

    @property
    def crop_side_px(self) -> float:
        """Side of the aligned square, in the picture's pixels."""
        return CROP_PX / similarity_scale(alignment(self.landmarks))


def similarity(source: Points, target: Points) -> Matrix:
    """The rotation, uniform scale and shift (2, 3) that bring the source's points nearest to the target's, in the
    least squares' sense; never a reflection.

    A similarity in the plane is a product and a sum of complex numbers, so this is a linear regression.
    """
    given, wanted = (points[:, 0] + 1j * points[:, 1] for points in (source, target))
    centred = given - given.mean()
    factor = np.vdot(centred, wanted - wanted.mean()) / np.vdot(centred, centred)
    shift = wanted.mean() - factor * given.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]], dtype=np.float64)


def similarity_scale(matrix: Matrix) -> float:
    """How much a similarity enlarges."""
    return float(np.hypot(matrix[0, 0], matrix[1, 0]))


def alignment(landmarks: Points) -> Matrix:
    """From the picture's pixels to the crop's."""
    return similarity(landmarks, TEMPLATE)


def aligned_crop(picture: NDArray[np.float32], landmarks: Points) -> NDArray[np.float32]:
    """The face upright in (512, 512, 3), of a picture (H, W, 3)."""
    crop = cv2.warpAffine(
        picture,
        alignment(landmarks),
        (CROP_PX, CROP_PX),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT_101 if min(picture.shape[:2]) > 1 else cv2.BORDER_REPLICATE,
    )
    return np.asarray(crop, np.float32)


def feather_mask() -> NDArray[np.float32]:
    """(512, 512) in [0, 1]: 1 in the middle, 0 at the border, with no step and no crease between."""
    ramp = np.clip((np.minimum(np.arange(CROP_PX), np.arange(CROP_PX)[::-1])) / FEATHER_PX, 0, 1)
    smooth = ramp * ramp * (3 - 2 * ramp)
    return np.outer(smooth, smooth).astype(np.float32)


def paste_back(
    canvas: NDArray[np.uint8] | NDArray[np.uint16], crop: NDArray[np.float32], landmarks: Points, size: Size
) -> None:
    """Lays a restored face (512, 512, 3) in [0, 1] over the enlarged picture, in place; it fades into it.

    Args:
        canvas: (H, W, 3).
        crop: The restored face.
        landmarks: In the picture that was enlarged.
        size: Of that picture.
    """
    height, width = canvas.shape[:2]
    to_canvas = _scaling(width / size.width, height / size.height) @ _square(_inverse(alignment(landmarks)))
    mask = feather_mask()
    shrinking = min(1.0, similarity_scale(to_canvas))
    if shrinking < 1:  # an interpolation would skip pixels
        side = max(1, round(CROP_PX * shrinking))
        crop, mask = (_shrunk(plane, side) for plane in (crop, mask))
        to_canvas = to_canvas @ _scaling(CROP_PX / side, CROP_PX / side)
    left, top, right, bottom = _bounds(to_canvas, crop.shape[0], width, height)
    if left >= right or top >= bottom:
        return
    placed = _square(np.array([[1.0, 0.0, -left], [0.0, 1.0, -top]])) @ to_canvas
    shape = (right - left, bottom - top)
    face = cv2.warpAffine(crop, placed[:2], shape, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    share = cv2.warpAffine(mask, placed[:2], shape, flags=cv2.INTER_LINEAR)[..., None]
    highest = np.iinfo(canvas.dtype).max
    below = canvas[top:bottom, left:right]
    mixed = below + share * (np.clip(face, 0, 1) * highest - below)
    canvas[top:bottom, left:right] = np.rint(np.clip(mixed, 0, highest)).astype(canvas.dtype)


def distinct(faces: list[Face]) -> list[Face]:
    """Each face once, the surest of those that lie on each other, surest first."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.score):
        centre = face.landmarks.mean(axis=0)
        apart = (
            np.linalg.norm(other.landmarks.mean(axis=0) - centre) > max(other.eye_distance_px, face.eye_distance_px) / 2
            for other in kept
        )
        if all(apart):
            kept.append(face)
    return kept


def _shrunk(plane: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(plane, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def _inverse(matrix: Matrix) -> Matrix:
    return np.asarray(np.linalg.inv(_square(matrix))[:2], np.float64)


def _square(matrix: Matrix) -> Matrix:
    return np.vstack([matrix[:2], np.array([[0.0, 0.0, 1.0]])])


def _scaling(x: float, y: float) -> Matrix:
    """Between two sizes of one picture: pixels are squares, so their centres move by half of what they grow."""
    return np.array([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2], [0.0, 0.0, 1.0]])


def _bounds(to_canvas: Matrix, side: int, width: int, height: int) -> tuple[int, int, int, int]:
    corners = to_canvas[:2] @ np.array([[0, side, 0, side], [0, 0, side, side], [1, 1, 1, 1]])
    left, top = np.floor(corners.min(axis=1)).astype(int)
    right, bottom = np.ceil(corners.max(axis=1)).astype(int) + 1
    return max(0, left), max(0, top), min(width, right), min(height, bottom)
