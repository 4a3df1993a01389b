"""What the routes that list things answer, in A1111's shapes."""

from __future__ import annotations

from typing import Any

from flask_openapi.types import ResponseDict

from enlight.main_api.adapters.a1111.samplers import AUTOMATIC, KNOWN
from enlight.main_api.adapters.a1111.upscales import NETWORKS, UPSCALERS
from enlight.servicekit.schemas import Answer

NOTHING: dict[str, tuple[str, object]] = {
    "latent-upscale-modes": ("There is no second pass over latents", []),
    "sd-vae": ("Models have their own", []),
    "hypernetworks": ("There are none", []),
    "prompt-styles": ("There are none", []),
    "embeddings": ("There are none", {"loaded": {}, "skipped": {}}),
    "scripts": ("There are none", {"txt2img": [], "img2img": []}),
    "script-info": ("There are none", []),
    "cmd-flags": ("There are none", {}),
    "memory": (
        "Not told: `GET /v1/workers` tells an admin of every process",
        {"ram": {"error": "not told here"}, "cuda": {"error": "not told here"}},
    ),
}
"""Routes that A1111's clients ask, of things that are not here: why, and the answer."""


class SdModel(Answer):
    """A checkpoint."""

    title: str
    model_name: str
    hash: None = None
    sha256: None = None
    filename: str
    config: None = None


class Lora(Answer):
    """A LoRA, for `<lora:name:1>`."""

    name: str
    alias: str
    path: str
    metadata: dict[str, Any]


class Sampler(Answer):
    """A sampler."""

    name: str
    aliases: list[str]
    options: dict[str, Any]


class Scheduler(Answer):
    """How a sampler's steps are spread."""

    name: str
    label: str
    aliases: list[str] | None = None
    default_rho: float | None = None
    need_inner_model: bool | None = None


class Upscaler(Answer):
    """An upscaler."""

    name: str
    model_name: str | None
    model_path: None = None
    model_url: None = None
    scale: float | None


class RealesrganModel(Answer):
    """One of the networks that enlarge."""

    name: str
    path: None = None
    scale: int


class FaceRestorer(Answer):
    """What restores faces."""

    name: str
    cmd_dir: None = None


def list_answer(kind: type[Answer]) -> ResponseDict:
    """How a route is described that answers with a list."""
    schema = {"type": "array", "items": kind.model_json_schema()}
    return {"200": {"description": "The list.", "content": {"application/json": {"schema": schema}}}}


def constant_answer(value: object) -> ResponseDict:
    """How a route is described that always answers the same."""
    return {"200": {"description": "Always this.", "content": {"application/json": {"schema": {"const": value}}}}}


def sd_models(names: list[str]) -> list[dict[str, Any]]:
    """Checkpoints of these names."""
    return [SdModel(title=name, model_name=name, filename=name).model_dump() for name in names]


def loras(names: list[str]) -> list[dict[str, Any]]:
    """LoRAs of these names."""
    return [Lora(name=name, alias=name, path=name, metadata={}).model_dump() for name in names]


def samplers() -> list[dict[str, Any]]:
    """The one that a base model has, under all names that are taken."""
    return [Sampler(name=AUTOMATIC, aliases=list(KNOWN), options={}).model_dump()]


def schedulers() -> list[dict[str, Any]]:
    """The one that a base model has."""
    return [Scheduler(name="automatic", label=AUTOMATIC).model_dump()]


def upscalers() -> list[dict[str, Any]]:
    """Those of `extra-single-image`."""
    return [
        Upscaler(
            name=name, model_name=NETWORKS.get(name), scale=_scale(name) if name in NETWORKS else None
        ).model_dump()
        for name in UPSCALERS
    ]


def realesrgan_models() -> list[dict[str, Any]]:
    """The networks among them."""
    return [RealesrganModel(name=name, scale=_scale(name)).model_dump() for name in NETWORKS]


def face_restorers() -> list[dict[str, Any]]:
    """The one of `gfpgan_visibility`."""
    return [FaceRestorer(name="GFPGAN").model_dump()]


def _scale(name: str) -> int:
    return 2 if "2x" in name else 4
