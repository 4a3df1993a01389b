"""``/pictures``: one picture as large as it fits, and what is done with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from flask import Blueprint, Response, jsonify, render_template, request

from enlight.dashboard.main_api.client import current_api
from enlight.dashboard.main_api.relays import relay_picture
from enlight.dashboard.pages.generate import gallery
from enlight.dashboard.pages.generate.api_limits import ApiLimits, FieldLimits
from enlight.dashboard.pages.generate.gallery import Filter
from enlight.dashboard.pages.generate.picture_words import KINDS, NETWORKS, caption, facts
from enlight.servicekit.errors import InvalidField

_LONG_SIDES_PX = (1024, 2048, 4096, 8192)
_FAR_ENOUGH = 2
"""An enlargement that is worth its time is at least so many times as large."""


def picture_pages(limits: ApiLimits) -> Blueprint:
    """The pages, and the files that they show."""
    pages = Blueprint("pictures", __name__, url_prefix="/pictures")

    @pages.app_template_filter("caption")
    def in_one_line(picture: Mapping[str, Any]) -> str:
        return caption(picture)

    @pages.get("/<picture_id>")
    def show(picture_id: str) -> str:
        return shown_by("generate/picture.html", picture_id)

    @pages.get("/<picture_id>/view")
    def show_above(picture_id: str) -> str:
        """The same without its page: for one that is open."""
        return shown_by("generate/viewed.html", picture_id)

    @pages.get("/<picture_id>/tile")
    def tile(picture_id: str) -> str:
        """As it is in the gallery."""
        picture, shown = gallery.picture(current_api(), picture_id), Filter.from_query(request.args)
        return render_template("generate/more_pictures.html", shown=shown, pictures=[picture], next=None, more=False)

    def shown_by(template: str, picture_id: str) -> str:
        api, shown = current_api(), Filter.from_query(request.args)
        picture = gallery.picture(api, picture_id)
        larger = _larger(picture, limits.of("KeptUpscaleBody")["out_resolution"])
        return render_template(
            template,
            picture=picture,
            shown=shown,
            facts=facts(picture),
            larger=larger,
            wanted=_wanted(picture, larger),
            networks=NETWORKS,
            kinds=KINDS,
            around=gallery.surroundings(api, picture, shown),
        )

    @pages.get("/<picture_id>/file")
    def file(picture_id: str) -> Response:
        download = "true" if "download" in request.args else None
        return relay_picture(_address(picture_id, "file"), {"download": download})

    @pages.get("/<picture_id>/thumbnail")
    def thumbnail(picture_id: str) -> Response:
        return relay_picture(_address(picture_id, "thumbnail"))

    @pages.get("/<picture_id>/made")
    def made_of_it(picture_id: str) -> Response:
        """What there is of it so far: for a page that was left while something was made."""
        kind = Filter.from_query(request.args).kind
        return jsonify(gallery.made_of(current_api(), picture_id, kind))

    @pages.post("/<picture_id>/cutout")
    def cut_out(picture_id: str) -> Response:
        return jsonify(current_api().post(_address(picture_id, "cutout"), {}))

    @pages.post("/<picture_id>/upscale")
    def enlarge(picture_id: str) -> Response:
        wanted = request.form.get("out_resolution", "")
        if not wanted.isascii() or not wanted.isdecimal() or len(wanted) > 6:
            raise InvalidField.of("out_resolution", "must be a whole number")
        body: dict[str, object] = {"out_resolution": int(wanted)}
        if network := request.form.get("model_name", ""):
            body["model_name"] = network
        return jsonify(current_api().post(_address(picture_id, "upscale"), body))

    @pages.delete("/<picture_id>")
    def remove(picture_id: str) -> Response:
        current_api().delete(_address(picture_id))
        return Response(status=204)

    return pages


def _address(picture_id: str, *more: str) -> str:
    return "/".join(("/v1/pictures", quote(picture_id, safe=""), *more))


def _larger(picture: Mapping[str, Any], allowed: FieldLimits) -> list[int]:
    """Long sides that the picture can be enlarged to."""
    least = max(allowed.minimum or 0, max(picture["width"], picture["height"]) + 1)
    return [side for side in _LONG_SIDES_PX if least <= side <= (allowed.maximum or side)]


def _wanted(picture: Mapping[str, Any], larger: list[int]) -> int | None:
    """The one to begin with."""
    worth_it = [side for side in larger if side >= _FAR_ENOUGH * max(picture["width"], picture["height"])]
    return next(iter(worth_it or larger), None)
