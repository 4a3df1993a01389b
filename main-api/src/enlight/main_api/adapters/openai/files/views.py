"""What OpenAI's ``/v1/files`` takes and gives."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from enlight.main_api.adapters.openai.files.records import UploadedFile
from enlight.servicekit.schemas import Answer
from enlight.servicekit.text_options import WHOLE_NUMBER

PURPOSE = "fine-tune"
MAX_KEPT_S = 30 * 24 * 3600
MIN_KEPT_S = 3600

FileId = Annotated[str, StringConstraints(max_length=64)]

FORM: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {
                    "file": {
                        "type": "string",
                        "format": "binary",
                        "description": "A ZIP of 1 to 50 photos of the subject: PNG, JPEG, WebP or HEIC.",
                    },
                    "purpose": {"const": PURPOSE},
                    "expires_after[anchor]": {"const": "created_at"},
                    "expires_after[seconds]": {
                        "type": "integer",
                        "minimum": MIN_KEPT_S,
                        "maximum": MAX_KEPT_S,
                        "default": MAX_KEPT_S,
                        "description": "How long it is kept; goes with `expires_after[anchor]`.",
                    },
                },
                "required": ["file", "purpose"],
                "additionalProperties": False,
            }
        }
    },
}
"""The form of an upload."""


class FileOptions(BaseModel):
    """The form's fields beside the file."""

    model_config = ConfigDict(extra="forbid", populate_by_name=False)

    purpose: str
    anchor: Literal["created_at"] | None = Field(None, alias="expires_after[anchor]")
    seconds: Annotated[int, Field(ge=MIN_KEPT_S, le=MAX_KEPT_S), WHOLE_NUMBER] | None = Field(
        None, alias="expires_after[seconds]"
    )

    @model_validator(mode="after")
    def _whole_expiry(self) -> FileOptions:
        if (self.anchor is None) != (self.seconds is None):
            raise PydanticCustomError("expiry", "expires_after needs both anchor and seconds")
        return self


class FilePath(BaseModel):
    """Path of one file."""

    file_id: FileId


class FileListQuery(BaseModel):
    """Query of the list of files, which is read page by page."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=10_000)] = Field(10_000, description="Files at most.")
    after: FileId | None = Field(None, description="Id of a file: only those that come after it in the list.")
    order: Literal["asc", "desc"] = Field("desc", description="By the time of the upload.")
    purpose: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="Only files of this purpose; there are none but `fine-tune`."
    )


class FileView(Answer):
    """An uploaded file."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int = Field(description="Seconds since 1970.")
    expires_at: int
    filename: str
    purpose: Literal["fine-tune"] = "fine-tune"
    status: Literal["processed"] = Field("processed", description="A file is kept when it was checked, or not at all.")
    status_details: None = Field(None, description="Always null.")


class FilePage(Answer):
    """Files."""

    object: Literal["list"] = "list"
    data: list[FileView]
    first_id: str | None
    last_id: str | None = Field(description="What to send as `after` for the next page.")
    has_more: bool


class FileDeletedView(Answer):
    """A file that is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


def file_view(file: UploadedFile) -> FileView:
    """``file`` as OpenAI's clients see it."""
    return FileView(
        id=file.id,
        bytes=file.size_bytes,
        created_at=int(file.created_at.timestamp()),
        expires_at=int(file.expires_at.timestamp()),
        filename=file.filename,
    )
