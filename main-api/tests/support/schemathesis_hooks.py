"""What schemathesis is told besides the document: how its requests get deep enough, and one more check.

The program loads this module by its name. ``FUZZING_KEY_ID`` is the id of the key that it uses.
"""

from __future__ import annotations

import base64
import os
import re
import zlib
from typing import Any, TypeAlias

import schemathesis
from schemathesis import Case, CheckContext, HookContext
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.transport import Response

from enlight.servicekit.errors import error_classes
from enlight.servicekit.schemas import EXAMPLE_PICTURE

AnyCase: TypeAlias = "Case[Any]"
MAX_TEXT_CHARS = 2000
"""What the services take by default. The document says what they can be set to, which takes long to generate."""
_PICTURE = base64.b64decode(EXAMPLE_PICTURE)
_PICTURE_FIELDS = {
    "input_image",
    "image",
    "image[]",
    "mask",
    "input_string",
    "file",
    "photos",
    "IMAGE_LIST",
    "init_images",
}
_FIELDS_OF_THE_MACHINE = {"base_model", "MODEL_NAME", "preset", "resolution", "RESOLUTION", "size", "width", "height"}
"""Optional ones that the schema says little of: which values they have depends on the base models that there are."""
_SCHEMAS = "#/components/schemas/"
_THINGS = {
    "ModelView": "Model",
    "TrainingJobView": "Training",
    "KeyView": "Key",
    "DeliveryView": "Delivery",
    "PictureView": "Picture",
    "FileView": "File",
    "FineTuningView": "FineTuningJob",
}
_OPENAI_PREFIXES = ("/v1/images/", "/v1/files", "/v1/fine_tuning/")
"""Paths with OpenAI's errors."""
_FASTAPI_PREFIXES = ("/sdapi/v1/", "/api/remove")
"""Paths with the errors of servers that are made with FastAPI."""
_FILE_IS_MISSING = re.compile("in body - object with (only|all) required properties")
_STATUSES = {error.code: error.status for error in error_classes()}


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    """Shortens the longest texts, and calls views as the paths call them: schemathesis takes a `model_id` for the id of
    a schema `Model`, and leaves out what needs one while there is none."""
    schemas = raw_schema["components"]["schemas"]
    for view, thing in _THINGS.items():
        schemas[thing] = schemas.pop(view)
    references = {f"{_SCHEMAS}{view}": f"{_SCHEMAS}{thing}" for view, thing in _THINGS.items()}
    parts: list[Any] = [raw_schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            if part.get("maxLength", 0) > MAX_TEXT_CHARS:
                part["maxLength"] = MAX_TEXT_CHARS
            if part.get("$ref") in references:
                part["$ref"] = references[part["$ref"]]
            parts += part.values()
        elif isinstance(part, list):
            parts += part


@schemathesis.hook
def before_call(context: HookContext, case: AnyCase, kwargs: dict[str, Any]) -> None:
    """Makes three of four requests better than a schema can, and keeps the key that all are sent with."""
    if case.path_parameters.get("key_id") == os.environ["FUZZING_KEY_ID"]:
        case.path_parameters["key_id"] = "0" * 16
    if zlib.crc32(repr(case.body).encode(errors="replace")) % 4 == 0:
        return
    is_meant_well = case.meta is not None and case.meta.generation.mode.is_positive
    if is_meant_well:
        case.headers.pop("X-Webhook-URL", None)
    if isinstance(case.body, bytes):
        case.body = _PICTURE
    elif isinstance(case.body, dict):
        fields = {
            name: _with_pictures(value) if name in _PICTURE_FIELDS else value for name, value in case.body.items()
        }
        case.body = _good_fields(fields) if is_meant_well else fields


@schemathesis.hook
def filter_failure(context: HookContext, failure: Failure, case: AnyCase, response: Response) -> bool:
    """Whether it is one: a form with its file under the other name is as valid. schemathesis negates one choice of an
    `anyOf`, and cannot see that the other holds, for a file's bytes are no JSON."""
    files = {"file", "image", "image[]"} & set(case.body) if isinstance(case.body, dict) else set()
    is_valid_form = case.media_type == "multipart/form-data" and len(files) == 1
    return not (
        is_valid_form and isinstance(failure, AcceptedNegativeData) and _FILE_IS_MISSING.search(failure.message)
    )


@schemathesis.check
def errors_are_the_suites(ctx: CheckContext, response: Response, case: AnyCase) -> None:
    """Every error has a code of the tree, with that code's status: no 5xx but those that are foreseen."""
    # 414 is the server's own; an answer to HEAD has no body.
    if response.status_code < 400 or response.status_code == 414 or case.method == "HEAD":
        return
    if case.path.startswith(_FASTAPI_PREFIXES):
        assert isinstance(response.json()["detail"], list if response.status_code == 422 else str)
        return
    told = response.json()["error"]
    if case.path.startswith(_OPENAI_PREFIXES):
        assert set(told) == {"message", "type", "param", "code"}
        assert (told["type"] == "server_error") == (response.status_code >= 500)
        return
    code = told["code"]
    assert _STATUSES.get(code) == response.status_code, f"{code} with the status {response.status_code}"


def _good_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Without what depends on the machine; to JSON Schema 1.0 is an integer, to the suite it is not."""
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in fields.items()
        if name not in _FIELDS_OF_THE_MACHINE
    }


def _with_pictures(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_pictures(item) for item in value]
    if isinstance(value, bytes):
        return _PICTURE
    return EXAMPLE_PICTURE if isinstance(value, str) else value
