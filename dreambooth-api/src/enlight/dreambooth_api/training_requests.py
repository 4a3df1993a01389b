"""From the body of a training route to a `TrainingRequest`: defaults, photos and the base model are settled here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from enlight.dreambooth_api.bases import BaseCatalogue, check_size
from enlight.dreambooth_api.photo_looks import PhotoLook, look_at
from enlight.dreambooth_api.photo_preflight import PhotoWarning, photo_warnings
from enlight.dreambooth_api.requests import Base, TrainingRequest
from enlight.dreambooth_api.schemas import (
    SEED_DEFAULTS,
    PhotosCheckBody,
    TrainBody,
    TrainingBody,
    TrainingParameters,
    seed_parameters,
)
from enlight.dreambooth_api.training_defaults import TrainingDefaults
from enlight.dreambooth_api.training_presets import find_preset
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.images import decode_base64, decode_image

RARE_WORDS = frozenset({"sks", "zwx", "ohwx"})
"""Words that name a subject in DreamBooth prompts (Ruiz et al. 2022, section 4.1); the class prompt goes without."""


@dataclass(frozen=True)
class CheckedTraining:
    """A training that may start: every photo was decoded once."""

    request: TrainingRequest
    photos: tuple[bytes, ...]
    """The uploaded files, as they came."""
    warnings: tuple[PhotoWarning, ...]


@dataclass(frozen=True)
class CheckedPhotos:
    """Photos that can be trained on, and what there is to say about them."""

    base_name: str
    resolution_px: int
    looks: tuple[PhotoLook, ...]
    warnings: tuple[PhotoWarning, ...]


class TrainingChecker:
    """Checks training bodies against the settings and the base models of this machine.

    Args:
        settings: What holds where a body says nothing.
        catalogue: The base models that a body may name.
        require_weights: Whether a base model must have its weights on this machine; a gateway does not train.
    """

    def __init__(self, settings: TrainingDefaults, catalogue: BaseCatalogue, *, require_weights: bool = True) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._require_weights = require_weights

    def from_train_body(self, body: TrainBody) -> CheckedTraining:
        """Checks the seed's body.

        Raises:
            InvalidField, InvalidRequest, BrokenImage, UnsupportedImage, ImageTooLarge, WeightsUnavailable
        """
        v1 = TrainingBody(
            model_id=body.OUTPUT_DIR,
            instance_prompt=body.INSTANCE_PROMPT,
            photos=body.IMAGE_LIST,
            base_model=body.MODEL_NAME,
            resolution=body.RESOLUTION,
            **seed_parameters(body).said(),
        )
        return self._check(v1, _SEED_NAMES)

    def from_training_body(self, body: TrainingBody) -> CheckedTraining:
        """Checks the body of ``/v1/trainings``; raises as `from_train_body`, and InternalError when the file of the
        base's presets is broken."""
        return self._check(body, {})

    def parameters_of(self, body: TrainingBody) -> dict[str, Any]:
        """Every parameter that a training of this body has, without a look at its photos. Raises: InvalidField."""
        return self._settle(body, self._base(body.base_model, "base_model"), "preset")[1]

    def from_photos_check_body(self, body: PhotosCheckBody) -> CheckedPhotos:
        """Judges photos as a training of this base at this resolution would. The base's weights need not be here.

        Raises: as `from_train_body`, but for WeightsUnavailable.
        """
        base = self._catalogue.resolve(body.base_model or self._settings.default_base_model, field="base_model")
        resolution_px = body.resolution or base.native_size_px
        check_size(base, resolution_px, field="resolution")
        looks = tuple(look for _, look in _decode_photos(body.photos, "photos", resolution_px))
        warnings = photo_warnings(looks, resolution_px, field="photos")
        return CheckedPhotos(base.name, resolution_px, looks, warnings)

    def _check(self, body: TrainingBody, wire_names: dict[str, str]) -> CheckedTraining:
        def wire(field: str) -> str:
            return wire_names.get(field, field)

        settings = self._settings
        self._check_length(body.instance_prompt, wire("instance_prompt"))
        self._check_length(body.class_prompt or "", wire("class_prompt"))
        base = self._base(body.base_model, wire("base_model"))
        preset_name, parameters = self._settle(body, base, wire("preset"))
        resolution_px = body.resolution or base.native_size_px
        check_size(base, resolution_px, field=wire("resolution"))
        decoded = list(_decode_photos(body.photos, wire("photos"), resolution_px))
        photos, looks = tuple(photo for photo, _ in decoded), [look for _, look in decoded]

        class_prompt = body.class_prompt or settings.class_prompt or _without_rare_word(body.instance_prompt)
        if not parameters["prior_preservation"]:
            class_prompt, parameters["num_class_images"] = "", 0
        elif not class_prompt:
            raise InvalidField.of(wire("class_prompt"), "prior preservation needs a class prompt, such as `a chair`")
        request = TrainingRequest(
            model_id=body.model_id,
            base_name=base.name,
            instance_prompt=body.instance_prompt,
            photos=(),
            resolution_px=resolution_px,
            seed=settings.training_seed if body.seed is None else body.seed,
            class_prompt=class_prompt,
            max_grad_norm=settings.max_grad_norm,
            preset=preset_name,
            **parameters,
        )
        return CheckedTraining(request, photos, photo_warnings(looks, resolution_px, field=wire("photos")))

    def _settle(self, body: TrainingBody, base: Base, preset_field: str) -> tuple[str | None, dict[str, Any]]:
        """The preset's own name, and every parameter: the body before the preset before the service."""
        preset_name, preset = None, TrainingParameters()
        if body.preset is not None:
            preset_name, preset = find_preset(base, body.preset, field=preset_field)
        parameters = _service_parameters(self._settings) | preset.said() | body.said()
        parameters.setdefault("lora_alpha", parameters["lora_rank"])
        return preset_name, parameters

    def _check_length(self, prompt: str, field: str) -> None:
        if len(prompt) > self._settings.max_prompt_chars:
            raise InvalidField.of(field, f"must have at most {self._settings.max_prompt_chars} characters")

    def _base(self, name: str | None, field: str) -> Base:
        base = self._catalogue.resolve(name or self._settings.default_base_model, field=field)
        if self._require_weights:
            self._catalogue.require_weights(base)
        return base


_SEED_NAMES = {
    "instance_prompt": "INSTANCE_PROMPT",
    "class_prompt": "CLASS_PROMPT",
    "photos": "IMAGE_LIST",
    "base_model": "MODEL_NAME",
    "resolution": "RESOLUTION",
}


def _service_parameters(settings: TrainingDefaults) -> dict[str, Any]:
    """Every parameter but lora_alpha, as it is where neither a preset nor a caller says otherwise."""
    as_set = TrainingParameters(
        kind=settings.training_kind,
        lora_rank=settings.lora_rank,
        prior_preservation=settings.prior_preservation,
        prior_loss_weight=settings.prior_loss_weight,
        num_class_images=settings.num_class_images,
        train_text_encoder=settings.train_text_encoder,
    )
    return SEED_DEFAULTS.said() | as_set.said()


def _decode_photos(encoded: Sequence[str], field: str, resolution_px: int) -> Iterator[tuple[bytes, PhotoLook]]:
    """Each photo's file and what it looks like, one at a time: of the pixels of 50 photos only one's are in memory."""
    for index, text in enumerate(encoded):
        photo_field = f"{field}[{index}]"
        photo = decode_base64(text, photo_field)
        # Decoded in full and thrown away: the trainer decodes again, but a truncated photo must be refused now.
        yield photo, look_at(decode_image(photo, photo_field), resolution_px)


def _without_rare_word(prompt: str) -> str:
    return " ".join(word for word in prompt.split() if word.lower() not in RARE_WORDS)
