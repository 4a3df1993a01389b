"""``/v1/files`` as OpenAI's clients use it before a fine-tuning. Another tenant's file is a 404 in all of them."""

from __future__ import annotations

from functools import partial
from typing import Any, BinaryIO, cast

from flask import Response, request
from flask_openapi import APIBlueprint, Tag
from flask_openapi.types import ResponseDict
from werkzeug.datastructures import MultiDict

from enlight.main_api.adapters.openai.errors import answer_openai_error
from enlight.main_api.adapters.openai.files.archive import FIELD
from enlight.main_api.adapters.openai.files.store import UploadedFiles
from enlight.main_api.adapters.openai.files.views import (
    FORM,
    MAX_KEPT_S,
    PURPOSE,
    FileDeletedView,
    FileListQuery,
    FileOptions,
    FilePage,
    FilePath,
    FileView,
    file_view,
)
from enlight.main_api.keys.authentication import current_caller
from enlight.main_api.limits.admission import ByteBudget
from enlight.main_api.unchanging_files import unchanging_file
from enlight.servicekit.errors import InvalidField, UnsupportedMediaType
from enlight.servicekit.http_uploads import MULTIPART, file_in_form
from enlight.servicekit.schemas import ErrorBody
from enlight.servicekit.text_options import read_options

UPLOAD_RULE = "/v1/files"
"""The one route here whose body may be large."""

_NO_FILE: ResponseDict = {"404": ErrorBody}
_FILES = Tag(name="OpenAI: files", description="Photos as OpenAI's clients upload them, to train with.")
_MEDIA_TYPE = "application/zip"
_CONTENT: ResponseDict = {
    "200": {
        "description": "The file.",
        "content": {_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    },
    **_NO_FILE,
}
_MAX_NAME_CHARS = 200


def file_routes(files: UploadedFiles, budget: ByteBudget) -> APIBlueprint:
    """``/v1/files``."""
    routes = APIBlueprint("openai_files", __name__, abp_tags=[_FILES])
    routes.register_error_handler(Exception, answer_openai_error)

    @routes.post(UPLOAD_RULE, summary="Upload photos", responses={"200": FileView}, request_body=FORM)
    def upload_file() -> dict[str, Any]:
        """Takes a ZIP of photos, decodes each, and keeps the ZIP for 30 days, or as `expires_after` says. Folders in it
        mean nothing; what file managers add to a ZIP is left out."""
        if request.mimetype != MULTIPART:
            raise UnsupportedMediaType(f"Send the file and its purpose as {MULTIPART}.")
        found = file_in_form(request, (FIELD,))
        options = read_options(FileOptions, MultiDict(), found.form)
        if options.purpose != PURPOSE:
            raise InvalidField.of("purpose", f"only {PURPOSE} is taken here: a ZIP of photos to train with")
        filename = (found.file.filename or "photos.zip")[:_MAX_NAME_CHARS]
        upload = cast(BinaryIO, found.file.stream)
        kept = files.keep(current_caller().tenant, upload, filename, kept_s=options.seconds or MAX_KEPT_S)
        return file_view(kept).model_dump()

    @routes.get("/v1/files", summary="List files", responses={"200": FilePage})
    def list_files(query: FileListQuery) -> dict[str, Any]:
        """The tenant's files that have not expired."""
        if query.purpose not in (None, PURPOSE):
            return FilePage(data=[], first_id=None, last_id=None, has_more=False).model_dump()
        found = files.records.list(
            current_caller().tenant, limit=query.limit + 1, after=query.after, ascending=query.order == "asc"
        )
        shown = [file_view(file) for file in found[: query.limit]]
        ends = (shown[0].id, shown[-1].id) if shown else (None, None)
        page = FilePage(data=shown, first_id=ends[0], last_id=ends[1], has_more=len(found) > len(shown))
        return page.model_dump()

    @routes.get("/v1/files/<file_id>", summary="Show a file", responses={"200": FileView, **_NO_FILE})
    def show_file(path: FilePath) -> dict[str, Any]:
        """What is known of the file."""
        return file_view(files.records.get(current_caller().tenant, path.file_id)).model_dump()

    @routes.get("/v1/files/<file_id>/content", summary="Take a file", responses=_CONTENT)
    def file_content(path: FilePath) -> Response:
        """The file as it came, compared with its SHA-256, which is its `ETag`."""
        kept = files.records.get(current_caller().tenant, path.file_id)
        read = partial(files.read, kept)
        response = unchanging_file(
            budget, etag=kept.sha256, size_bytes=kept.size_bytes, media_type=_MEDIA_TYPE, read=read
        )
        response.headers["Content-Disposition"] = 'attachment; filename="photos.zip"'
        return response

    @routes.delete("/v1/files/<file_id>", summary="Delete a file", responses={"200": FileDeletedView, **_NO_FILE})
    def delete_file(path: FilePath) -> dict[str, Any]:
        """Removes the file. Trainings that were begun with it go on: they have their photos."""
        files.remove(current_caller().tenant, path.file_id)
        return FileDeletedView(id=path.file_id).model_dump()

    return routes
