"""``/v1/models``: a tenant's trained models. Views only translate; another tenant's model is a 404 in all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Response, request
from flask_openapi import APIBlueprint, Tag
from flask_openapi.types import ResponseDict

from enlight.main_api.keys.authentication import current_caller
from enlight.main_api.models.service import ModelsService
from enlight.main_api.models.transfers import ImportNotes, ModelTransfers
from enlight.main_api.models.views import (
    Copies,
    ExportQuery,
    ImportQuery,
    ModelDetailsView,
    ModelList,
    ModelListQuery,
    ModelPath,
    ModelRemovedView,
    ModelView,
    RenameBody,
    details_view,
    list_view,
    model_view,
    removed_view,
)
from enlight.servicekit.errors import UnsupportedMediaType
from enlight.servicekit.http_docs import answer_headers
from enlight.servicekit.schemas import ErrorBody

IMPORT_RULE = "/v1/models/import"
"""The one route here whose body may be large."""

_NO_MODEL: ResponseDict = {"404": ErrorBody}
_REFUSED: ResponseDict = {**_NO_MODEL, "409": ErrorBody}
_MODELS = Tag(name="models", description="Trained models: what there is, and where it goes.")
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_FILE_TYPES = ("application/zip", "application/octet-stream")
_FILE: ResponseDict = {
    "200": {
        "description": "The file.",
        "content": dict.fromkeys(_FILE_TYPES, _BYTES),
        "headers": answer_headers(
            {"Content-Disposition": "The model's name as a file's.", "X-Model-Version": "The version that it is."}
        ),
    }
}
_FILE_BODY: dict[str, Any] = {"required": True, "content": dict.fromkeys(_FILE_TYPES, _BYTES)}


def model_routes(models: ModelsService, transfers: ModelTransfers, copies: Callable[[], Copies]) -> APIBlueprint:
    """``/v1/models``; ``copies``: what the machines that generate have at hand now."""
    routes = APIBlueprint("models", __name__, abp_tags=[_MODELS])

    @routes.get("/v1/models", summary="List models", responses={"200": ModelList})
    def list_models(query: ModelListQuery) -> dict[str, Any]:
        """The tenant's models, by name. OpenAI's clients read this list."""
        found, has_more = models.list(current_caller().tenant, limit=query.limit, after=query.after)
        return list_view(found, copies(), has_more=has_more).model_dump(mode="json")

    @routes.get("/v1/models/<model_id>", summary="Show a model", responses={"200": ModelDetailsView, **_NO_MODEL})
    def show_model(path: ModelPath) -> dict[str, Any]:
        """What it was trained on and how, its versions and sizes, when it was used last, where it is at hand."""
        return details_view(models.show(current_caller().tenant, path.model_id), copies()).model_dump(mode="json")

    @routes.post("/v1/models/<model_id>/rename", summary="Rename a model", responses={"200": ModelView, **_REFUSED})
    def rename_model(path: ModelPath, body: RenameBody) -> dict[str, Any]:
        """Gives the model a name that the tenant uses for no other. Trainings of it that wait or run go on."""
        renamed = models.rename(current_caller().tenant, path.model_id, body.name)
        return model_view(renamed, copies()).model_dump(mode="json")

    @routes.delete("/v1/models/<model_id>", summary="Remove a model", responses={"200": ModelRemovedView, **_REFUSED})
    def remove_model(path: ModelPath) -> dict[str, Any]:
        """Removes all versions from the bucket, the gateway's disk and the database, and says what was seen to be gone.
        Copies on machines that generate can no longer be named, and leave as room is needed. Trainings, with their
        photos, are removed on `/v1/trainings`. If it fails on the way, ask again."""
        return removed_view(models.remove(current_caller().tenant, path.model_id)).model_dump(mode="json")

    @routes.get("/v1/models/<model_id>/export", summary="Take a model away", responses=_FILE | _NO_MODEL)
    def export_model(path: ModelPath, query: ExportQuery) -> Response:
        """The model's files with their manifest as a zip, or a LoRA as one safetensors file for diffusers."""
        export = transfers.export(current_caller().tenant, path.model_id, query.format, version=query.version)
        response = Response(export.chunks, content_type=export.content_type)
        response.call_on_close(export.close)
        if export.size_bytes is not None:
            response.content_length = export.size_bytes
        response.headers["Content-Disposition"] = f'attachment; filename="{export.filename}"'
        response.headers["X-Model-Version"] = export.version
        return response

    @routes.post(
        IMPORT_RULE,
        summary="Bring a model",
        responses={"201": ModelDetailsView, "409": ErrorBody},
        request_body=_FILE_BODY,
    )
    def import_model(query: ImportQuery) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Takes the bytes of an exported zip, or of a LoRA's safetensors file with `base_model` in the query. Names,
        sizes, hashes, types and shapes are compared with the base model; pickles are not read."""
        if request.mimetype not in _FILE_TYPES:
            raise UnsupportedMediaType(f"Send the file's bytes as {' or '.join(_FILE_TYPES)}.")
        tenant = current_caller().tenant
        notes = ImportNotes(query.base_model, query.instance_prompt or "")
        transfers.receive(tenant, query.name, request.stream, length_bytes=request.content_length, notes=notes)
        body = details_view(models.show(tenant, query.name), copies()).model_dump(mode="json")
        return body, 201, {"Location": f"/v1/models/{query.name}"}

    return routes
