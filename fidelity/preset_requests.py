"""Training requests of the base's named presets, made by the service's own checks from the body a caller would send."""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path

from benchmark import BASE_NAME, MODELS_FOLDER
from PIL import Image
from prompts import instance_prompt
from protocol import seed_for

from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.dreambooth_api.requests import TrainingRequest
from enlight.dreambooth_api.schemas import TrainingBody
from enlight.dreambooth_api.settings import Settings
from enlight.dreambooth_api.training_requests import TrainingChecker
from enlight.models.subjects import subject_named


def preset_request(preset: str, subject: str) -> TrainingRequest:
    """What the service would train for this subject with this preset; without photos, which the job takes itself.

    Raises:
        InvalidField: the base has no such preset; the message lists those that it has.
        InternalError: the file of the base's presets is broken.
    """
    catalogue = BaseCatalogue(MODELS_FOLDER)
    settings = Settings(
        data_folder=Path(tempfile.gettempdir()), models_folder=MODELS_FOLDER, default_base_model=BASE_NAME
    )
    body = TrainingBody(
        model_id="fidelity",
        instance_prompt=instance_prompt(subject_named(subject)),
        photos=[_any_photo()],
        preset=preset,
        seed=seed_for("training", subject),
    )
    return TrainingChecker(settings, catalogue).from_training_body(body).request


def _any_photo() -> str:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "gray").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
