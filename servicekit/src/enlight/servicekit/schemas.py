"""Models of what crosses the wire."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class StrictModel(BaseModel):
    """Base of a JSON body: types as sent, no unknown field, no NaN.

    Bodies are validated as Python values, where strict means: use ``str``, ``Literal``, ``list`` and ``dict`` for
    fields (a ``tuple``, an ``Enum`` or a ``Path`` would refuse what JSON can hold).
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class ErrorDetail(BaseModel):
    """What programs read of an error."""

    code: str = Field(description="Stable name of the kind of error.", examples=["invalid_field"])
    details: dict[str, object] = Field(
        description="More about it; for invalid_field: `fields`, a list of `field` and `message`.",
        examples=[{"fields": [{"field": "LR", "message": "must be greater than 0"}]}],
    )
    request_id: str = Field(description="Also in the header X-Request-ID and in the service's log.")


class ErrorBody(BaseModel):
    """The body of every error."""

    message: str = Field(description="For people; may change.", examples=["LR: must be greater than 0"])
    error: ErrorDetail


class ServiceInfo(BaseModel):
    """Which service this is."""

    message: str = Field(examples=["bgrem is running."])
    service: str
    version: str
    hostname: str = Field(description="Of the machine or container that answered.")
    docs: str = Field(description="Path of the documentation page.")


class LiveBody(BaseModel):
    """The process answers."""

    status: str = Field(examples=["live"])


class ReadyBody(BaseModel):
    """Whether requests are welcome."""

    state: str = Field(description="starting, ready, busy or defunct.", examples=["ready"])
    details: dict[str, object] = Field(description="Of the service: its worker, models, queue.")
