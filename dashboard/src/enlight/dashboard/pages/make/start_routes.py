"""The start page: pick, check, name, start. It works without scripts, too, but for the check."""

from __future__ import annotations

import secrets
from typing import Any
from urllib.parse import quote

from flask import Blueprint, jsonify, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from enlight.dashboard.main_api.client import current_api
from enlight.dashboard.pages.make.photo_uploads import MAX_PHOTOS, JsonWithPhotos, PhotoUploads, sent_photos
from enlight.dashboard.pages.make.photo_words import advice_on_number, warnings_in_words
from enlight.dashboard.pages.make.preset_words import RECOMMENDED, find_base_model, preset_choices
from enlight.dashboard.pages.make.recent_trainings import recent_trainings
from enlight.dashboard.pages.make.start_form import start_key, training_fields
from enlight.dashboard.pages.make.subjects import instance_prompt, model_name
from enlight.dashboard.security.guard import require_token, wants_page
from enlight.servicekit.errors import CapacityError, DependencyError, NotFound


def add_start_routes(pages: Blueprint, uploads: PhotoUploads) -> None:
    """``/make`` and what its form asks on the way."""

    @pages.get("")
    def show() -> str:
        return render_template(
            "make/page.html",
            **_offered(""),
            **recent_trainings(),
            start_key=secrets.token_hex(16),
            max_photos=MAX_PHOTOS,
            max_photo_bytes=uploads.max_photo_bytes,
        )

    @pages.get("/presets")
    def presets() -> str:
        return render_template("make/presets.html", **_offered(request.args.get("base_model", "")))

    @pages.get("/name")
    def name() -> str:
        typed = request.args.get("subject_name", "")[:200]
        found = model_name(typed)
        return render_template("make/name.html", typed=typed, name=found, taken=bool(found) and _is_taken(found))

    @pages.get("/prompt")
    def prompt() -> str:
        return render_template("make/prompt.html", prompt=instance_prompt(request.args.get("subject_kind", "")[:200]))

    @pages.post("/photos/check")
    def check() -> Response:
        with uploads.place():
            photos = sent_photos()
            fields = {"base_model": request.form["base_model"]} if request.form.get("base_model") else {}
            body = JsonWithPhotos(fields, photos)
            answer = current_api().post_stream("/v1/photos/check", body, body.length_bytes)
        return jsonify({"advice": advice_on_number(len(photos)), "warnings": warnings_in_words(answer["warnings"])})

    @pages.post("")
    def start() -> Response | tuple[Response, int]:
        with uploads.place():
            require_token(request.headers.get("X-CSRF-Token") or request.form.get("csrf_token", ""))
            body = JsonWithPhotos(training_fields(request.form), sent_photos())
            training = current_api().post_stream(
                "/v1/trainings", body, body.length_bytes, headers={"Idempotency-Key": start_key(request.form)}
            )
        address = url_for("make.training", training_id=training["id"])
        return redirect(address, 303) if wants_page() else (jsonify({"address": address}), 202)


def _offered(base_model: str) -> dict[str, Any]:
    """What the page offers to train from."""
    try:
        known = current_api().get("/v1/base-models")
    except (CapacityError, DependencyError):  # while it starts, what is recommended can be had all the same
        return {"base_models": [], "chosen": None, "presets": [RECOMMENDED]}
    chosen = find_base_model(known, base_model)
    return {"base_models": known["base_models"], "chosen": chosen, "presets": preset_choices(chosen)}


def _is_taken(name: str) -> bool:
    try:
        current_api().get(f"/v1/models/{quote(name, safe='')}")
    except NotFound:
        return False
    return True
