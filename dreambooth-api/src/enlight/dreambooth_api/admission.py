"""What is settled about a generation before the GPU is touched: its base, its model's files, its batch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Protocol

from enlight.dreambooth_api.bases import CATALOGUE, check_size
from enlight.dreambooth_api.batching import BatchKey, BeginsFrom
from enlight.dreambooth_api.init_images import SizeLimits, first_step, fit
from enlight.dreambooth_api.model_cache import CachedModel
from enlight.dreambooth_api.pure.inference import is_guided
from enlight.dreambooth_api.requests import Base, GenerationRequest, InitImage
from enlight.servicekit.errors import InvalidField, NotFound, WeightsUnavailable

SEED_LIMIT = 2**64
"""torch's generators take seeds below this."""


class LeasesModels(Protocol):
    """The part of ``ModelCache`` that admission needs."""

    def lease(self, model_id: str) -> AbstractContextManager[CachedModel]:
        """A trained model's current version on this disk; it stays there as long as the context is open."""
        ...


@dataclass(frozen=True)
class Admitted:
    """A generation that can run."""

    base: Base
    cached: CachedModel | None
    """The trained model's files; None for a plain base."""
    key: BatchKey
    lease: ExitStack
    """Closing it lets go of the files."""
    init_image: InitImage | None = None
    """Of the size that is made."""

    @property
    def model_version(self) -> str | None:
        """Version of the trained model."""
        return self.cached.manifest.version if self.cached else None


class Admission:
    """Checks generations and brings their models to this machine. Any thread may use it.

    Args:
        bases: Every base model that may be used, by canonical name.
        models: Where trained models come from.
    """

    def __init__(self, bases: Mapping[str, Base], models: LeasesModels) -> None:
        self._bases = bases
        self._models = models

    def admit(self, request: GenerationRequest) -> Admitted:
        """Waits until the model's files are on this machine, and holds them there.

        Raises:
            InvalidField: a value does not suit the base model.
            NotFound: there is no such model.
            WeightsUnavailable: the base model is not on this machine; the message says what to do.
            CorruptModel, StorageUnavailable, StorageFull: the trained model cannot be had.
        """
        _check_numbers(request)
        with ExitStack() as lease:
            cached: CachedModel | None = None
            if "/" in request.model_id:
                base = self._base(request.model_id)
            else:
                cached = lease.enter_context(self._models.lease(request.model_id))
                base = self._base_of(cached)
            width_px, height_px = (
                base.native_size_px if size_px is None else size_px for size_px in (request.width_px, request.height_px)
            )
            for size_px, field in zip((width_px, height_px), request.size_fields, strict=True):
                check_size(base, size_px, field=field)
            steps = request.steps or base.default_steps
            init, begins_from, begins_at = request.init_image, _begins_from(request.init_image), 0
            if init is not None:
                begins_at = first_step(init.strength, steps)
                limits = SizeLimits(base.min_size_px, base.max_size_px)
                init = fit(init, limits, width_px=request.width_px, height_px=request.height_px)
                height_px, width_px = init.rgb.shape[:2]
            key = BatchKey(
                base_name=base.name,
                model_version=version_name(cached) if cached else None,
                width_px=width_px,
                height_px=height_px,
                steps=steps,
                guided=is_guided(request.guidance_scale),
                begins_from=begins_from,
                first_step=begins_at,
            )
            return Admitted(base, cached, key, lease.pop_all(), init)

    def _base(self, name: str) -> Base:
        base = self._bases.get(name)
        if base is not None and (base.folder / "model_index.json").is_file():
            return base
        if base is None and name not in {entry.name for entry in CATALOGUE}:
            raise NotFound(f"There is no model {name!r}.", details={"model_id": name})
        raise WeightsUnavailable(
            f"The base model {name} is not on this machine: run "
            f"`python -m enlight.dreambooth_api.fetch_base {name}`, or put its folder (diffusers' layout, "
            "safetensors) into DREAMBOOTH_API_MODELS_FOLDER.",
            details={"base": name},
        )

    def _base_of(self, cached: CachedModel) -> Base:
        manifest = cached.manifest
        base = self._base(manifest.base_name)
        if None not in (manifest.base_revision, base.revision) and manifest.base_revision != base.revision:
            raise WeightsUnavailable(
                f"The model {manifest.model_id} was trained on revision {manifest.base_revision} of "
                f"{base.name}; this machine has {base.revision}. Fetch it (DREAMBOOTH_API_BASE_REVISIONS, "
                f"`python -m enlight.dreambooth_api.fetch_base {base.name}`), or train the model again.",
                details={"base": base.name, "revision": manifest.base_revision},
            )
        return base


def version_name(cached: CachedModel) -> str:
    """``model_id@version``."""
    return f"{cached.manifest.model_id}@{cached.manifest.version}"


def _begins_from(init: InitImage | None) -> BeginsFrom:
    if init is None:
        return "noise"
    return "image" if init.mask is None else "masked image"


def _check_numbers(request: GenerationRequest) -> None:
    """The HTTP routes check ranges too; here it protects the process that all requests share."""
    if request.count < 1:
        raise InvalidField.of("num_images", "must be at least 1")
    if request.steps is not None and request.steps < 1:
        raise InvalidField.of("num_inference_steps", "must be at least 1")
    if not math.isfinite(request.guidance_scale):
        raise InvalidField.of("guidance_scale", "must be finite")
    if request.init_image is not None and not 0 < request.init_image.strength <= 1:
        raise InvalidField.of("strength", "must be above 0 and at most 1")
    if not 0 <= request.seed <= SEED_LIMIT - request.count:
        raise InvalidField.of("seed", f"must be at least 0 and, plus the number of images, at most {SEED_LIMIT}")
