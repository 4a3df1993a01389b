"""Bodies of the HTTP routes: the seed's exact fields, and ``/v1``'s. JSON types are strict, unknown fields an error."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic_core import PydanticCustomError

from enlight.servicekit.schemas import TEXT_PATTERN, WORDS_PATTERN, Answer, Base64, StrictModel
from enlight.servicekit.text_options import DECIMAL_NUMBER, WHOLE_NUMBER
from enlight.upsampler.requests import (
    DEFAULT_GUIDANCE_SCALE,
    DEFAULT_NOISE_LEVEL,
    DEFAULT_STEPS,
    MAX_STEPS,
    ImageFormat,
)

SEED_LIMIT = 2**63
DEFAULT_SEED = 0
MAX_NOISE_LEVEL = 350
"""The published model's."""
SIZE_LIMIT_BYTES = 5_000_000
"""Largest answer with ``"mblimit": "true"``."""


def _text(value: str) -> str:
    if "\0" in value:
        raise PydanticCustomError("text", "must not hold a NUL character")
    return value


def _prompt(value: str) -> str:
    if not _text(value).strip():
        raise PydanticCustomError("prompt", "must not be empty: describe the picture in a few words")
    return value


def _resolution(value: object) -> object:
    # Literal[1024, 2048] takes 2048.0, and a message about it would list Python's values.
    if type(value) is not int or value not in (1024, 2048):
        raise PydanticCustomError("resolution", "must be the number 1024 or 2048")
    return value


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
Resolution = Annotated[Literal[1024, 2048], BeforeValidator(_resolution)]


class UpsamplerBody(StrictModel):
    """``POST /upsampler``: the seed's fields."""

    image: Base64 = Field(description="Picture in base64: PNG, JPEG, WebP or HEIC.")
    prompt: Prompt = Field(description="What the picture shows.", examples=["The sofa next to the window"])
    resolution: Resolution = Field(2048, description="Long side of the result; the aspect is kept.")
    mblimit: Literal["true", "false"] = Field(
        "false", description="`true`: at most 5,000,000 bytes; a PNG that is larger becomes a JPEG."
    )


class UpsamplerAnswer(Answer):
    """Answer of ``POST /upsampler``."""

    status: Literal["true"] = "true"
    image: Base64 = Field(description="base64 picture.")
    message: str = Field(description="Format, size and bytes of the picture.")


class UpscaleParameters(BaseModel):
    """``POST /v1/upscale``: parameters in the query, or in the form's other fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    prompt: Text = Field("", description="What the picture shows.")
    negative_prompt: Text = Field("", description="What it should not show; without effect at a guidance of 1 or less.")
    resolution: Annotated[Literal[1024, 2048], BeforeValidator(_resolution), WHOLE_NUMBER] = Field(
        2048, description="Long side of the result; the aspect is kept."
    )
    seed: Annotated[int, Field(ge=0, lt=SEED_LIMIT), WHOLE_NUMBER] = Field(
        DEFAULT_SEED, description="The same request with the same seed gives the same picture."
    )
    num_inference_steps: Annotated[int, Field(ge=1, le=MAX_STEPS), WHOLE_NUMBER] | None = Field(
        None, description=f"Omitted: as the service is set, {DEFAULT_STEPS} if nothing else was said."
    )
    guidance_scale: Annotated[float, Field(ge=0, le=50), DECIMAL_NUMBER] = DEFAULT_GUIDANCE_SCALE
    noise_level: Annotated[int, Field(ge=0, le=MAX_NOISE_LEVEL), WHOLE_NUMBER] = Field(
        DEFAULT_NOISE_LEVEL, description="Noise added to the input: more of it lets the model invent more."
    )
    format: ImageFormat = Field("png", description="JPEG shows transparency on white; the others keep it.")


class ModelView(Answer):
    """The model of this service."""

    id: str
    revision: str | None = Field(description="Commit of the hub's repository that is here; null where nobody knows.")
    weights_here: bool = Field(description="Whether its files are on this machine; else a request gets 503.")
    missing_files: list[str] = Field(description="What the weights folder lacks.")
    resolutions: list[int]


class ModelList(Answer):
    """Answer of ``GET /v1/models``."""

    models: list[ModelView]
