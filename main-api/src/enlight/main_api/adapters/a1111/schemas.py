"""Bodies and answers of ``/sdapi/v1``. Fields that are not here are ignored, as A1111's server does with those that it
does not know; fields that would change a picture in a way that is not to be had here are refused by their names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from enlight.dreambooth_api.schemas import SEED_LIMIT, ResolutionPx, Text
from enlight.servicekit.schemas import Answer, Base64, StrictModel

MAX_BATCHES = 100
MAX_PICTURES_AT_ONCE = 50
"""Of one extra-batch-images."""


def _not_here(why: str) -> AfterValidator:
    def refuse(value: object) -> object:
        if value and not (isinstance(value, int | float) and value < 0):
            raise PydanticCustomError("not_here", "{why}", {"why": f"is not to be had here: {why}"})
        return value

    return AfterValidator(refuse)


def _only_one(value: float | None) -> float | None:
    if value not in (None, 1):
        raise PydanticCustomError("not_here", "is not to be had here: 1 only")
    return value


class IgnoringModel(BaseModel):
    """Base of the bodies: types as sent, unknown fields ignored."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


def _all_or_nothing(value: float) -> float:
    if value not in (0, 1):
        raise PydanticCustomError("not_here", "is not to be had here: 0 or 1 only")
    return value


_Name = Annotated[str, StringConstraints(max_length=200)]
Flag = Annotated[int, Field(ge=0, le=1)]
"""A1111 has numbers where others have booleans. (A literal 0 would take false as well.)"""


class Options(StrictModel):
    """What can be set of the server's options, for a key or for one request."""

    sd_model_checkpoint: _Name | None = Field(
        None, description="Title of a model, as `GET /sdapi/v1/sd-models` lists it.", examples=["enlight/pocket"]
    )
    sd_checkpoint_hash: Literal[""] | None = Field(None, description="Models have none here.")
    sd_vae: Literal["Automatic", "None"] = "Automatic"
    samples_format: Literal["png"] = "png"
    CLIP_stop_at_last_layers: Annotated[int, Field(ge=1, le=1)] = 1


class GenerationFields(IgnoringModel):
    """What txt2img and img2img have in common."""

    prompt: Text = Field(
        "",
        description="What the pictures show. `<lora:name:1>` takes the model of that name; other marks, such as "
        "brackets around words, are read as they stand.",
    )
    negative_prompt: Text = ""
    seed: Annotated[int, Field(ge=-1, lt=SEED_LIMIT)] = Field(-1, description="Picture i has seed + i; -1: random.")
    steps: Annotated[int, Field(ge=1, le=1000)] | None = Field(None, description="Omitted: the base model's.")
    cfg_scale: Annotated[float, Field(ge=0, le=100)] = 7.0
    width: ResolutionPx | None = Field(None, description="Omitted: the base model's, or the picture's.")
    height: ResolutionPx | None = Field(None, description="Omitted: the base model's, or the picture's.")
    batch_size: Annotated[int, Field(ge=1, le=1000)] = Field(1, description="Pictures made together.")
    n_iter: Annotated[int, Field(ge=1, le=MAX_BATCHES)] = Field(1, description="Batches, one after the other.")
    sampler_name: _Name | None = Field(
        None, description="A base model has one sampler: what ran is told in `info`. Unknown names are an error."
    )
    sampler_index: _Name | None = Field(None, description="The same, where `sampler_name` is not given.")
    override_settings: Options | None = None
    send_images: bool = Field(default=True, description="Whether the pictures are in the answer.")
    save_images: Annotated[bool, _not_here("`POST /v1/pictures` makes pictures that are kept")] = False
    script_name: Annotated[_Name | None, _not_here("there are no scripts")] = None
    alwayson_scripts: Annotated[dict[str, Any] | None, _not_here("there are no scripts")] = None
    subseed_strength: Annotated[float, _not_here("variations of a seed")] = 0
    seed_resize_from_w: Annotated[int, _not_here("seeds of other sizes")] = -1
    seed_resize_from_h: Annotated[int, _not_here("seeds of other sizes")] = -1
    restore_faces: Annotated[bool | None, _not_here("enlarge with gfpgan_visibility 1")] = None
    tiling: Annotated[bool | None, _not_here("pictures that tile")] = None
    refiner_checkpoint: Annotated[_Name | None, _not_here("a second model for the last steps")] = None


class TextToImageBody(GenerationFields):
    """``POST /sdapi/v1/txt2img``."""

    enable_hr: Annotated[bool, _not_here("enlarge with extra-single-image")] = False
    denoising_strength: float | None = Field(None, description="Of `enable_hr`, and not used.")


class ImageToImageBody(GenerationFields):
    """``POST /sdapi/v1/img2img``."""

    init_images: Annotated[list[Base64], Field(min_length=1, max_length=1)] = Field(
        description="The picture to begin from, as base64 or `data:` URL; no address, nothing is fetched."
    )
    denoising_strength: Annotated[float, Field(gt=0, le=1)] = Field(0.75, description="How little of it stays.")
    resize_mode: Annotated[int, Field(ge=0, le=2)] = Field(
        0, description="To `width` and `height`: 0 stretched, 1 covering them and cut, 2 within them, edges drawn out."
    )
    mask: Base64 | None = Field(None, description="White where the picture is painted anew; transparency counts.")
    mask_blur: Annotated[int, Field(ge=0, le=64)] = Field(
        4, description="Pixels over which what is new goes over into what stays."
    )
    inpainting_mask_invert: Flag = Field(0, description="1: black is painted anew.")
    inpainting_fill: Flag = Field(
        0, description="Where painting begins: 0 from the surroundings' colours, 1 from the picture itself."
    )
    inpaint_full_res: bool = Field(
        default=True, description="Paint the masked part in full size, and put it back; the picture keeps its size."
    )
    inpaint_full_res_padding: Annotated[int, Field(ge=0, le=1024)] = Field(0, description="Pixels around that part.")
    initial_noise_multiplier: Annotated[float | None, AfterValidator(_only_one)] = None
    include_init_images: bool = Field(default=False, description="Whether `parameters` repeats the pictures.")


class ExtrasFields(IgnoringModel):
    """What the two routes that enlarge have in common."""

    resize_mode: Flag = Field(
        0, description="0: by `upscaling_resize`; 1: to cover `upscaling_resize_w` and `upscaling_resize_h`."
    )
    upscaling_resize: Annotated[float, Field(gt=0, le=128)] = 2
    upscaling_resize_w: Annotated[int, Field(ge=1, le=8192)] = 512
    upscaling_resize_h: Annotated[int, Field(ge=1, le=8192)] = 512
    upscaling_crop: bool = Field(default=True, description="Of `resize_mode` 1: cut to that size.")
    upscaler_1: _Name = Field("None", description="As `GET /sdapi/v1/upscalers` lists them; `None` enlarges nothing.")
    upscaler_2: _Name = "None"
    extras_upscaler_2_visibility: Annotated[float, _not_here("a mix of two upscalers")] = 0
    gfpgan_visibility: Annotated[float, AfterValidator(_all_or_nothing), Field(json_schema_extra={"enum": [0, 1]})] = (
        Field(0, description="1: faces are restored, by an R-ESRGAN upscaler only.")
    )
    codeformer_visibility: Annotated[float, _not_here("CodeFormer; gfpgan_visibility 1 restores faces")] = 0


class ExtraSingleBody(ExtrasFields):
    """``POST /sdapi/v1/extra-single-image``."""

    image: Base64 = Field(description="The picture, as base64 or `data:` URL; no address, nothing is fetched.")


class NamedPicture(IgnoringModel):
    """One picture of several."""

    data: Base64
    name: _Name = Field("", description="For the client alone.")


class ExtraBatchBody(ExtrasFields):
    """``POST /sdapi/v1/extra-batch-images``."""

    imageList: Annotated[list[NamedPicture], Field(min_length=1, max_length=MAX_PICTURES_AT_ONCE)]  # noqa: N815 -- theirs


class PicturesAnswer(Answer):
    """Answer of txt2img and img2img."""

    images: list[Base64] = Field(description="base64 PNG pictures; empty where `send_images` is false.")
    parameters: dict[str, Any] = Field(description="The request's fields, with what they are when they are left out.")
    info: str = Field(description="JSON text: what really ran; `seed`, `all_seeds`, `infotexts`, `sampler_name` ...")


class ExtraSingleAnswer(Answer):
    """Answer of extra-single-image."""

    html_info: str
    image: Base64


class ExtraBatchAnswer(Answer):
    """Answer of extra-batch-images."""

    html_info: str
    images: list[Base64]


class ProgressQuery(BaseModel):
    """Query of ``GET /sdapi/v1/progress``."""

    skip_current_image: bool = Field(default=False, description="There is never a current image.")


class ProgressState(Answer):
    """What the caller's requests are at."""

    skipped: bool
    interrupted: bool
    stopping_generation: bool
    job: str = Field(description="`txt2img` or `img2img`; empty: nothing runs.")
    job_count: int = Field(description="Batches of all of the key's requests under way.")
    job_timestamp: str
    job_no: int = Field(description="Batches of them that are finished.")
    sampling_step: Literal[0] = Field(0, description="Not known here.")
    sampling_steps: int


class ProgressAnswer(Answer):
    """Answer of ``GET /sdapi/v1/progress``."""

    progress: float = Field(
        description="0 to 1: finished batches and, once one of the kind was timed, a part of the next by its time."
    )
    eta_relative: float = Field(description="Seconds left, by the time that batches took; 0: not known.")
    state: ProgressState
    current_image: Base64 | None = Field(None, description="There is never one.")
    textinfo: str | None = None


class ChosenOptions(Answer):
    """Answer of ``GET /sdapi/v1/options``."""

    sd_model_checkpoint: str = Field(description="The model of requests that name none.")
    sd_checkpoint_hash: str | None = Field(None, description="Models have none here.")
    sd_vae: Literal["Automatic"] = "Automatic"
    samples_format: Literal["png"] = "png"
    CLIP_stop_at_last_layers: Literal[1] = 1
