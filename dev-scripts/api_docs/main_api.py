"""main-api's routes, in the order in which a reader needs them."""

from __future__ import annotations

from api_docs.main_api_a1111 import A1111, REMBG
from api_docs.main_api_models import KEYS, MODELS, USAGE
from api_docs.main_api_openai import OPENAI_IMAGES
from api_docs.main_api_openai_training import OPENAI_TRAINING
from api_docs.main_api_operation import OPERATION
from api_docs.main_api_pictures import GALLERY, PICTURES, SEED_PICTURES
from api_docs.main_api_trainings import TRAIN, TRAININGS
from api_docs.route import Section

MAIN_API = Section(
    "main-api, port 8040",
    "main-api",
    "Everything under one roof: first the six routes whose fields never change, then `/v1`, which can do more. Models "
    "have your own names. Equal requests for a cut-out or an enlarged picture are computed once.",
    (
        TRAIN,
        *SEED_PICTURES,
        *TRAININGS,
        *PICTURES,
        *GALLERY,
        *OPENAI_TRAINING,
        *OPENAI_IMAGES,
        *A1111,
        REMBG,
        *MODELS,
        *KEYS,
        *USAGE,
        *OPERATION,
    ),
)
