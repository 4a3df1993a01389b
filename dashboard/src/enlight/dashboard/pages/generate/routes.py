"""``/generate``: from a model to pictures."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, render_template, request

from enlight.dashboard.main_api.client import current_api
from enlight.dashboard.main_api.relays import EventRelay
from enlight.dashboard.pages.generate import gallery
from enlight.dashboard.pages.generate.api_limits import ApiLimits
from enlight.dashboard.pages.generate.gallery import Filter
from enlight.dashboard.pages.generate.generation_form import generation_body
from enlight.dashboard.pages.generate.model_choice import Chosen, choices, choose
from enlight.dashboard.pages.generate.picture_words import KINDS
from enlight.dashboard.pages.generate.scenes import suggestions
from enlight.dashboard.pages.generate.sizes import sizes
from enlight.servicekit.errors import NotFound

PICTURES_AT_FIRST = 4
_TAKEN_AGAIN = ("prompt", "negative_prompt", "seed", "num_inference_steps", "guidance_scale")


def generate_pages(streams: EventRelay, limits: ApiLimits, *, work_timeout_s: float) -> Blueprint:
    """The pages. ``work_timeout_s``: how long main-api may be silent while it makes pictures."""
    pages = Blueprint("generate", __name__, url_prefix="/generate")

    @pages.get("")
    def show() -> str:
        api, shown = current_api(), Filter.from_query(request.args)
        there = choices(api)
        wanted, missing = request.args.get("model", ""), ""
        try:
            chosen = choose(api, wanted or there.first, there)
        except NotFound:
            missing, chosen = wanted, choose(api, there.first, there)
        again = request.args.get("again", "")
        return render_template(
            "generate/page.html",
            choices=there,
            chosen=chosen,
            missing=missing,
            suggestions=suggestions(chosen.subject),
            sizes=sizes(chosen.base),
            limits=limits.of("PicturesBody"),
            values=_values(gallery.picture(api, again), chosen) if again else {"num_images": PICTURES_AT_FIRST},
            again=again,
            kinds=KINDS,
            shown=shown,
            **gallery.page(api, shown),
        )

    @pages.get("/gallery")
    def show_gallery() -> str:
        """From its begin, or what comes after the picture `before`."""
        shown, before = Filter.from_query(request.args), request.args.get("before", "")
        template = "generate/more_pictures.html" if before else "generate/gallery.html"
        return render_template(template, shown=shown, more=True, **gallery.page(current_api(), shown, before))

    @pages.post("/pictures")
    def make_pictures() -> Response:
        body = json.dumps(generation_body(request.form)).encode()
        return streams.relay("POST", "/v1/pictures", body, silence_s=work_timeout_s)

    return pages


def _values(picture: dict[str, Any], chosen: Chosen) -> dict[str, Any]:
    """What the form is filled with so that ``picture`` is made again."""
    made_with = picture["parameters"]
    values = {name: made_with[name] for name in _TAKEN_AGAIN if made_with.get(name) not in (None, "")}
    if picture["kind"] == "generation":
        values["size"] = f"{picture['width']}x{picture['height']}"
        if values["size"] not in {size.value for size in sizes(chosen.base)}:
            values |= {"size": "other", "width": picture["width"], "height": picture["height"]}
    return {**values, "num_images": 1}
