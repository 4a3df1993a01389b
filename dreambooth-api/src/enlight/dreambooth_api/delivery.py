"""From pixels to the answer: encodes pictures in a pool of threads while the GPU makes the next ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from enlight.dreambooth_api.engine_metrics import GENERATION, LOOKUPS
from enlight.dreambooth_api.generation import Generation, Row
from enlight.dreambooth_api.init_images import put_back
from enlight.servicekit.child import ChildChannel
from enlight.servicekit.images import encode_jpeg, encode_png, encode_webp
from enlight.servicekit.measurements import PICTURES, STAGE_DURATION, Measurements

logger = logging.getLogger(__name__)

ENCODERS: dict[str, Callable[[NDArray[Any]], bytes]] = {
    "png": encode_png,
    "jpeg": encode_jpeg,
    "webp": encode_webp,
}


class Delivery:
    """Answers tasks: with all pictures once the last one is encoded, or with an error.

    Args:
        channel: To the parent.
        encoder_threads: Pictures that are encoded at once.
        measurements: Gets how long that took, and what an answered request was made with.
    """

    def __init__(self, channel: ChildChannel, encoder_threads: int, measurements: Measurements | None = None) -> None:
        self._channel = channel
        self._measurements = measurements or Measurements()
        self._pool = ThreadPoolExecutor(encoder_threads, thread_name_prefix="encoder")

    def deliver(self, rows: list[Row], pictures: NDArray[np.uint8], batch_images: int) -> None:
        """Takes the pictures (B, H, W, 3) that are left of a batch of ``batch_images``; returns at once."""
        for row in rows:
            row.generation.denoised(batch_images)
        for row, picture in zip(rows, pictures, strict=True):
            self._pool.submit(self._encode, row, picture)

    def fail(self, generation: Generation, error: BaseException) -> None:
        """Answers with an error, unless it was answered already."""
        if generation.close():
            with generation.task.log_context():
                self._channel.fail(generation.task.id, error)

    def stop(self) -> None:
        """Waits until every picture that was made is encoded and answered: a device that failed since does not
        take finished pictures with it."""
        self._pool.shutdown(wait=True)

    def _encode(self, row: Row, picture: NDArray[np.uint8]) -> None:
        generation = row.generation
        if generation.closed:
            return
        try:
            assert generation.admitted is not None
            whole = put_back(generation.admitted.init_image, picture)
            with self._measurements.stage(GENERATION, "encode"):
                encoded = ENCODERS[generation.request.image_format](whole)
            if generation.add_image(row.image, encoded) and generation.close():
                self._answer(generation)
        except Exception as error:  # noqa: BLE001 - the task must be answered whatever went wrong
            self.fail(generation, error)

    def _answer(self, generation: Generation) -> None:
        result = generation.result()
        self._measurements.add(STAGE_DURATION, result.queued_s, GENERATION, "queued")
        self._measurements.add(LOOKUPS, 1, result.cache_tier)
        self._measurements.add(PICTURES, len(result.images), GENERATION)
        self._channel.result(generation.task.id, result)
        with generation.task.log_context():
            logger.info(
                "generated %d images of %s (%s) in %.3f s, %.3f s in the queue, batch of %d, weights from %s",
                len(result.images),
                result.model_id,
                result.model_version or "base",
                result.run_s,
                result.queued_s,
                result.batch_images,
                result.cache_tier,
            )
