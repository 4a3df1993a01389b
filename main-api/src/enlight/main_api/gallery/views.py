"""What ``/v1/pictures`` takes and gives."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from enlight.dreambooth_api.schemas import GenerationBody
from enlight.main_api.gallery.records import KeptPicture, PictureKind
from enlight.servicekit.schemas import Answer, StrictModel

MAX_AT_A_TIME = 50
"""Pictures of one request."""

_Word = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Name = Annotated[str, StringConstraints(max_length=200)]


class PicturesBody(GenerationBody):
    """``POST /v1/pictures``."""

    num_images: Annotated[int, Field(ge=1, le=MAX_AT_A_TIME)] = Field(1, description="Pictures.")


class PicturePath(BaseModel):
    """Path of one picture."""

    picture_id: Annotated[str, StringConstraints(max_length=64)]


class PictureListQuery(BaseModel):
    """Query of the list of pictures, which is read page by page."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=200)] = 50
    before: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="Id of a picture: only earlier ones. The last page's `next`."
    )
    after: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="Id of a picture: only later ones; without `before` those next to it."
    )
    model_id: _Name | None = Field(None, description="Only pictures of the model that had this name then.")
    kind: PictureKind | None = Field(None, description="Only those that came to be so.")
    source_id: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="Only those that were made of this picture."
    )


class PictureFileQuery(BaseModel):
    """Query of a picture's file."""

    model_config = ConfigDict(extra="forbid")

    download: bool = Field(default=False, description="Whether a browser saves it instead of showing it.")


class KeptCutoutBody(StrictModel):
    """``POST /v1/pictures/<picture_id>/cutout``."""

    model: _Word = Field("u2net", description="The network that finds the subject, as `POST /v1/cutout` has them.")
    background: _Word | None = Field(
        None, description="Colour behind the subject, as `POST /v1/cutout` takes it; omitted: transparent."
    )


class KeptUpscaleBody(StrictModel):
    """``POST /v1/pictures/<picture_id>/upscale``."""

    out_resolution: Annotated[int, Field(ge=1024, le=8192)] = Field(2048, description="Long side in pixels.")
    model_name: _Word = Field(
        "RealESRGAN_x4plus", description="Which network, as `POST /v1/upscale/realesrgan` has them."
    )
    face_enhance: bool = Field(default=False, description="Restore faces (GFPGAN).")


class PictureView(Answer):
    """A kept picture."""

    id: str
    kind: PictureKind
    model_id: str | None = Field(description="The model's name at that time.")
    source_id: str | None = Field(description="The picture that it was made of; it may be gone.")
    parameters: dict[str, Any] = Field(description="What it was made with; a `seed` is in it as text.")
    width: int
    height: int
    content_type: str
    size_bytes: int
    sha256: str
    created_at: datetime


class PicturePage(Answer):
    """Pictures, newest first."""

    pictures: list[PictureView]
    next: str | None = Field(description="What to send as `before` for the next page; null: this is the last one.")


def picture_view(picture: KeptPicture) -> dict[str, Any]:
    """``picture`` in the form of `PictureView`."""
    return PictureView(
        id=picture.id,
        kind=picture.kind,
        model_id=picture.model,
        source_id=picture.source_id,
        parameters=dict(picture.parameters),
        width=picture.width_px,
        height=picture.height_px,
        content_type=picture.content_type,
        size_bytes=picture.size_bytes,
        sha256=picture.sha256,
        created_at=picture.created_at,
    ).model_dump(mode="json")
