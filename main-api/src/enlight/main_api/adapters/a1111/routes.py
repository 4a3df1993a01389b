"""``/sdapi/v1``: what clients of AUTOMATIC1111's web UI ask. Views only translate."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Response, jsonify
from flask_openapi import APIBlueprint, Tag
from flask_openapi.types import ResponseDict

from enlight.main_api.adapters.a1111 import lists
from enlight.main_api.adapters.a1111.checkpoints import Checkpoints
from enlight.main_api.adapters.a1111.errors import a1111_error_body
from enlight.main_api.adapters.a1111.generations import A1111Generations
from enlight.main_api.adapters.a1111.lists import (
    FaceRestorer,
    Lora,
    RealesrganModel,
    Sampler,
    Scheduler,
    SdModel,
    Upscaler,
    constant_answer,
    list_answer,
)
from enlight.main_api.adapters.a1111.running import RunningRequests
from enlight.main_api.adapters.a1111.schemas import (
    ChosenOptions,
    ExtraBatchAnswer,
    ExtraBatchBody,
    ExtraSingleAnswer,
    ExtraSingleBody,
    ImageToImageBody,
    Options,
    PicturesAnswer,
    ProgressAnswer,
    ProgressQuery,
    TextToImageBody,
)
from enlight.main_api.adapters.a1111.upscales import A1111Upscales
from enlight.main_api.keys.authentication import current_caller
from enlight.servicekit.http_errors import answer_error
from enlight.servicekit.schemas import ErrorBody

PREFIX = "/sdapi/v1"
PICTURE_RULES = tuple(f"{PREFIX}/{name}" for name in ("img2img", "extra-single-image", "extra-batch-images"))
"""Routes that take pictures."""
GPU_RULES = (f"{PREFIX}/txt2img", *PICTURE_RULES)

_BEHIND: ResponseDict = {str(status): ErrorBody for status in (502, 504)}
_NO_MODEL: ResponseDict = {"404": ErrorBody}
_A1111 = Tag(name="a1111", description="As AUTOMATIC1111's Stable Diffusion web UI.")


def a1111_picture_routes(generations: A1111Generations, upscales: A1111Upscales) -> APIBlueprint:
    """Those that give pictures."""
    routes = _blueprint("a1111_pictures", _BEHIND)

    @routes.post("/txt2img", summary="Generate pictures", responses={"200": PicturesAnswer, **_NO_MODEL})
    def txt2img(body: TextToImageBody) -> Response:
        """Makes pictures with the model that the prompt, `override_settings` or `POST /sdapi/v1/options` picks; with a
        `seed`, equal requests are computed once."""
        return generations.text_to_image(body)

    @routes.post("/img2img", summary="Paint over a picture", responses={"200": PicturesAnswer, **_NO_MODEL})
    def img2img(body: ImageToImageBody) -> Response:
        """Makes pictures from a picture, or from the part of it that the mask shows."""
        return generations.image_to_image(body)

    @routes.post("/extra-single-image", summary="Enlarge a picture", responses={"200": ExtraSingleAnswer})
    def extra_single_image(body: ExtraSingleBody) -> Response:
        """Enlarges by Real-ESRGAN or by resampling; equal requests are computed once."""
        return upscales.single(body)

    @routes.post("/extra-batch-images", summary="Enlarge pictures", responses={"200": ExtraBatchAnswer})
    def extra_batch_images(body: ExtraBatchBody) -> Response:
        """The same with several, one after the other."""
        return upscales.batch(body)

    return routes


def a1111_routes(checkpoints: Checkpoints, running: RunningRequests) -> APIBlueprint:
    """Those that tell what there is and what is under way, and that choose."""
    routes = _blueprint("a1111", {})

    @routes.get("/sd-models", summary="List checkpoints", responses=list_answer(SdModel))
    def list_sd_models() -> list[dict[str, Any]]:
        """Base models, and the trained models of the tenant."""
        return lists.sd_models([*checkpoints.bases(), *checkpoints.trained(current_caller())])

    @routes.get("/loras", summary="List LoRAs", responses=list_answer(Lora))
    def list_loras() -> list[dict[str, Any]]:
        """The trained models of the tenant, for `<lora:name:1>` in a prompt."""
        return lists.loras(list(checkpoints.trained(current_caller())))

    @routes.get("/samplers", summary="List samplers", responses=list_answer(Sampler))
    def list_samplers() -> list[dict[str, Any]]:
        """One, with the names that requests may give it."""
        return lists.samplers()

    @routes.get("/schedulers", summary="List schedulers", responses=list_answer(Scheduler))
    def list_schedulers() -> list[dict[str, Any]]:
        """One; requests may name any."""
        return lists.schedulers()

    @routes.get("/upscalers", summary="List upscalers", responses=list_answer(Upscaler))
    def list_upscalers() -> list[dict[str, Any]]:
        """What `upscaler_1` may be."""
        return lists.upscalers()

    @routes.get("/realesrgan-models", summary="List Real-ESRGAN networks", responses=list_answer(RealesrganModel))
    def list_realesrgan_models() -> list[dict[str, Any]]:
        """Those among the upscalers."""
        return lists.realesrgan_models()

    @routes.get("/face-restorers", summary="List face restorers", responses=list_answer(FaceRestorer))
    def list_face_restorers() -> list[dict[str, Any]]:
        """That of `gfpgan_visibility`."""
        return lists.face_restorers()

    for name, (why, value) in lists.NOTHING.items():
        _add_constant(routes, name, why, value)

    @routes.get("/options", summary="Show options", responses={"200": ChosenOptions})
    def show_options() -> dict[str, Any]:
        """The model of the key's requests that name none."""
        return ChosenOptions(sd_model_checkpoint=checkpoints.current(current_caller())).model_dump()

    @routes.post("/options", summary="Choose a model", responses={**constant_answer(None), **_NO_MODEL})
    def set_options(body: Options) -> Response:
        """The model of this key's later requests; each key has its own choice."""
        if body.sd_model_checkpoint is not None:
            checkpoints.choose(current_caller(), body.sd_model_checkpoint)
        return jsonify(None)

    @routes.get("/progress", summary="Show progress", responses={"200": ProgressAnswer})
    def show_progress(query: ProgressQuery) -> dict[str, Any]:
        """Of the key's requests that this process of the gateway has under way."""
        return running.progress(current_caller().key_id).model_dump()

    @routes.post("/interrupt", summary="Begin no further batch", responses=constant_answer({}))
    def interrupt() -> dict[str, Any]:
        """The key's requests end with the batch that is being made; its pictures, and those before, are answered. A
        client that hangs up ends its request at once."""
        running.interrupt(current_caller().key_id)
        return {}

    @routes.post("/skip", summary="Begin no further batch, as interrupt", responses=constant_answer(None))
    def skip() -> Response:
        """A1111 would leave out the batch that is being made; here it is finished."""
        running.interrupt(current_caller().key_id)
        return jsonify(None)

    @routes.post("/refresh-checkpoints", summary="Nothing to do", responses=constant_answer(None))
    def refresh_checkpoints() -> Response:
        """The list of models is always new."""
        return jsonify(None)

    return routes


def _blueprint(name: str, responses: ResponseDict) -> APIBlueprint:
    routes = APIBlueprint(name, __name__, url_prefix=PREFIX, abp_tags=[_A1111], abp_responses=responses)
    routes.register_error_handler(Exception, partial(answer_error, more={}, shape=a1111_error_body))
    return routes


def _add_constant(routes: APIBlueprint, name: str, why: str, value: object) -> None:
    def answer() -> Response:
        return jsonify(value)

    answer.__name__ = f"show_{name.replace('-', '_')}"
    summary = f"Show {name.replace('-', ' ')}"
    routes.get(f"/{name}", summary=summary, description=f"{why}.", responses=constant_answer(value))(answer)
