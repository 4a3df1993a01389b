"""What ``/v1/images/...`` gives."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from enlight.dreambooth_api.requests import ImageFormat
from enlight.servicekit.schemas import Answer, Base64


class ImageView(Answer):
    """One picture: its file, or a link to it."""

    b64_json: Base64 | None = None
    url: str | None = Field(None, description="Good for an hour, without a key.")
    seed: int | None = Field(None, description="Not OpenAI's: makes this very picture again; of a cut-out none.")


class ImagesView(Answer):
    """Pictures, in the order in which they were asked for."""

    created: int = Field(description="Seconds since 1970.")
    data: list[ImageView]
    background: str = Field(description="`transparent` or `opaque`.")
    output_format: ImageFormat
    size: str | None = Field(None, description="`WIDTHxHEIGHT`; left out where they differ.")
    model: str = Field(description="Not OpenAI's, like the next: as it was asked for.")
    model_version: str | None = Field(None, description="Of a trained model.")


class LinkQuery(BaseModel):
    """Query of a link to a picture."""

    model_config = ConfigDict(extra="forbid")

    expires: Annotated[int, Field(ge=0, lt=2**40)] = Field(description="Seconds since 1970.")
    signature: Annotated[str, StringConstraints(max_length=64)]
