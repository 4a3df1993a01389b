"""What docs/api.md says of each route: its text, the class of its fields, and how an answer looks."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel

from enlight.bgrem.schemas import CutoutOptions, RembgOptions, RemoveBody
from enlight.dreambooth_api.photo_preflight import WARNING_CODES
from enlight.dreambooth_api.schemas import GenerationBody, InferenceBody, PhotosCheckBody, TrainBody, TrainingBody
from enlight.main_api.keys.routes import KeyBody
from enlight.realesrgan import schemas as realesrgan
from enlight.upsampler import schemas as upsampler


@dataclass(frozen=True)
class Route:
    """One route.

    Attributes:
        name: Method and path.
        text: What it does.
        fields: Of its JSON body, or of its query and form; None where it takes none.
        answer: An example, shortened.
    """

    name: str
    text: str
    fields: type[BaseModel] | None
    answer: str


MAIN_API: tuple[Route, ...] = (
    Route(
        "POST /train, /inference, /remove, /remove-opacity, /upsampler, /realesrgan",
        "The seed's routes under one roof, with the fields and answers of the services below (`/realesrgan` is "
        "realesrgan's `POST /upsampler`). A training goes on when its client leaves, and the same body sent again "
        "joins it. `/v1/generations`, `/v1/photos/check` and `/v1/base-models` are dreambooth-api's, `/v1/cutout` "
        "bgrem's, `/v1/upscale` the upsampler's, `/v1/upscale/realesrgan` realesrgan's `POST /v1/upscale`. Models have "
        "the caller's own names.",
        None,
        "as the service's; `X-Cache: hit` or `miss` where the same body can only give the same answer",
    ),
    Route(
        "POST /v1/trainings",
        "The body is that of dreambooth-api's route, below. Answers 202 once the job is in the database. The header "
        "`Idempotency-Key` makes a repeated request the same job (422 with another body), `X-Webhook-URL` is told the "
        "end. `GET /v1/trainings` lists (`state`, `model_id`, `limit`, `before`), `GET /v1/trainings/<id>` shows, "
        "`/<id>/events` follows as server-sent events `state` and `progress` (resumable by `Last-Event-ID`), "
        "`POST /<id>/cancel` ends it within one step, `DELETE` forgets an ended one. `GET /v1/webhook-secret` shows "
        "what webhooks are signed with.",
        None,
        '{"id": "tr-...", "state": "queued", "model_id": "my-chair", "attempt": 0, "position": 0, ...}',
    ),
    Route(
        "GET /v1/models",
        "The tenant's models in the shape that OpenAI's clients read, `limit` and `after` for pages. "
        "`GET /v1/models/<name>` shows what it was trained on, versions, sizes, last use; `POST /<name>/rename` "
        '(`{"name": "..."}`), `DELETE /<name>`, `GET /<name>/export` (a zip, or `?format=safetensors` of a LoRA) and '
        "`POST /v1/models/import?name=...` with such a file as body.",
        None,
        '{"object": "list", "data": [{"id": "my-chair", "object": "model", "created": 1795397124, ...}]}',
    ),
    Route(
        "POST /v1/keys",
        "Makes a key (scope `admin`); `GET /v1/keys` lists them without their secrets, `POST /v1/keys/<id>/rotate` "
        "renews one, `DELETE /v1/keys/<id>` revokes it. The first key comes from the command line: "
        "[main-api/README.md](../main-api/README.md).",
        KeyBody,
        '{"id": "3f...", "tenant": "my-lab", "scope": "user", "key": "enl_...", ...}',
    ),
)

DREAMBOOTH_API: tuple[Route, ...] = (
    Route(
        "POST /train",
        "Trains and answers when the model is in the bucket and the local copy is gone. A client that leaves cancels "
        "the training; an identical request joins one that runs, and after an interruption goes on from the last "
        "checkpoint.",
        TrainBody,
        '{"message": "Training is done.", "model_id": "Alex-Model-Fun"}',
    ),
    Route(
        "POST /inference",
        "Makes pictures with a trained model.",
        InferenceBody,
        '{"message": "Inference is done.", "images": ["<base64 PNG>", "..."]}',
    ),
    Route(
        "POST /v1/generations",
        "Makes pictures with a trained model or a base model and says what really ran: seed, steps, scheduler, batch, "
        "where the weights were found, seconds queued and run.",
        GenerationBody,
        '{"images": ["<base64>"], "seed": 3, "model_version": "...", "batch_images": 1, "cache_tier": "resident", ...}',
    ),
    Route(
        "POST /v1/trainings",
        "Accepts a training and answers 202 at once. `GET /v1/trainings/<id>` shows it, `GET /v1/trainings` lists "
        "(`?state=running&limit=100`), `GET /v1/trainings/<id>/events` follows it as server-sent events `state` and "
        "`progress` (resumable by `Last-Event-ID`), `POST /v1/trainings/<id>/cancel` ends it within one step. "
        "A `preset` of the base model says what the body leaves out; it goes before the service's settings.",
        TrainingBody,
        '{"id": "tr-...", "state": "queued", "preset": "full", "position": 0, "progress": null, ...}',
    ),
    Route(
        "POST /v1/photos/check",
        "Says before a training what is amiss with the photos; nothing is kept, and what can be trained on is never "
        "refused. Warnings have a stable `code` (" + ", ".join(f"`{code}`" for code in WARNING_CODES) + "), a message "
        "that says what to do, and the photos by their place from 0; every photo repeats the codes that name it. "
        "`POST /v1/trainings` answers and records the same warnings, `POST /train` answers their messages. Blur is "
        "judged at the training's resolution: a large soft photo may be sharp at 64 pixels.",
        PhotosCheckBody,
        '{"ok": false, "base_model": "enlight/pocket", "resolution": 64, "photos": [{"width_px": 256, '
        '"height_px": 256, "warnings": ["blurred"]}, ...], "warnings": [{"code": "blurred", '
        '"message": "photos[0]: blurred, even at ...", "photos": [0]}]}',
    ),
    Route(
        "GET /v1/base-models",
        "Lists the base models that requests may name, whether their weights are on this machine, and their training "
        "presets. Presets are read from `training_presets.json` in a base's folder; `seed`, what `/train` does by "
        "default, is there for every base.",
        None,
        '{"default": "enlight/pocket", "base_models": [{"name": "enlight/pocket", "weights_here": true, '
        '"native_size_px": 64, "recommended_preset": "full", "presets": [{"name": "full", "description": "...", '
        '"parameters": {"max_training_steps": 150, ...}}, ...], ...}, ...]}',
    ),
)

BGREM: tuple[Route, ...] = (
    Route(
        "POST /remove",
        "Puts the picture's subject on white.",
        RemoveBody,
        '{"output_image": "<base64 PNG>"}',
    ),
    Route(
        "POST /remove-opacity",
        "Cuts the picture's subject out: the background is transparent. Colours are those of the picture up to the "
        "edge, and a picture's own transparency stays.",
        RemoveBody,
        '{"output_image": "<base64 PNG with transparency>"}',
    ),
    Route(
        "POST /v1/cutout",
        "The same with every option, bytes in and bytes out: the picture is the body (`image/*` or "
        "`application/octet-stream`), or the file `image` or `file` of a `multipart/form-data` form; options are in "
        "the query or the form.",
        CutoutOptions,
        "the picture",
    ),
    Route(
        "POST /api/remove",
        "As rembg's own server (`rembg s`) has it, so that its clients work: a form with the file `file`, its options "
        "in the query or the form. Nothing is fetched from an address.",
        RembgOptions,
        "the PNG",
    ),
    Route(
        "GET /v1/models",
        "The networks, and which of them have their weights on this machine.",
        None,
        '{"models": [{"name": "u2net", "weights_here": true, "weights_file": "u2net.onnx", ...}, ...]}',
    ),
)

UPSAMPLER: tuple[Route, ...] = (
    Route(
        "POST /upsampler",
        "Enlarges with the Stable Diffusion x4 upscaler; the prompt says what the picture shows. The input is first "
        "brought to a quarter of the resolution.",
        upsampler.UpsamplerBody,
        '{"status": "true", "image": "<base64>", "message": "..."}',
    ),
    Route(
        "POST /v1/upscale",
        "The same with every parameter, bytes in and bytes out: the picture is the body or a form's file, parameters "
        "are in the query or the form.",
        upsampler.UpscaleParameters,
        "the picture",
    ),
    Route("GET /v1/models", "The model, and which of its files are missing.", None, '{"models": [...]}'),
)

REALESRGAN: tuple[Route, ...] = (
    Route(
        "POST /upsampler",
        "Enlarges with Real-ESRGAN: as many passes as the size asks for, then down to it. Transparency and 16 bits are "
        "kept.",
        realesrgan.UpsamplerBody,
        '{"status": "true", "image": "<base64 PNG>", "message": "..."}',
    ),
    Route(
        "POST /v1/upscale",
        "The same, bytes in and bytes out: the picture is the body or a form's file, parameters are in the query or "
        "the form.",
        realesrgan.UpscaleParameters,
        "the picture",
    ),
    Route(
        "GET /v1/models",
        "The networks, and which of them have their weights on this machine.",
        None,
        '{"default": "RealESRGAN_x4plus", "models": [{"name": "RealESRGAN_x4plus", "weights_here": true, ...}, ...]}',
    ),
)
