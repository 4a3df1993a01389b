"""Training presets: named sets of training parameters that suit a base model, read from the base's folder. No torch.

The file, ``training_presets.json``, is read when it is asked for: an edit holds from the next request on, and a broken
file stops nobody who names no preset.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from enlight.dreambooth_api.bases import PRESETS_FILE
from enlight.dreambooth_api.requests import Base
from enlight.dreambooth_api.schemas import SEED_DEFAULTS, TrainingParameters
from enlight.servicekit import strict_json
from enlight.servicekit.errors import InternalError, InvalidField, InvalidRequest
from enlight.servicekit.http_errors import invalid_field
from enlight.servicekit.schemas import StrictModel

_log = logging.getLogger(__name__)

RECOMMENDED = "recommended"
"""An alias, for every base, of the preset that suits it best."""
SEED = "seed"
"""Known for every base: what the seed's ``/train`` does by default."""


def _preset_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,63}", value):
        raise PydanticCustomError("preset_name", "must be 1 to 64 lower-case letters, digits or '-'")
    if value in (RECOMMENDED, SEED):
        raise PydanticCustomError("preset_name", "is a name with a meaning of its own")
    return value


def _one_line(value: str) -> str:
    if not value.strip() or not value.isprintable():
        raise PydanticCustomError("one_line", "must be one line of text")
    return value


PresetName = Annotated[str, AfterValidator(_preset_name)]


class TrainingPreset(TrainingParameters):
    """Values for some fields of ``POST /v1/trainings``, in their types and ranges."""

    description: Annotated[str, AfterValidator(_one_line), Field(max_length=200)]


class PresetsFile(StrictModel):
    """What ``training_presets.json`` holds."""

    recommended: str
    presets: Annotated[dict[PresetName, TrainingPreset], Field(max_length=64)]

    @model_validator(mode="after")
    def _recommended_exists(self) -> PresetsFile:
        if self.recommended not in (SEED, *self.presets):
            raise PydanticCustomError("recommended", "recommended must be the name of one of the presets")
        return self


@dataclass(frozen=True)
class BasePresets:
    """The presets of one base model."""

    presets: Mapping[str, TrainingPreset]
    """By name; ``seed`` is always there."""
    recommended: str


SEED_ONLY = BasePresets(
    {
        SEED: TrainingPreset(
            description="The seed's own defaults, made for Stable Diffusion: the whole U-Net, slowly.",
            kind="full",
            prior_preservation=False,
            train_text_encoder=False,
            **SEED_DEFAULTS.said(),
        )
    },
    recommended=SEED,
)
"""The presets of a base without a file."""


def load_presets(base: Base) -> BasePresets:
    """The presets of ``base``.

    Raises:
        InternalError: its file is broken; the message names the file and the field.
    """
    path = base.folder / PRESETS_FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return SEED_ONLY
    except OSError as error:
        raise _broken(base, f"cannot be read: {error.strerror}") from error
    try:
        file = PresetsFile.model_validate(strict_json.loads(text, what="The file"))
    except InvalidRequest as error:
        raise _broken(base, error.message) from error
    except ValidationError as error:
        raise _broken(base, invalid_field(error).message) from error
    return BasePresets({**file.presets, **SEED_ONLY.presets}, file.recommended)


def find_preset(base: Base, name: str, *, field: str) -> tuple[str, TrainingPreset]:
    """The preset of ``base`` that a caller means by ``name``, and its own name.

    Raises:
        InvalidField: there is none; the message names ``field`` and lists what there is.
        InternalError: the file of the base's presets is broken.
    """
    known = SEED_ONLY if name == SEED else load_presets(base)
    own_name = known.recommended if name == RECOMMENDED else name
    preset = known.presets.get(own_name)
    if preset is None:
        names = ", ".join([RECOMMENDED, *sorted(known.presets)])
        raise InvalidField.of(field, f"{name[:100]!r} is not a preset of {base.name}; it has: {names}")
    return own_name, preset


def _broken(base: Base, problem: str) -> InternalError:
    # The log names the folder; what leaves the service does not.
    _log.error("%s: %s", base.folder / PRESETS_FILE, problem)
    return InternalError(f"{PRESETS_FILE} of the base model {base.name} is broken: {problem}")
