"""What a caller can be told of the base models: sizes, weights, training presets. No torch."""

from __future__ import annotations

from enlight.dreambooth_api.bases import SIZE_MULTIPLE_PX, BaseCatalogue
from enlight.dreambooth_api.requests import Base
from enlight.dreambooth_api.schemas import BaseModelList, BaseModelView, PresetView
from enlight.dreambooth_api.training_presets import SEED_ONLY, load_presets
from enlight.servicekit.errors import InternalError


def list_bases(catalogue: BaseCatalogue, *, default: str) -> BaseModelList:
    """Every base that requests may name; ``default`` (any of its names) is the one of a request that names none."""
    return BaseModelList(
        default=catalogue.resolve(default, field="default").name,
        base_models=[_view(catalogue, base) for base in catalogue.bases().values()],
    )


def _view(catalogue: BaseCatalogue, base: Base) -> BaseModelView:
    recommended: str | None
    problem: str | None
    try:
        known = load_presets(base)
        recommended, problem = known.recommended, None
    except InternalError as error:
        # One base's broken file must not hide the others.
        known, recommended, problem = SEED_ONLY, None, error.message
    return BaseModelView(
        name=base.name,
        aliases=catalogue.aliases(base.name),
        revision=base.revision,
        weights_here=catalogue.has_weights(base),
        native_size_px=base.native_size_px,
        min_size_px=base.min_size_px,
        max_size_px=base.max_size_px,
        size_multiple_px=SIZE_MULTIPLE_PX,
        default_steps=base.default_steps,
        presets=[
            PresetView(name=name, description=preset.description, parameters=preset.said())
            for name, preset in known.presets.items()
        ],
        recommended_preset=recommended,
        presets_error=problem,
    )
