"""Models of what crosses the wire."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class StrictModel(BaseModel):
    """Base of a JSON body: types as sent, no unknown field, no NaN.

    Bodies are validated as Python values, where strict means: use ``str``, ``Literal``, ``list`` and ``dict`` for
    fields (a ``tuple``, an ``Enum`` or a ``Path`` would refuse what JSON can hold).
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


EXAMPLE_PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAIAQAAAADsdIMmAAAAFUlEQVR42mOwYXBiWMrQCMQzgSwbABsQA2HCc3KMAAAAAElFTkSuQmCC"
)
"""A face of 8 x 8 pixels, as a PNG file in base64."""
Base64 = Annotated[str, Field(examples=[EXAMPLE_PICTURE], json_schema_extra={"format": "byte"})]
"""A picture's file as base64 text; reading it is left to whoever knows what it should hold."""

TEXT_PATTERN = r"^[^\u0000]*$"
"""How a JSON schema says that a text holds no NUL character."""
WORDS_PATTERN = r"^[^\u0000]*[^\u0000\s][^\u0000]*$"
"""The same of a text that is not blank, either."""


class Answer(BaseModel):
    """Base of what a service answers: no field but those that its description names."""

    model_config = ConfigDict(extra="forbid")


class ErrorDetail(Answer):
    """What programs read of an error."""

    code: str = Field(description="Stable name of the kind of error.", examples=["invalid_field"])
    details: dict[str, object] = Field(
        description="More about it; for invalid_field: `fields`, a list of `field` and `message`.",
        examples=[{"fields": [{"field": "LR", "message": "must be greater than 0"}]}],
    )
    request_id: str = Field(description="Also in the header X-Request-ID and in the service's log.")


class ErrorBody(Answer):
    """The body of every error."""

    message: str = Field(description="For people; may change.", examples=["LR: must be greater than 0"])
    error: ErrorDetail


class ServiceInfo(Answer):
    """Which service this is."""

    message: str = Field(examples=["bgrem is running."])
    service: str
    version: str
    hostname: str = Field(description="Of the machine or container that answered.")
    docs: str = Field(description="Path of the documentation page.")


class LiveBody(Answer):
    """The process answers."""

    status: str = Field(examples=["live"])


class ReadyBody(Answer):
    """Whether requests are welcome."""

    state: str = Field(description="starting, ready, busy or defunct.", examples=["ready"])
    details: dict[str, object] = Field(description="Of the service: its worker, models, queue.")
