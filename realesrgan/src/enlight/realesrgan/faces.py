"""Finds faces and restores them."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from enlight.realesrgan.networks import Networks
from enlight.realesrgan.pure.faces import CROP_PX, Face, aligned_crop, distinct, paste_back
from enlight.realesrgan.pure.sizes import Size, fit_long_side
from enlight.realesrgan.pure.staged_networks import Check

DETECTION_SIDES_PX = (640, 1920)
"""The detector was made for faces of 10 to 300 pixels: large faces are found in the small copy of a picture, small
ones in the large copy. A picture is never enlarged for it."""
MIN_SCORE = 0.8
MIN_EYE_DISTANCE_PX = 5
"""A smaller face holds too little for a likeness to be restored."""
NMS_THRESHOLD = 0.3
MAX_FACES = 200


class FaceFinder:
    """The detector. It keeps the size of its last picture, so one thread at a time uses it.

    Args:
        networks: Knows the detector's file.
    """

    def __init__(self, networks: Networks) -> None:
        self._networks = networks
        self._lock = threading.Lock()
        self._detector: cv2.FaceDetectorYN | None = None

    def find(self, picture: NDArray[np.uint8]) -> list[Face]:
        """The faces of a picture (H, W, 3) that may be restored, surest first.

        Raises:
            WeightsUnavailable, CorruptModel: the detector's file.
        """
        size = Size(*picture.shape[:2])
        sides = sorted({min(side, size.long_side) for side in DETECTION_SIDES_PX})
        faces = [face for side in sides for face in self._find_at(picture, fit_long_side(size, side))]
        # A face that is larger than the network's square has more detail than the network would give it.
        return [
            face
            for face in distinct(faces)[:MAX_FACES]
            if face.eye_distance_px >= MIN_EYE_DISTANCE_PX and face.crop_side_px <= CROP_PX
        ]

    def _find_at(self, picture: NDArray[np.uint8], size: Size) -> list[Face]:
        height, width = picture.shape[:2]
        if (height, width) != (size.height, size.width):
            small = cv2.resize(picture, (size.width, size.height), interpolation=cv2.INTER_AREA)
            picture = np.asarray(small, np.uint8)
        with self._lock:
            detector = self._detector = self._detector or self._load_detector()
            detector.setInputSize((size.width, size.height))
            # None, whatever OpenCV's annotations say, where there is no face.
            found: NDArray[np.float32] | None = detector.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]  # type: ignore[assignment]
        if found is None:
            return []
        factors = np.array([width / size.width, height / size.height])
        return [
            Face((row[4:14].reshape(5, 2).astype(np.float64) + 0.5) * factors - 0.5, float(row[14])) for row in found
        ]

    def _load_detector(self) -> cv2.FaceDetectorYN:
        path = self._networks.detector_path()
        return cv2.FaceDetectorYN.create(str(path), "", (320, 320), MIN_SCORE, NMS_THRESHOLD)


def restore_faces(
    networks: Networks,
    faces: list[Face],
    picture: NDArray[np.uint8] | NDArray[np.uint16],
    canvas: NDArray[np.uint8] | NDArray[np.uint16],
    *,
    device: torch.device,
    check: Check,
) -> None:
    """Restores each face of the picture and lays it over the enlarged picture, in place.

    Raises:
        WeightsUnavailable, CorruptModel: the restoring network's file.
    """
    restorer = networks.restorer()
    as_floats = picture.astype(np.float32) / np.float32(np.iinfo(picture.dtype).max)
    for face in faces:
        check()
        crop = np.clip(aligned_crop(as_floats, face.landmarks), 0, 1)
        inputs = torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1))[None]).to(device)
        # In [-1, 1]. The stored noise instead of a fresh one: the same picture gives the same answer.
        restored = restorer(inputs * 2 - 1, return_rgb=False, randomize_noise=False)[0]
        pixels = ((restored[0] + 1) / 2).clamp(0, 1).permute(1, 2, 0).float().cpu().numpy()
        paste_back(canvas, pixels, face.landmarks, Size(*picture.shape[:2]))
