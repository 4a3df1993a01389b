"""What ``/v1/images/...`` takes. OpenAI's own parameters may be null, which is as if they were left out."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from enlight.dreambooth_api.requests import ImageFormat
from enlight.dreambooth_api.schemas import GenerationBody, Prompt, Seed, Text
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.schemas import StrictModel

MAX_PICTURES = 10
"""Of one request, as OpenAI has it."""
CUTOUT = "cutout"
"""The model of edits that cuts out; ``cutout/<network>`` with another network than the default one."""
DEFAULT_NETWORK = "u2net"

_SIZE_PATTERN = r"auto|([0-9]{1,4})x([0-9]{1,4})"
_MIN_SIDE_PX, _MAX_SIDE_PX = 8, 4096
_NOTHING = "Accepted as OpenAI accepts it; changes nothing here."
_Identifier = Annotated[str, StringConstraints(max_length=512)]
"""Of a user of the client's; OpenAI takes 64 characters."""


def _size(value: str) -> str:
    sides_px = size_px(value) if re.fullmatch(_SIZE_PATTERN, value) else (0, 0)
    if sides_px is not None and not all(_MIN_SIDE_PX <= side_px <= _MAX_SIDE_PX for side_px in sides_px):
        raise PydanticCustomError(
            "size", f"must be auto, or a width and height from {_MIN_SIDE_PX} to {_MAX_SIDE_PX} such as 768x768"
        )
    return value


def _no_stream(value: bool | None) -> bool | None:
    if value:
        raise PydanticCustomError("stream", "is not done here: the pictures come together, when they are made")
    return value


class _Parameters(StrictModel):
    model: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        description="A trained model, or a base model's name such as `enlight/pocket`.", examples=["Alex-Model-Fun"]
    )
    n: Annotated[int, Field(ge=1, le=MAX_PICTURES)] | None = Field(None, description="Pictures; omitted: 1.")
    size: Annotated[str, AfterValidator(_size), Field(json_schema_extra={"pattern": f"^({_SIZE_PATTERN})$"})] | None = (
        Field(
            None,
            description="`WIDTHxHEIGHT` within the base model's limits. Omitted or `auto`: the base's native size.",
        )
    )
    response_format: Literal["b64_json", "url"] | None = Field(
        None, description="Omitted: `b64_json`. `url`: the pictures are kept, and links are good for an hour."
    )
    output_format: ImageFormat | None = Field(None, description="Of the files; omitted: `png`.")
    background: Literal["transparent", "opaque", "auto"] | None = Field(
        None, description="`transparent`: the subject is cut out; not as `jpeg`."
    )
    seed: Seed | None = Field(None, description="Not OpenAI's. As in `POST /v1/generations`, like the next three.")
    negative_prompt: Text | None = None
    num_inference_steps: Annotated[int, Field(ge=1, le=1000)] | None = None
    guidance_scale: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    stream: Annotated[bool | None, AfterValidator(_no_stream)] = Field(None, description="Only false.")
    partial_images: Annotated[int, Field(ge=0, le=0)] | None = Field(None, description="Only 0.")
    quality: Literal["low", "medium", "high", "xhigh", "max", "auto", "standard", "hd"] | None = Field(
        None, description=_NOTHING
    )
    complexity: Literal["low", "medium", "high"] | None = Field(None, description=_NOTHING)
    moderation: Literal["low", "auto"] | None = Field(None, description=_NOTHING)
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = Field(None, description=_NOTHING)
    user: _Identifier | None = Field(None, description=_NOTHING)
    safety_identifier: _Identifier | None = Field(None, description=_NOTHING)

    @model_validator(mode="after")
    def _transparent_in_the_file(self) -> Self:
        if self.is_transparent and self.format == "jpeg":
            raise InvalidField.of("output_format", "jpeg has no transparency: use png or webp")
        return self

    @property
    def is_transparent(self) -> bool:
        """Whether the subject is cut out."""
        return self.background == "transparent"

    @property
    def format(self) -> ImageFormat:
        """Of the files."""
        return self.output_format or "png"

    @property
    def count(self) -> int:
        """Pictures of each request to a model."""
        return self.n or 1

    def _generation(self, **more: object) -> GenerationBody:
        """What ``/v1/generations`` is asked for; what was left out here is left out there."""
        width_px, height_px = (size_px(self.size) if self.size else None) or (None, None)
        given: dict[str, Any] = {
            "model_id": self.model,
            "num_images": self.count,
            "width": width_px,
            "height": height_px,
            "seed": self.seed,
            "negative_prompt": self.negative_prompt,
            "num_inference_steps": self.num_inference_steps,
            "guidance_scale": self.guidance_scale,
            "format": "png" if self.is_transparent else self.format,
            **more,
        }
        return GenerationBody(**{name: value for name, value in given.items() if value is not None})


class GenerateBody(_Parameters):
    """``POST /v1/images/generations``."""

    prompt: Prompt = Field(
        description="What the pictures show; the subject by the words that it was trained with.",
        examples=["a sks chair on the beach"],
    )
    style: Literal["vivid", "natural"] | None = Field(None, description=_NOTHING)

    def generation(self) -> GenerationBody:
        """What ``/v1/generations`` is asked for."""
        return self._generation(prompt=self.prompt)


class EditFields(_Parameters):
    """``POST /v1/images/edits``: the form's fields without its files."""

    prompt: Text | None = Field(None, description="What the edited picture shows; of a cut-out it changes nothing.")
    strength: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = Field(
        None, description="Not OpenAI's. How much is made anew; omitted: 0.8, with a `mask` 1."
    )
    keep_unmasked: bool | None = Field(
        None, description="Not OpenAI's. False: what the mask leaves is not put back as it was to the pixel."
    )
    input_fidelity: Literal["low", "high"] | None = Field(None, description=_NOTHING)

    @property
    def network(self) -> str | None:
        """The network that cuts out; None where a model edits."""
        if self.model == CUTOUT:
            return DEFAULT_NETWORK
        kind, slash, network = self.model.partition("/")
        return network if slash and kind == CUTOUT else None

    @property
    def is_transparent(self) -> bool:
        """Whether the subject is cut out, on nothing."""
        return self.background == "transparent" or (self.network is not None and self.background != "opaque")

    def generation(self, image: str, mask: str | None) -> GenerationBody:
        """What ``/v1/generations`` is asked for, of one picture in base64."""
        return self._generation(
            prompt=self.prompt, image=image, mask=mask, strength=self.strength, keep_unmasked=self.keep_unmasked
        )


def size_px(size: str) -> tuple[int, int] | None:
    """Width and height; None for ``auto``."""
    if size == "auto":
        return None
    width, _, height = size.partition("x")
    return int(width), int(height)
