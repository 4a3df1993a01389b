"""From the body of a training route to a `TrainingRequest`: defaults, photos and the base model are settled here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from enlight.dreambooth_api.bases import BaseCatalogue, check_size
from enlight.dreambooth_api.requests import Base, TrainingRequest
from enlight.dreambooth_api.schemas import TrainBody, TrainingBody
from enlight.dreambooth_api.settings import Settings
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.images import decode_base64, decode_image

_T = TypeVar("_T")

FEW_PHOTOS = 3
RARE_WORDS = frozenset({"sks", "zwx", "ohwx"})
"""Words that name a subject in DreamBooth prompts (Ruiz et al. 2022, section 4.1); the class prompt goes without."""


@dataclass(frozen=True)
class CheckedTraining:
    """A training that may start: every photo was decoded once, the base model's weights are here."""

    request: TrainingRequest
    photos: tuple[bytes, ...]
    """The uploaded files, as they came."""
    warnings: tuple[str, ...]


class TrainingChecker:
    """Checks training bodies against the settings and the base models of this machine."""

    def __init__(self, settings: Settings, catalogue: BaseCatalogue) -> None:
        self._settings = settings
        self._catalogue = catalogue

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
            max_training_steps=body.MAX_TRAINING_STEPS,
            resolution=body.RESOLUTION,
            train_batch_size=body.TRAIN_BATCH_SIZE,
            learning_rate=body.LR,
            lr_scheduler=body.LR_SCHEDULER,
            lr_warmup_steps=body.LR_WARMUP_STEPS,
            gradient_accumulation_steps=body.GRADIENT_ACCUMULATION_STEPS,
        )
        return self._check(v1, _SEED_NAMES)

    def from_training_body(self, body: TrainingBody) -> CheckedTraining:
        """Checks the body of ``/v1/trainings``; raises as `from_train_body`."""
        return self._check(body, {})

    def _check(self, body: TrainingBody, wire_names: dict[str, str]) -> CheckedTraining:
        def wire(field: str) -> str:
            return wire_names.get(field, field)

        settings = self._settings
        self._check_length(body.instance_prompt, wire("instance_prompt"))
        self._check_length(body.class_prompt or "", wire("class_prompt"))
        base = self._base(body.base_model, wire("base_model"))
        resolution_px = body.resolution or base.native_size_px
        check_size(base, resolution_px, field=wire("resolution"))
        photos = _decode_photos(body.photos, wire("photos"))

        prior_preservation = _chosen(body.prior_preservation, settings.prior_preservation)
        class_prompt = body.class_prompt or settings.class_prompt or _without_rare_word(body.instance_prompt)
        if prior_preservation and not class_prompt:
            raise InvalidField.of(wire("class_prompt"), "prior preservation needs a class prompt, such as `a chair`")
        lora_rank = body.lora_rank or settings.lora_rank
        request = TrainingRequest(
            model_id=body.model_id,
            base_name=base.name,
            instance_prompt=body.instance_prompt,
            photos=(),
            max_training_steps=body.max_training_steps,
            resolution_px=resolution_px,
            train_batch_size=body.train_batch_size,
            learning_rate=body.learning_rate,
            lr_scheduler=body.lr_scheduler,
            lr_warmup_steps=body.lr_warmup_steps,
            gradient_accumulation_steps=body.gradient_accumulation_steps,
            seed=_chosen(body.seed, settings.training_seed),
            kind=body.kind or settings.training_kind,
            lora_rank=lora_rank,
            lora_alpha=body.lora_alpha or lora_rank,
            prior_preservation=prior_preservation,
            prior_loss_weight=_chosen(body.prior_loss_weight, settings.prior_loss_weight),
            class_prompt=class_prompt if prior_preservation else "",
            num_class_images=_chosen(body.num_class_images, settings.num_class_images) if prior_preservation else 0,
            train_text_encoder=_chosen(body.train_text_encoder, settings.train_text_encoder),
            max_grad_norm=settings.max_grad_norm,
        )
        return CheckedTraining(request, photos, _warnings(photos))

    def _check_length(self, prompt: str, field: str) -> None:
        if len(prompt) > self._settings.max_prompt_chars:
            raise InvalidField.of(field, f"must have at most {self._settings.max_prompt_chars} characters")

    def _base(self, name: str | None, field: str) -> Base:
        base = self._catalogue.resolve(name or self._settings.default_base_model, field=field)
        self._catalogue.require_weights(base)
        return base


_SEED_NAMES = {
    "instance_prompt": "INSTANCE_PROMPT",
    "class_prompt": "CLASS_PROMPT",
    "photos": "IMAGE_LIST",
    "base_model": "MODEL_NAME",
    "resolution": "RESOLUTION",
}


def _chosen(asked: _T | None, default: _T) -> _T:
    return default if asked is None else asked


def _decode_photos(encoded: Sequence[str], field: str) -> tuple[bytes, ...]:
    photos = []
    for index, text in enumerate(encoded):
        photo_field = f"{field}[{index}]"
        photo = decode_base64(text, photo_field)
        # Decoded in full and thrown away: the trainer decodes again, but a truncated photo must be refused now.
        decode_image(photo, photo_field)
        photos.append(photo)
    return tuple(photos)


def _warnings(photos: Sequence[bytes]) -> tuple[str, ...]:
    if len(photos) < FEW_PHOTOS:
        return (f"Only {len(photos)} photo{'s' if len(photos) > 1 else ''}: 5 to 20 give a better model.",)
    return ()


def _without_rare_word(prompt: str) -> str:
    return " ".join(word for word in prompt.split() if word.lower() not in RARE_WORDS)
