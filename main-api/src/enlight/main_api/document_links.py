"""OpenAPI's links: which answers hold the name of a thing that other operations take in their paths."""

from __future__ import annotations

from collections.abc import Iterator

from enlight.servicekit.http_docs import Document, operations_of

_NAMES = {
    "start_training": ("training_id", "/id"),
    "list_trainings": ("training_id", "/trainings/0/id"),
    "list_pictures": ("picture_id", "/pictures/0/id"),
    "cut_out_picture": ("picture_id", "/id"),
    "upscale_picture": ("picture_id", "/id"),
    "import_model": ("model_id", "/id"),
    "list_models": ("model_id", "/data/0/id"),
    "create_key": ("key_id", "/id"),
    "list_keys": ("key_id", "/keys/0/id"),
    "list_webhook_deliveries": ("delivery_id", "/deliveries/0/id"),
}
"""By operation: the parameter that its good answer has a value for, and where in the answer; of a list the first."""


def add_links(document: Document) -> None:
    """Adds to the good answers, in place, a link to every operation that the name is for."""
    for _, _, operation in operations_of(document):
        if operation["operationId"] in _NAMES:
            parameter, place = _NAMES[operation["operationId"]]
            (good,) = (answer for status, answer in operation["responses"].items() if status.startswith("2"))
            good["links"] = {
                target: {"operationId": target, "parameters": {parameter: f"$response.body#{place}"}}
                for target in _takers(document, parameter)
            }


def _takers(document: Document, parameter: str) -> Iterator[str]:
    for _, _, operation in operations_of(document):
        if any((each["name"], each["in"]) == (parameter, "path") for each in operation.get("parameters", ())):
            yield operation["operationId"]
