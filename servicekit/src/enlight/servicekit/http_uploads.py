"""A picture that comes as bytes: as the whole body, or as one file of a multipart form."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from flask import Request
from werkzeug.datastructures import FileStorage

from enlight.servicekit.errors import InvalidField, UnsupportedMediaType

MULTIPART = "multipart/form-data"
MAX_FORM_PARTS = 50


@dataclass(frozen=True)
class Upload:
    """What was sent.

    Attributes:
        data: The file's bytes.
        field: What a message about it calls it: the form field's name, or ``body``.
        form: The form's other fields; empty for a plain body.
    """

    data: bytes
    field: str
    form: dict[str, str] = dataclasses.field(default_factory=dict)


def uploaded_file(request: Request, *, form_fields: tuple[str, ...]) -> Upload:
    """The file in the request: the body of an ``image/*`` or ``application/octet-stream`` request, or the file in
    the first of ``form_fields`` that the form has.

    Raises:
        UnsupportedMediaType: another content type.
        InvalidField: no file, several, an empty one, or a field twice.
    """
    kind = request.mimetype
    if kind == MULTIPART:
        return _from_form(request, form_fields)
    if kind.startswith("image/") or kind == "application/octet-stream":
        data = request.get_data(cache=False)
        if not data:
            raise InvalidField.of("body", "is empty; the bytes of a picture were expected")
        return Upload(data, "body")
    given = kind[:100] or "no content type"
    raise UnsupportedMediaType(
        f"Send the picture's bytes as image/* or application/octet-stream, or a multipart/form-data form with the file "
        f"in {form_fields[0]} ({given} came)."
    )


@dataclass(frozen=True)
class FormFile:
    """The one file of a form, still where the form's reader put it.

    Attributes:
        file: The file; a large one is on the disk.
        field: The form field's name.
        form: The form's other fields.
    """

    file: FileStorage
    field: str
    form: dict[str, str]


def file_in_form(request: Request, form_fields: tuple[str, ...]) -> FormFile:
    """The file in the first of ``form_fields`` that the form has.

    Raises:
        InvalidField: no file, several, or a field twice.
    """
    request.max_form_parts = MAX_FORM_PARTS
    unknown = sorted(set(request.files) - set(form_fields))
    if unknown:
        raise InvalidField.of(unknown[0][:100], "is not a known file field")
    files = [(name, file) for name in form_fields for file in request.files.getlist(name)]
    if not files:
        raise InvalidField.of(form_fields[0], "is required: a file in the form")
    if len(files) > 1:
        raise InvalidField.of(files[1][0], "only one file is taken")
    name, file = files[0]
    form: dict[str, str] = {}
    for key, values in request.form.lists():
        if len(values) > 1:
            raise InvalidField.of(key[:100], "is given twice")
        form[key] = values[0]
    return FormFile(file, name, form)


def _from_form(request: Request, form_fields: tuple[str, ...]) -> Upload:
    found = file_in_form(request, form_fields)
    data = found.file.read()
    if not data:
        raise InvalidField.of(found.field, "is an empty file")
    return Upload(data, found.field, found.form)
