"""The routes that enlarge: A1111's upscalers are realesrgan's networks, and a plain resampling."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

from flask import Response, jsonify
from PIL import Image, ImageOps

from enlight.main_api.adapters.a1111.pictures import image_of, png_text, sent_file
from enlight.main_api.adapters.a1111.schemas import (
    ExtraBatchAnswer,
    ExtraBatchBody,
    ExtrasFields,
    ExtraSingleAnswer,
    ExtraSingleBody,
)
from enlight.main_api.cache.kept_answers import Found
from enlight.main_api.limits.admission import BudgetShare, ByteBudget
from enlight.main_api.upstreams.answers import raise_error_of
from enlight.main_api.upstreams.forwarding import Forwarder, send_with
from enlight.main_api.upstreams.upstream import Upstream
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.images import decode_picture

NONE, LANCZOS, NEAREST = "None", "Lanczos", "Nearest"
NETWORKS = {
    "R-ESRGAN 4x+": "RealESRGAN_x4plus",
    "R-ESRGAN 4x+ Anime6B": "RealESRGAN_x4plus_anime_6B",
    "R-ESRGAN General 4xV3": "realesr-general-x4v3",
    "R-ESRGAN AnimeVideo": "realesr-animevideov3",
    "R-ESRGAN 2x+": "RealESRGAN_x2plus",
}
"""realesrgan's networks by A1111's names of them."""
UPSCALERS = (NONE, LANCZOS, NEAREST, *NETWORKS)
LEAST_PX, MOST_PX = 1024, 8192
"""Of the long side, as realesrgan enlarges; what is to be smaller is brought down afterwards."""
_STEP_PX = 8
"""A1111 cuts sides that it enlarges by a factor to multiples of this."""


@dataclass(frozen=True)
class _Target:
    """Size of the result, and what is cut out of its middle."""

    size: tuple[int, int]
    cut: tuple[int, int] | None


class A1111Upscales:
    """Enlarges pictures.

    Args:
        realesrgan: Whose networks do it.
        forwarder: Asks it.
        budget: Memory for pictures.
    """

    def __init__(self, realesrgan: Upstream, forwarder: Forwarder, budget: ByteBudget) -> None:
        self._realesrgan = realesrgan
        self._forwarder = forwarder
        self._budget = budget

    def single(self, body: ExtraSingleBody) -> Response:
        """One picture. Raises: as `Forwarder.change`; InvalidField for what is not here; what the picture is not."""
        _check(body)
        with self._budget.share() as share, ExitStack() as held:
            found: list[tuple[Found, ExitStack]] = []
            image = self._enlarged(body, body.image, "image", share, held, found)
            return _sent(jsonify(ExtraSingleAnswer(html_info=_html(body), image=image).model_dump()), found)

    def batch(self, body: ExtraBatchBody) -> Response:
        """Several, one after the other. Raises: as `single`."""
        _check(body)
        with self._budget.share() as share, ExitStack() as held:
            found: list[tuple[Found, ExitStack]] = []
            images = [
                self._enlarged(body, each.data, f"imageList[{number}]", share, held, found)
                for number, each in enumerate(body.imageList)
            ]
            return _sent(jsonify(ExtraBatchAnswer(html_info=_html(body), images=images).model_dump()), found)

    def _enlarged(
        self,
        body: ExtrasFields,
        text: str,
        field: str,
        share: BudgetShare,
        held: ExitStack,
        answers: list[tuple[Found, ExitStack]],
    ) -> str:
        data = sent_file(text, field, share)
        picture = image_of(decode_picture(data, field))
        share.take(picture.width * picture.height * 4)
        if body.upscaler_1 == NONE:
            return png_text(picture)
        target = _target(body, picture)
        share.take(target.size[0] * target.size[1] * 4)
        if body.upscaler_1 in NETWORKS:
            options = {
                "model_name": NETWORKS[body.upscaler_1],
                "out_resolution": str(max(LEAST_PX, *target.size)),
                "face_enhance": str(bool(body.gfpgan_visibility)).lower(),
            }
            found, of_answer = self._forwarder.change(
                self._realesrgan, "/v1/upscale", data, content_type="application/octet-stream", options=options
            )
            held.enter_context(of_answer)
            raise_error_of(found.answer)
            answers.append((found, of_answer))
            picture = image_of(decode_picture(bytes(found.answer.body), "picture", max_pixels=MOST_PX * MOST_PX))
        method = Image.Resampling.NEAREST if body.upscaler_1 == NEAREST else Image.Resampling.LANCZOS
        picture = picture if picture.size == target.size else picture.resize(target.size, method)
        return png_text(ImageOps.fit(picture, target.cut) if target.cut else picture)


def _check(body: ExtrasFields) -> None:
    if body.upscaler_1 not in UPSCALERS:
        raise InvalidField.of("upscaler_1", f"is not to be had here; there are {', '.join(UPSCALERS)}")
    if body.gfpgan_visibility and body.upscaler_1 not in NETWORKS:
        raise InvalidField.of("gfpgan_visibility", f"needs upscaler_1 to be one of {', '.join(NETWORKS)}")


def _target(body: ExtrasFields, picture: Image.Image) -> _Target:
    width, height = picture.size
    if body.resize_mode == 0:
        sides = [max(1, int(side * body.upscaling_resize // _STEP_PX * _STEP_PX)) for side in (width, height)]
        cut = None
    else:
        wanted = body.upscaling_resize_w, body.upscaling_resize_h
        factor = max(wanted[0] / width, wanted[1] / height)
        sides = [max(least, round(side * factor)) for least, side in zip(wanted, (width, height), strict=True)]
        cut = wanted if body.upscaling_crop else None
    if max(sides) > MOST_PX:
        field = "upscaling_resize_w" if body.resize_mode else "upscaling_resize"
        raise InvalidField.of(field, f"makes {sides[0]} x {sides[1]} pixels; a side has {MOST_PX} at most")
    return _Target((sides[0], sides[1]), cut)


def _html(body: ExtrasFields) -> str:
    return f"<p>Postprocess upscaler: {body.upscaler_1}</p>"


def _sent(response: Response, found: list[tuple[Found, ExitStack]]) -> Response:
    for each, held in found:
        send_with(response, each, held.pop_all(), tell=True)
    return response
