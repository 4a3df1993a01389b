"""docs/openapi/: each service's ``/openapi.json`` as a file, and what the gateway's takes over from the others'."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flask_openapi import OpenAPI

from enlight.bgrem import app as bgrem
from enlight.bgrem.settings import Settings as BgremSettings
from enlight.dreambooth_api import app as dreambooth_api
from enlight.dreambooth_api.settings import Settings as DreamboothApiSettings
from enlight.main_api import app as main_api
from enlight.main_api.settings import Settings as MainApiSettings
from enlight.main_api.upstreams import picture_document
from enlight.realesrgan import app as realesrgan
from enlight.realesrgan.settings import Settings as RealesrganSettings
from enlight.upsampler import app as upsampler
from enlight.upsampler.settings import Settings as UpsamplerSettings

PARTS = Path(picture_document.__file__).with_name(picture_document.PARTS_FILE)


def openapi_documents(folder: Path) -> dict[Path, str]:
    """What each service's document in ``folder`` must hold, and the file of parts with which the gateway makes its
    own; while that file is old, the gateway's document is not among them."""
    with TemporaryDirectory() as scratch:
        data = Path(scratch)
        documents = {
            "bgrem": _document(bgrem.create_app(BgremSettings(), start=False)),
            "upsampler": _document(upsampler.create_app(UpsamplerSettings(), start=False)),
            "realesrgan": _document(realesrgan.create_app(RealesrganSettings(), start=False)),
            "dreambooth-api": _document(
                dreambooth_api.create_app(DreamboothApiSettings(data_folder=data), start=False)
            ),
        }
        parts = _text(picture_document.parts_of(documents))
        if PARTS.is_file() and PARTS.read_text() == parts:
            documents["main-api"] = _document(main_api.create_app(MainApiSettings(data_folder=data), start=False))
    return {PARTS: parts, **{folder / f"{name}.json": _text(document) for name, document in documents.items()}}


def _document(app: OpenAPI) -> dict[str, Any]:
    logging.disable()
    try:
        answer = app.test_client().get("/openapi.json")
    finally:
        logging.disable(logging.NOTSET)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json or {}
    return document


def _text(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
