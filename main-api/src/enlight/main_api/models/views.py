"""What ``/v1/models`` takes and gives. List and rows have the shape of OpenAI's, so that its clients read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from enlight.dreambooth_api.schemas import ModelId, Prompt
from enlight.main_api.models.service import ModelDetails, ModelFacts, Removal, VersionFacts
from enlight.main_api.workers.views import ModelCopyView
from enlight.servicekit.schemas import Answer, StrictModel

Copies = Mapping[str, Sequence[ModelCopyView]]
"""By bucket id."""
_Name = Annotated[str, StringConstraints(max_length=200)]


class ModelPath(BaseModel):
    """Path of one model."""

    model_id: _Name = Field(description="The tenant's name of the model.")


class ModelListQuery(BaseModel):
    """Query of the list of models."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=100)] = 100
    after: _Name | None = Field(None, description="Models whose names come after this one: the last `last_id`.")


class RenameBody(StrictModel):
    """``POST /v1/models/<model_id>/rename``."""

    name: ModelId


class ExportQuery(BaseModel):
    """Query of an export."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["zip", "safetensors"] = Field(
        "zip", description="`safetensors` is for LoRAs, as diffusers reads it."
    )
    version: _Name | None = Field(None, description="Omitted: the current one.")


class ImportQuery(BaseModel):
    """Query of an import."""

    model_config = ConfigDict(extra="forbid")

    name: ModelId
    base_model: _Name | None = Field(None, description="For a safetensors file; a zip says it.")
    instance_prompt: Prompt | None = Field(None, description="For a safetensors file; a zip says it.")


class VersionView(Answer):
    """One version of a model."""

    version: str
    created_at: datetime
    kind: Literal["full", "lora"]
    base_model: str
    base_revision: str | None
    size_bytes: int
    current: bool


class ModelView(Answer):
    """One model."""

    id: str = Field(description="The tenant's name of the model.")
    object: Literal["model"] = "model"
    created: int = Field(description="When the name was first used, in seconds since 1970.")
    owned_by: str = Field(description="The tenant.")
    state: Literal["ready", "empty", "damaged"] = Field(
        description="`empty`: no training of it succeeded yet; `damaged`: it cannot be read from the bucket."
    )
    version: str | None
    kind: Literal["full", "lora"] | None
    base_model: str | None
    size_bytes: int | None = Field(description="Of the current version.")
    last_used_at: datetime | None = Field(description="Of the last pictures, exact to a minute.")
    cached_on: list[ModelCopyView] = Field(description="Where versions of it are at hand, on machines that generate.")


class ModelDetailsView(ModelView):
    """One model, and what it was trained on."""

    instance_prompt: str | None
    parameters: dict[str, Any] | None = Field(description="Of the training that made the current version.")
    versions: list[VersionView]
    damaged_versions: list[str]


class ModelList(Answer):
    """Models, by name."""

    object: Literal["list"] = "list"
    data: list[ModelView]
    has_more: bool
    last_id: str | None = Field(description="What `after` takes for the next page.")


class VerifiedGone(Answer):
    """What was looked at after the removal."""

    bucket_objects_left: int
    gateway_copies_in_use: int = Field(description="Versions that are being exported; they go when that ends.")
    name_forgotten: bool = Field(
        description="Whether the cache confirmed it; else another gateway may know the name for some seconds."
    )


class ModelRemovedView(Answer):
    """A model that is gone."""

    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True
    verified: VerifiedGone


def model_view(facts: ModelFacts, copies: Copies) -> ModelView:
    """A row of the list."""
    return ModelView(**_row(facts, copies))


def details_view(details: ModelDetails, copies: Copies) -> ModelDetailsView:
    """Everything about a model."""
    current = details.facts.current
    return ModelDetailsView(
        **_row(details.facts, copies),
        instance_prompt=details.instance_prompt,
        parameters=None if details.parameters is None else dict(details.parameters),
        versions=[_version_view(each, current) for each in details.versions],
        damaged_versions=details.damaged_versions,
    )


def list_view(models: list[ModelFacts], copies: Copies, *, has_more: bool) -> ModelList:
    """A page."""
    rows = [model_view(facts, copies) for facts in models]
    return ModelList(data=rows, has_more=has_more, last_id=rows[-1].id if rows else None)


def removed_view(removal: Removal) -> ModelRemovedView:
    """What a removal did."""
    return ModelRemovedView(
        id=removal.name,
        verified=VerifiedGone(
            bucket_objects_left=removal.bucket_objects_left,
            gateway_copies_in_use=removal.gateway_copies_in_use,
            name_forgotten=removal.name_forgotten,
        ),
    )


def _row(facts: ModelFacts, copies: Copies) -> dict[str, Any]:
    current = facts.current
    return {
        "id": facts.named.name,
        "created": int(facts.named.created_at.timestamp()),
        "owned_by": facts.named.tenant,
        "state": facts.state,
        "version": current.version if current else None,
        "kind": current.kind if current else None,
        "base_model": current.base_name if current else None,
        "size_bytes": current.size_bytes if current else None,
        "last_used_at": facts.named.last_used_at,
        "cached_on": list(copies.get(facts.named.bucket_id, ())),
    }


def _version_view(facts: VersionFacts, current: VersionFacts | None) -> VersionView:
    return VersionView(
        version=facts.version,
        created_at=facts.created_at,
        kind=facts.kind,
        base_model=facts.base_name,
        base_revision=facts.base_revision,
        size_bytes=facts.size_bytes,
        current=current is not None and facts.version == current.version,
    )
