"""``/run/import-model``: a model's file on its way from a browser to main-api, handed on as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, render_template, request

from enlight.dashboard.main_api.client import current_api
from enlight.dashboard.pages.make.photo_uploads import PhotoUploads
from enlight.servicekit.errors import InvalidRequest

IMPORT_RULE = "/run/import-model"
PIECE_BYTES = 256 << 10
_QUERY = ("name", "base_model", "instance_prompt")


def add_model_import(pages: Blueprint, uploads: PhotoUploads) -> None:
    """The form, and where it goes."""

    @pages.get("/import-model")
    def ask_for_file() -> str:
        known = current_api().get("/v1/base-models")
        return render_template("run/model_import.html", base_models=known["base_models"], default=known["default"])

    @pages.post("/import-model")
    def import_model() -> dict[str, Any]:
        length_bytes = request.content_length
        if length_bytes is None:
            raise InvalidRequest("Send the file with its Content-Length.")
        query = {name: value for name in _QUERY if (value := request.args.get(name, "").strip())}
        with uploads.place():
            imported = current_api().post_stream(
                f"/v1/models/import?{urlencode(query)}",
                _pieces(),
                length_bytes,
                headers={"Content-Type": "application/octet-stream"},
            )
        return {"message": f"{imported['id']} is here."}


def _pieces() -> Iterator[bytes]:
    while piece := request.stream.read(PIECE_BYTES):
        yield piece
