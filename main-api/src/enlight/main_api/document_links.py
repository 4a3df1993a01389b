"""OpenAPI's links: which answers hold the name of a thing that other operations take in their paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from enlight.servicekit.http_docs import Document, operations_of

_NAMES: Mapping[str, Mapping[str, str]] = {
    "start_training": {"training_id": "/id"},
    "retry_training": {"training_id": "/id"},
    "show_training": {"training_id": "/id", "step": "/samples/0/step"},
    "list_trainings": {"training_id": "/trainings/0/id"},
    "create_fine_tuning_job": {"fine_tuning_job_id": "/id"},
    "list_fine_tuning_jobs": {"fine_tuning_job_id": "/data/0/id"},
    "upload_file": {"file_id": "/id"},
    "list_files": {"file_id": "/data/0/id"},
    "list_pictures": {"picture_id": "/pictures/0/id"},
    "cut_out_picture": {"picture_id": "/id"},
    "upscale_picture": {"picture_id": "/id"},
    "import_model": {"model_id": "/id"},
    "list_models": {"model_id": "/data/0/id"},
    "create_key": {"key_id": "/id"},
    "list_keys": {"key_id": "/keys/0/id"},
    "list_webhook_deliveries": {"delivery_id": "/deliveries/0/id"},
}
"""By operation: the parameters that its good answer has values for, and where in the answer; of a list the first."""


def add_links(document: Document) -> None:
    """Adds to the good answers, in place, a link to every operation that the names are for."""
    for _, _, operation in operations_of(document):
        if operation["operationId"] in _NAMES:
            places = _NAMES[operation["operationId"]]
            parameters = {name: f"$response.body#{place}" for name, place in places.items()}
            (good,) = (answer for status, answer in operation["responses"].items() if status.startswith("2"))
            good["links"] = {
                target: {"operationId": target, "parameters": parameters} for target in _takers(document, set(places))
            }


def _takers(document: Document, names: set[str]) -> Iterator[str]:
    for _, _, operation in operations_of(document):
        if names <= {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}:
            yield operation["operationId"]
