"""Bodies and queries of the HTTP routes: the seed's exact fields, and ``/v1``'s. Unknown fields are an error."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from enlight.realesrgan.models import DEFAULT_MODEL, MODELS
from enlight.servicekit.schemas import Answer, Base64, StrictModel
from enlight.servicekit.text_options import DECIMAL_NUMBER, TRUTH, WHOLE_NUMBER

LEAST_RESOLUTION_PX = 1024
MOST_RESOLUTION_PX = 8192


def _model_name(value: str) -> str:
    if value not in MODELS:
        raise PydanticCustomError("model_name", f"must be one of {', '.join(MODELS)}")
    return value


ModelName = Annotated[
    str,
    AfterValidator(_model_name),
    Field(description="Which network; see `GET /v1/models`.", json_schema_extra={"enum": list(MODELS)}),
]
OutResolution = Annotated[
    int,
    Field(
        ge=LEAST_RESOLUTION_PX,
        le=MOST_RESOLUTION_PX,
        description="Long side of the result in pixels; the aspect is kept.",
    ),
]
FaceEnhance = Annotated[bool, Field(description="Restore faces (GFPGAN).")]
DenoiseStrength = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="For realesr-general-x4v3 only: 0 keeps noise, 1 removes it; omitted: 0.5.",
    ),
]


class UpsamplerBody(StrictModel):
    """``POST /upsampler``: the seed's fields."""

    input_string: Base64 = Field(description="The picture as base64: PNG, JPEG, WebP or HEIC.")
    model_name: ModelName = DEFAULT_MODEL
    out_resolution: OutResolution = LEAST_RESOLUTION_PX
    face_enhance: FaceEnhance = False
    denoise_strength: DenoiseStrength | None = None


class UpsamplerAnswer(Answer):
    """Answer of ``POST /upsampler``."""

    status: Literal["true"] = "true"
    image: Base64 = Field(description="base64 PNG picture.")
    message: str = Field(examples=["4096 x 3072 pixels from RealESRGAN_x4plus."])


class UpscaleParameters(BaseModel):
    """Query, or text fields of the form, of ``POST /v1/upscale``."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)

    model_name: ModelName = DEFAULT_MODEL
    out_resolution: Annotated[OutResolution, WHOLE_NUMBER] = LEAST_RESOLUTION_PX
    face_enhance: Annotated[FaceEnhance, TRUTH] = False
    denoise_strength: Annotated[DenoiseStrength, DECIMAL_NUMBER] | None = None
    format: Literal["png", "jpeg", "webp"] = Field("png", description="Of the answer.")
    quality: Annotated[int, Field(ge=1, le=100), WHOLE_NUMBER] | None = Field(
        None, description="Of JPEG (default 95) or WebP (default 90)."
    )


class FileView(Answer):
    """A file that a model needs; one of `any_of` suffices."""

    any_of: list[str]
    present: bool
    source: str = Field(description="How to get the first of them.")


class ModelView(Answer):
    """A model and its files."""

    name: str
    scale: int = Field(description="Of one pass.")
    description: str
    takes_denoise_strength: bool
    weights_here: bool = Field(description="Whether the files of a request without further fields are on disk.")
    files: list[FileView]


class ModelList(Answer):
    """Answer of ``GET /v1/models``."""

    default: str
    models: list[ModelView]
    face_enhance: list[FileView] = Field(description="What `face_enhance` needs besides.")
