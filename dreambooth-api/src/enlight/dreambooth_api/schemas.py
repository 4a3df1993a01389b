"""Bodies of the HTTP routes: the seed's exact fields, and ``/v1``'s. JSON types are strict, unknown fields an error.

The maps from a body to the records that the engine and the trainer take are beside the bodies, so that every default
and range is read in one place.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from enlight.dreambooth_api.lr_schedules import LR_SCHEDULERS
from enlight.dreambooth_api.photo_preflight import WarningCode
from enlight.dreambooth_api.requests import ImageFormat, TrainingKind
from enlight.servicekit.schemas import TEXT_PATTERN, WORDS_PATTERN, Answer, Base64, StrictModel

SEED_LIMIT = 2**63
"""Seeds are below this; image i of a request uses ``seed + i``."""
MAX_PHOTOS = 50
MODEL_ID_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


def _model_id(value: str) -> str:
    # fullmatch, because `$` would let a trailing newline through.
    if not re.fullmatch(MODEL_ID_PATTERN, value):
        raise PydanticCustomError(
            "model_id", "must be 1 to 64 letters, digits, '.', '_' or '-', and start with a letter or digit"
        )
    return value


def _prompt(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("prompt", "must not hold a NUL character")
    if not value.strip():
        raise PydanticCustomError("prompt", "must not be empty")
    return value


def _text(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("text", "must not hold a NUL character")
    return value


def _lr_scheduler(value: str) -> str:
    if value not in LR_SCHEDULERS:
        raise PydanticCustomError("lr_scheduler", f"must be one of {', '.join(LR_SCHEDULERS)}")
    return value


ModelId = Annotated[
    str,
    AfterValidator(_model_id),
    Field(examples=["Alex-Model-Fun"], json_schema_extra={"pattern": f"^{MODEL_ID_PATTERN}$"}),
]
Prompt = Annotated[
    str,
    AfterValidator(_prompt),
    StringConstraints(max_length=100_000),
    Field(json_schema_extra={"pattern": WORDS_PATTERN}),
]
Text = Annotated[
    str,
    AfterValidator(_text),
    StringConstraints(max_length=100_000),
    Field(json_schema_extra={"pattern": TEXT_PATTERN}),
]
LrScheduler = Annotated[
    str,
    AfterValidator(_lr_scheduler),
    Field(json_schema_extra={"enum": list(LR_SCHEDULERS)}),
]
Seed = Annotated[int, Field(ge=0, lt=SEED_LIMIT)]
Photos = Annotated[
    list[Base64],
    Field(
        min_length=1,
        max_length=MAX_PHOTOS,
        description="1 to 50 photos of the subject (5 to 20 are best), base64.",
    ),
]
Steps = Annotated[int, Field(ge=1, le=100_000)]
ResolutionPx = Annotated[int, Field(ge=8, le=4096)]
BatchSize = Annotated[int, Field(ge=1, le=64)]
# The lower bound keeps 1e-400, which JSON reads as zero, from training nothing.
LearningRate = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
WarmupSteps = Annotated[int, Field(ge=0, le=100_000)]
Accumulation = Annotated[int, Field(ge=1, le=128)]
Port = Annotated[int, Field(ge=1024, le=65535)]


class TrainBody(StrictModel):
    """``POST /train``: the seed's fields."""

    INSTANCE_PROMPT: Prompt = Field(
        description="Names the subject by a rare word, as in `a sks chair`.", examples=["a sks chair"]
    )
    OUTPUT_DIR: ModelId = Field(description="Name of the trained model.")
    IMAGE_LIST: Photos
    MODEL_NAME: str | None = Field(
        None,
        description="Base model; omitted: the service's default.",
        examples=["stabilityai/stable-diffusion-2"],
    )
    MAX_TRAINING_STEPS: Steps = Field(400, description="Updates of the weights.")
    RESOLUTION: ResolutionPx | None = Field(
        None, description="Omitted: the base model's native resolution (768 for Stable Diffusion 2)."
    )
    TRAIN_BATCH_SIZE: BatchSize = Field(1, description="Photos in a batch.")
    LR: LearningRate = Field(2e-6, description="Learning rate.")
    LR_SCHEDULER: LrScheduler = Field("constant", description="How the learning rate goes on.")
    LR_WARMUP_STEPS: WarmupSteps = Field(0, description="Updates in which it rises from 0, where the scheduler has it.")
    MAIN_PROCESS_POR: Port | None = Field(
        None, description="Accepted for older clients (default 28900) and not used: a training needs no port."
    )
    MAIN_PROCESS_PORT: Port | None = Field(None, description="The same, spelt in full.")
    GRADIENT_ACCUMULATION_STEPS: Accumulation = Field(1, description="Batches that make one update.")

    @model_validator(mode="after")
    def _one_port(self) -> TrainBody:
        ports = {self.MAIN_PROCESS_POR, self.MAIN_PROCESS_PORT} - {None}
        if len(ports) > 1:
            raise PydanticCustomError("port", "MAIN_PROCESS_POR and MAIN_PROCESS_PORT name different ports")
        return self


class TrainAnswer(Answer):
    """Answer of ``POST /train``."""

    message: Literal["Training is done."] = "Training is done."
    model_id: str
    warnings: list[str] | None = Field(None, description="Only there when something about the photos deserves a word.")


class InferenceBody(StrictModel):
    """``POST /inference``: the seed's fields."""

    prompt: Prompt = Field(
        description="What the pictures show; the subject by the words that it was trained with.",
        examples=["A sks chair on the beach"],
    )
    model_id: ModelId = Field(description="A trained model.")
    size: ResolutionPx | None = Field(
        None,
        description="Width and height; omitted: the base model's native size (768 for Stable Diffusion 2).",
    )
    num_image: Annotated[int, Field(ge=1, le=1000)] = Field(10, description="Pictures, as many as the service allows.")


class InferenceAnswer(Answer):
    """Answer of ``POST /inference``."""

    message: Literal["Inference is done."] = "Inference is done."
    images: list[Base64] = Field(description="base64 PNG pictures.")


class GenerationBody(StrictModel):
    """``POST /v1/generations``."""

    model_id: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="A trained model, or a base model's name such as `enlight/pocket`.",
        examples=["Alex-Model-Fun"],
    )
    prompt: Prompt = Field(
        description="What the pictures show; the subject by the words that it was trained with.",
        examples=["a sks chair on the beach"],
    )
    negative_prompt: Text = Field("", description="What they should not show.")
    num_images: Annotated[int, Field(ge=1, le=1000)] = Field(1, description="Pictures, as many as the service allows.")
    width: ResolutionPx | None = Field(
        None, description="Omitted: the base model's native size; with `image` the picture's, within the base's limits."
    )
    height: ResolutionPx | None = Field(
        None, description="The same. With `image` and both, the picture is scaled to cover them and cut to its middle."
    )
    image: Base64 | None = Field(
        None,
        description="A picture to begin from, base64 (PNG, JPEG, WebP, HEIC), transparency on white. Alone: all of it "
        "is painted over (img2img).",
    )
    mask: Base64 | None = Field(
        None,
        description="A picture of the size of `image`: white (or transparent) where that is painted anew, black where "
        "it stays (inpainting).",
    )
    strength: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = Field(
        None,
        description="Part of the steps that is run from `image`: the more, the less of it stays. Omitted: 0.8, with "
        "`mask` 1.0.",
    )
    keep_unmasked: bool = Field(
        default=True,
        description="Whether the pixels of `image` are put back where `mask` is black; false: as they came out.",
    )
    seed: Seed | None = Field(None, description="Image i uses seed + i; omitted: a random one, told in the answer.")
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="Omitted: 50 for Stable Diffusion, 25 for the pocket base."
    )
    guidance_scale: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = Field(
        7.5, description="How closely the prompts are followed; 1 or less: without the negative prompt."
    )
    format: ImageFormat = Field("png", description="Of the pictures' files.")


class GenerationAnswer(Answer):
    """Answer of ``POST /v1/generations``: the pictures and what really ran."""

    images: list[Base64] = Field(description="base64 pictures.")
    format: ImageFormat
    model_id: str
    model_version: str | None = Field(description="Null for a base model.")
    base_model: str
    seed: int = Field(description="Of the first picture.")
    num_inference_steps: int = Field(description="As asked for; from an `image` only their `strength` is run.")
    strength: float | None = Field(None, description="Null: it began from noise.")
    guidance_scale: float
    scheduler: str
    width: int
    height: int
    batch_images: int = Field(description="Images in the largest batch that this request took part in.")
    cache_tier: str = Field(description="Where the model's weights were found: resident, gpu, host, disk or bucket.")
    queued_s: float = Field(description="Time that the request waited.")
    run_s: float = Field(description="Time that it was worked on.")


_SEED_BODY = TrainBody.model_construct(INSTANCE_PROMPT="", OUTPUT_DIR="", IMAGE_LIST=[])
"""A body of ``/train`` that says nothing: where the seed's defaults are read."""


def _without_preset(default: object) -> str:
    return f"Omitted: the preset's; without a preset `{default}`."


_AS_SET = "Omitted: the preset's; without a preset as the service is set."


class TrainingParameters(StrictModel):
    """What a training preset may hold and a caller may say instead; None: not said here."""

    max_training_steps: Steps | None = Field(None, description=_without_preset(_SEED_BODY.MAX_TRAINING_STEPS))
    train_batch_size: BatchSize | None = Field(None, description=_without_preset(_SEED_BODY.TRAIN_BATCH_SIZE))
    learning_rate: LearningRate | None = Field(None, description=_without_preset(_SEED_BODY.LR))
    lr_scheduler: LrScheduler | None = Field(None, description=_without_preset(_SEED_BODY.LR_SCHEDULER))
    lr_warmup_steps: WarmupSteps | None = Field(None, description=_without_preset(_SEED_BODY.LR_WARMUP_STEPS))
    gradient_accumulation_steps: Accumulation | None = Field(
        None, description=_without_preset(_SEED_BODY.GRADIENT_ACCUMULATION_STEPS)
    )
    kind: TrainingKind | None = Field(None, description=f"`full` or `lora`. {_AS_SET}")
    lora_rank: Annotated[int, Field(ge=1, le=512)] | None = Field(None, description=_AS_SET)
    lora_alpha: Annotated[int, Field(ge=1, le=1024)] | None = Field(
        None, description="Omitted: the preset's; without one the rank."
    )
    prior_preservation: bool | None = Field(None, description=_AS_SET)
    prior_loss_weight: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = Field(
        None, description=_AS_SET
    )
    num_class_images: Annotated[int, Field(ge=1, le=2000)] | None = Field(None, description=_AS_SET)
    train_text_encoder: bool | None = Field(None, description=_AS_SET)

    def said(self) -> dict[str, Any]:
        """The values that are given here, by field."""
        return self.model_dump(include=set(TrainingParameters.model_fields), exclude_none=True)


def seed_parameters(body: TrainBody) -> TrainingParameters:
    """What the seed's body says, given or by its defaults, in the names of ``/v1``."""
    return TrainingParameters(
        max_training_steps=body.MAX_TRAINING_STEPS,
        train_batch_size=body.TRAIN_BATCH_SIZE,
        learning_rate=body.LR,
        lr_scheduler=body.LR_SCHEDULER,
        lr_warmup_steps=body.LR_WARMUP_STEPS,
        gradient_accumulation_steps=body.GRADIENT_ACCUMULATION_STEPS,
    )


SEED_DEFAULTS = seed_parameters(_SEED_BODY)
"""What holds where neither a caller nor a preset nor a setting says otherwise."""


class _TrainingSubject(StrictModel):
    model_id: ModelId = Field(description="Name of the trained model; an earlier one of this name gets a new version.")
    instance_prompt: Prompt = Field(
        description="Names the subject by a rare word, as in `a sks chair`.", examples=["a sks chair"]
    )
    photos: Photos
    base_model: str | None = Field(None, description="Base model; omitted: the service's default.")
    preset: Annotated[str, StringConstraints(max_length=100)] | None = Field(
        None,
        description="Name of one of the base model's presets (`GET /v1/base-models`), or `recommended`. It says what "
        "this body leaves out.",
        examples=["recommended"],
    )
    resolution: ResolutionPx | None = Field(None, description="Omitted: the base model's native resolution.")
    seed: Seed | None = Field(None, description="Omitted: as the service is set.")
    class_prompt: Text | None = Field(
        None, description="Prompt of the class images; omitted: the instance prompt without its rare word."
    )


class TrainingBody(TrainingParameters, _TrainingSubject):  # pydantic lists the last base's fields first
    """``POST /v1/trainings``."""


class PhotosCheckBody(StrictModel):
    """``POST /v1/photos/check``: the fields of ``/v1/trainings`` that decide what becomes of the photos."""

    photos: Photos
    base_model: str | None = Field(None, description="Base model; omitted: the service's default.")
    resolution: ResolutionPx | None = Field(None, description="Omitted: the base model's native resolution.")


class PhotoWarningView(Answer):
    """A reason to look at the photos again. The training runs all the same."""

    code: WarningCode = Field(description="Stable name of the reason.")
    message: str = Field(description="What is the matter and what to do next; for people, may change.")
    photos: list[int] = Field(description="The photos that it is about, from 0; empty: it is about their number.")


class PhotoView(Answer):
    """One photo as it was read."""

    width_px: int = Field(description="Upright, as its EXIF orientation says.")
    height_px: int
    warnings: list[WarningCode] = Field(description="Codes of the warnings that name this photo.")


class PhotosCheckAnswer(Answer):
    """Answer of ``POST /v1/photos/check``."""

    ok: bool = Field(description="Whether there is no warning. With or without, the photos can be trained on.")
    base_model: str
    resolution: int = Field(description="The resolution that the photos were judged for.")
    photos: list[PhotoView] = Field(description="In the request's order.")
    warnings: list[PhotoWarningView]


class TrainingProgressBody(Answer):
    """Where a running training stands."""

    phase: str = Field(description="loading, photos, class_images, training, saving or publishing.")
    step: int = Field(description="Updates made; while photos are read or class images made, pictures.")
    steps: int = Field(description="Of so many.")
    resumed_from_step: int = Field(description="The checkpoint that this attempt began with; 0: none.")
    loss: float | None = Field(description="Mean of the updates since the last message.")
    learning_rate: float | None
    steps_per_s: float | None
    remaining_s: float | None = Field(description="Of the training, as it went so far.")
    peak_memory_bytes: int | None = Field(description="Of the GPU, or on a CPU of the process.")


class TrainingView(Answer):
    """State of a training."""

    id: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    model_id: str
    model_version: str | None = Field(description="The version that it made; null before.")
    base_model: str
    preset: str | None = Field(description="The preset that was asked for, by its own name.")
    created_at: str
    started_at: str | None
    finished_at: str | None
    attempt: int = Field(description="How often it was begun.")
    request_id: str | None = Field(
        description="Of the request that began it; its log lines carry it. null: from before they did."
    )
    position: int | None = Field(description="Trainings before this one in the queue; null unless it waits.")
    progress: TrainingProgressBody | None
    error: dict[str, Any] | None = Field(description="`code`, `message` and `details` of a failure.")
    warnings: list[PhotoWarningView]
    parameters: dict[str, Any] = Field(description="What is trained with, after body, preset and settings.")


class TrainingList(Answer):
    """Trainings, newest first."""

    trainings: list[TrainingView]


class TrainingPath(BaseModel):
    """Path of one training."""

    training_id: Annotated[str, StringConstraints(max_length=64)]


class EventsHeaders(BaseModel):
    """Headers of a request for a training's events."""

    last_event_id: str | None = Field(
        None,
        alias="Last-Event-ID",
        description="Id of the last event that was seen: only later ones.",
        json_schema_extra={"pattern": "^[0-9]{0,15}$"},
    )


class TrainingListQuery(BaseModel):
    """Query of the list of trainings."""

    model_config = ConfigDict(extra="forbid")

    state: Literal["queued", "running", "succeeded", "failed", "cancelled"] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100


class PresetView(Answer):
    """A named set of values for the fields of ``POST /v1/trainings``."""

    name: str
    description: str
    parameters: dict[str, Any] = Field(description="By field; a field that is not here is as without a preset.")


class BaseModelView(Answer):
    """A base model that may be used on this machine."""

    name: str
    aliases: list[str] = Field(description="Other names that a request may use.")
    revision: str | None = Field(description="Commit of the hub's repository; null for a folder of this machine.")
    weights_here: bool = Field(description="Whether its weights are on this machine; else a request gets 503.")
    native_size_px: int
    min_size_px: int
    max_size_px: int
    size_multiple_px: int = Field(description="Width, height and resolution are multiples of this.")
    default_steps: int = Field(description="Denoising steps of a generation that names none.")
    presets: list[PresetView]
    recommended_preset: str | None = Field(description="What the name `recommended` means; null while they are broken.")
    presets_error: str | None = Field(description="Why only `seed` can be used: what is wrong in the base's file.")


class BaseModelList(Answer):
    """The base models that this service allows."""

    default: str = Field(description="The base model of a request that names none.")
    base_models: list[BaseModelView]
