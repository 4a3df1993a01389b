"""One picture cut out: a file in, a file out. Runs in the worker."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import cast

import cv2
import numpy as np

from enlight.bgrem.networks import Network, Networks
from enlight.bgrem.pure.composites import Pixels, on_colour, transparent
from enlight.bgrem.pure.masks import ALL_GARMENTS, garment_masks, multiplied, saliency_mask, smoothed
from enlight.bgrem.pure.network_input import network_input
from enlight.bgrem.requests import CutoutRequest, CutoutResult
from enlight.servicekit.errors import ImageTooLarge
from enlight.servicekit.images import Picture, decode_picture, encode_jpeg, encode_webp
from enlight.servicekit.measurements import Stage, unmeasured
from enlight.servicekit.parallel_png import encode_png_rows
from enlight.servicekit.picture_rows import Rows, rows_of
from enlight.servicekit.strips import Strips

_MAX_SIDE_PX = {"png": 2**31 - 1, "jpeg": 65535, "webp": 16383}
"""What the formats can hold."""
MATTING_CHECK_S = 0.5
"""How often a request that is being matted, which takes seconds, asks whether it is still wanted."""


class Cutouts:
    """Cuts subjects out of pictures; may be used from several threads at once.

    Args:
        networks: Where the masks come from.
        strips: The threads for everything else.
        max_matting_pixels: Largest picture for alpha matting.
        matting: The one thread that solves mattings, where several share it.
    """

    def __init__(
        self,
        networks: Networks,
        strips: Strips,
        *,
        max_matting_pixels: int,
        matting: ThreadPoolExecutor | None = None,
    ) -> None:
        self._networks = networks
        self._strips = strips
        self._max_matting_pixels = max_matting_pixels
        # One at a time: it is the memory that it needs.
        self._matting = matting or ThreadPoolExecutor(1, thread_name_prefix="matting")

    def cut_out(
        self, request: CutoutRequest, check: Callable[[], None] = lambda: None, stage: Stage = unmeasured
    ) -> CutoutResult:
        """The answer to ``request``; ``check`` is called between steps and may raise, ``stage`` measures them.

        Raises:
            UnsupportedImage, BrokenImage, ImageTooLarge: what came is no picture that is read, or too large a one.
            WeightsUnavailable, CorruptModel: the network cannot be had.
        """
        with stage("decode"):
            picture = decode_picture(request.data, request.field)
        if request.matting is not None:
            self._check_matting(picture, request.field)
        colour, own_alpha = cast(Pixels, picture.colour), cast(Pixels | None, picture.alpha)
        check()
        with stage("run"):
            masks = self._masks(colour, self._networks.get(request.model, threads=self._strips.threads), request)
            check()
            answers = [self._answer(colour, own_alpha, mask, request, check) for mask in masks]
        check()
        with stage("encode"):
            return self._encoded(answers[0] if len(answers) == 1 else self._stacked(answers), request)

    def _check_matting(self, picture: Picture, field: str) -> None:
        if picture.width_px * picture.height_px > self._max_matting_pixels:
            raise ImageTooLarge(
                f"{field} has {picture.width_px} x {picture.height_px} pixels; alpha matting takes at most "
                f"{self._max_matting_pixels / 1e6:g} megapixels.",
                details={"field": field},
            )

    def _masks(self, colour: Pixels, network: Network, request: CutoutRequest) -> list[Pixels]:
        height, width = colour.shape[:2]
        prediction = network.predict(network_input(colour, network.model.input_px, self._strips))
        if network.model.classes > 1:
            garments = ALL_GARMENTS if request.garment is None else (request.garment,)
            masks = garment_masks(prediction, garments, width, height, self._strips)
        else:
            masks = [saliency_mask(prediction[0], width, height, self._strips)]
        return [smoothed(mask) for mask in masks] if request.smooth_mask else masks

    def _answer(
        self,
        colour: Pixels,
        own_alpha: Pixels | None,
        mask: Pixels,
        request: CutoutRequest,
        check: Callable[[], None],
    ) -> Rows:
        if request.only_mask:
            return rows_of(mask)
        colour, alpha = self._layers(colour, mask, request, check)
        if own_alpha is not None:
            alpha = multiplied(alpha, own_alpha)
        if request.background is None:
            return transparent(colour, alpha)
        return on_colour(colour, alpha, request.background, keep_alpha=request.keep_alpha)

    def _stacked(self, answers: list[Rows]) -> Rows:
        return rows_of(np.concatenate([answer.whole(self._strips) for answer in answers]))

    def _layers(
        self, colour: Pixels, mask: Pixels, request: CutoutRequest, check: Callable[[], None]
    ) -> tuple[Pixels, Pixels]:
        if request.matting is None and not request.unmix_edges:
            return colour, mask
        # Here, because it compiles itself when it is imported, which takes seconds that most workers never need.
        from enlight.bgrem.matting import matted, unmixed

        if request.matting is None:
            future = self._matting.submit(unmixed, colour, mask)
        else:
            future = self._matting.submit(matted, colour, mask, request.matting)
        try:
            while not wait([future], MATTING_CHECK_S).done:
                check()
        finally:
            future.cancel()
        return future.result()

    def _encoded(self, answer: Rows, request: CutoutRequest) -> CutoutResult:
        width, height = answer.width_px, answer.height_px
        if max(height, width) > _MAX_SIDE_PX[request.image_format]:
            raise ImageTooLarge(
                f"The answer to {request.field} has {width} x {height} pixels; {request.image_format} ends at "
                f"{_MAX_SIDE_PX[request.image_format]} on a side.",
                details={"field": request.field},
            )
        match request.image_format:
            case "png":
                data = encode_png_rows(answer, self._strips)
            case "webp":
                pixels = answer.whole(self._strips)
                coloured = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if answer.channels == 1 else pixels
                data = encode_webp(cast(Pixels, coloured), request.quality)
            case "jpeg":
                data = encode_jpeg(answer.whole(self._strips), request.quality)
        return CutoutResult(data, f"image/{request.image_format}", width, height)
