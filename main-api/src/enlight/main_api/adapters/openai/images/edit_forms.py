"""The form of ``/v1/images/edits``, read within bounds: so many files, each field once, nothing unknown."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import IO

from flask import Request
from pydantic import ValidationError
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.formparser import FormDataParser

from enlight.main_api.adapters.openai.images.parameters import MAX_PICTURES, EditFields
from enlight.servicekit.errors import InvalidField, InvalidRequest, UnsupportedMediaType
from enlight.servicekit.http_errors import MISSING_FIELD, UNKNOWN_FIELD, invalid_field
from enlight.servicekit.http_uploads import MULTIPART

ONE_IMAGE, SEVERAL_IMAGES, MASK = "image", "image[]", "mask"
"""How OpenAI's clients call the files."""
MAX_FORM_PARTS = 60


@dataclass(frozen=True)
class EditForm:
    """What was sent."""

    images: list[bytes]
    """Files of pictures, in their order."""
    mask: bytes | None
    fields: EditFields


def read_edit_form(request: Request) -> EditForm:
    """The form in the request.

    Raises:
        UnsupportedMediaType: no form.
        InvalidField: a file or a field is missing, unknown, given twice or out of range.
    """
    if request.mimetype != MULTIPART:
        raise UnsupportedMediaType("Send a multipart/form-data form, as OpenAI's clients do.")
    form, files = _parts(request)
    for name in set(files) - {ONE_IMAGE, SEVERAL_IMAGES, MASK}:
        raise InvalidField.of(name[:100], UNKNOWN_FIELD)
    one, several, masks = (files.getlist(name) for name in (ONE_IMAGE, SEVERAL_IMAGES, MASK))
    if not one and not several:
        raise InvalidField.of(ONE_IMAGE, MISSING_FIELD)
    if len(one) > 1 or (one and several):
        raise InvalidField.of(ONE_IMAGE, f"several pictures are sent as {SEVERAL_IMAGES}")
    if len(several) > MAX_PICTURES:
        raise InvalidField.of(ONE_IMAGE, f"at most {MAX_PICTURES} pictures are taken")
    if len(masks) > 1:
        raise InvalidField.of(MASK, "is given twice")
    images = [_bytes(file, ONE_IMAGE) for file in one or several]
    return EditForm(images, _bytes(masks[0], MASK) if masks else None, _fields(form))


def _parts(request: Request) -> tuple[MultiDict[str, str], MultiDict[str, FileStorage]]:
    """The form's texts and files, these in memory, which was asked for."""
    parser = FormDataParser(
        stream_factory=_in_memory,
        max_form_memory_size=request.max_form_memory_size,
        max_form_parts=MAX_FORM_PARTS,
        silent=False,
    )
    try:
        _, form, files = parser.parse(request.stream, request.mimetype, request.content_length, request.mimetype_params)
    except ValueError as error:
        raise InvalidRequest("The form cannot be read.") from error
    return form, files


def _in_memory(
    total_content_length: int | None, content_type: str | None, filename: str | None, content_length: int | None = None
) -> IO[bytes]:
    return io.BytesIO()


def _fields(form: MultiDict[str, str]) -> EditFields:
    given: dict[str, str] = {}
    for name, values in form.lists():
        if name in (ONE_IMAGE, SEVERAL_IMAGES, MASK):
            raise InvalidField.of(name.removesuffix("[]"), "must be a file")
        if len(values) > 1:
            raise InvalidField.of(name[:100], "is given twice")
        given[name] = values[0]
    try:
        return EditFields.model_validate_strings(given)
    except ValidationError as error:
        raise invalid_field(error) from error


def _bytes(file: FileStorage, name: str) -> bytes:
    data: bytes = file.read()
    if not data:
        raise InvalidField.of(name, "is an empty file")
    return data
