"""From OpenAI's body of a fine-tuning job to the body of a training, and what is told back of it.

What OpenAI has a place for is taken from there; everything else that a training can be told stands, as text, in
``metadata``, under the names of ``POST /v1/trainings``, and numbers and truths also in the hyperparameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from enlight.dreambooth_api.schemas import BatchSize, ModelId, Seed, TrainingParameters
from enlight.dreambooth_api.training_presets import RECOMMENDED
from enlight.main_api.adapters.openai.errors import renamed
from enlight.main_api.adapters.openai.files.views import FileId
from enlight.main_api.trainings.samples import TrainingJobBody
from enlight.servicekit import strict_json
from enlight.servicekit.errors import InvalidField, InvalidRequest
from enlight.servicekit.http_errors import invalid_field
from enlight.servicekit.schemas import StrictModel

MethodName = Literal["supervised", "dreambooth"]
ParametersOf: TypeAlias = Callable[[TrainingJobBody], Mapping[str, Any]]
"""Every parameter of a training, those included that its body leaves to preset and service."""

_NAMES = {"base_model": "model", "model_id": "suffix", "photos": "training_file", "seed": "seed"}
"""By the field of a training: the parameter that says it."""
_IN_METADATA = frozenset(TrainingJobBody.model_fields) - set(_NAMES)
_TEXTS = frozenset({"instance_prompt", "class_prompt", "sample_prompt", "preset", "kind", "lr_scheduler"})


def _no_auto(value: object) -> object:
    return None if value == "auto" else value


def _unsupported(what: str) -> BeforeValidator:
    def refuse(value: object) -> None:
        if value:
            raise PydanticCustomError("unsupported", f"is not supported: {what}")

    return BeforeValidator(refuse, json_schema_input_type=None)


_Epochs = Annotated[int, Field(ge=1, le=10_000)]
_Multiplier = Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)]


class Hyperparameters(TrainingParameters):
    """OpenAI's three, and the names of ``POST /v1/trainings``."""

    n_epochs: Annotated[
        _Epochs | None, BeforeValidator(_no_auto, json_schema_input_type=_Epochs | Literal["auto"] | None)
    ] = Field(None, description="How often each photo is seen; `auto`: as `max_training_steps` of the preset.")
    batch_size: Annotated[
        BatchSize | None, BeforeValidator(_no_auto, json_schema_input_type=BatchSize | Literal["auto"] | None)
    ] = Field(None, description="The same as `train_batch_size`; `auto`: the preset's.")
    learning_rate_multiplier: Annotated[
        _Multiplier | None, BeforeValidator(_no_auto, json_schema_input_type=_Multiplier | Literal["auto"] | None)
    ] = Field(None, description="Times the preset's learning rate; `auto`: 1.")


class MethodSettings(StrictModel):
    """Settings of a method."""

    hyperparameters: Hyperparameters | None = None


class Method(StrictModel):
    """How to train. Both names mean DreamBooth; `supervised` is what OpenAI's clients can say."""

    type: MethodName
    supervised: MethodSettings | None = None
    dreambooth: MethodSettings | None = None

    @model_validator(mode="after")
    def _settings_of_its_type(self) -> Method:
        if (self.supervised if self.type == "dreambooth" else self.dreambooth) is not None:
            raise PydanticCustomError("method", f"holds settings of another type than {self.type}")
        return self


class FineTuningBody(StrictModel):
    """``POST /v1/fine_tuning/jobs``."""

    training_file: FileId = Field(description="Id of an uploaded ZIP of photos.", examples=["file-0123"])
    model: Annotated[str, StringConstraints(max_length=200)] = Field(
        description="The base model to train.", examples=["enlight/pocket"]
    )
    suffix: ModelId | None = Field(
        None,
        description="Name of the trained model; one that there is gets a new version. Omitted: a name is made of the "
        "request.",
    )
    seed: Seed | None = Field(None, description="Omitted: as the service is set.")
    metadata: Annotated[
        dict[
            Annotated[str, StringConstraints(max_length=64)],
            Annotated[str, StringConstraints(max_length=512)],
        ],
        Field(max_length=16),
    ] = Field(
        description="`instance_prompt` must be there; other fields of `POST /v1/trainings` may, as text; `preset` is "
        "`recommended` if it is not. Whatever else is here is kept and told back.",
        examples=[{"instance_prompt": "a sks chair"}],
    )
    hyperparameters: Hyperparameters | None = Field(None, description="In one place: here or in `method`.")
    method: Method | None = None
    validation_file: Annotated[None, _unsupported("a training here has no validation; leave it out")] = Field(
        None, description="Not supported."
    )
    integrations: Annotated[None, _unsupported("trainings are told of by webhooks; leave it out")] = Field(
        None, description="Not supported."
    )


@dataclass
class _Said:
    """What a request says of a training, and by which parameter."""

    values: dict[str, Any] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=lambda: dict(_NAMES))

    def say(self, name: str, value: object, *, param: str) -> None:
        """Raises: InvalidField when it was said already."""
        if name in self.values:
            raise InvalidField.of(param, f"is given by {self.params[name]} already")
        self.values[name] = value
        self.params[name] = param

    @contextmanager
    def own_words(self) -> Iterator[None]:
        """Errors about the training's fields become errors about the request's parameters."""
        try:
            yield
        except ValidationError as error:
            raise renamed(invalid_field(error), self.params) from error
        except InvalidField as error:
            raise renamed(error, self.params) from error


class FineTuning:
    """One request, understood.

    Args:
        body: As it came.
        made_name: Of the model, where the request gives none.

    Raises:
        InvalidField: the request contradicts itself, or a text in its metadata is none of its kind.
    """

    def __init__(self, body: FineTuningBody, *, made_name: str) -> None:
        self._body = body
        self._path, self._hyperparameters = _hyperparameters(body)
        self._said = _Said({"base_model": body.model, "model_id": body.suffix or made_name, "seed": body.seed})
        self._say_metadata()
        self._say_hyperparameters()
        self._said.values.setdefault("preset", RECOMMENDED)

    def told_back(self) -> dict[str, Any]:
        """What the job keeps of the request for those who ask for it."""
        return {
            "training_file": self._body.training_file,
            "method": self._body.method.type if self._body.method else "supervised",
            "hyperparameters": {
                name: getattr(self._hyperparameters, name)
                for name in ("n_epochs", "batch_size", "learning_rate_multiplier")
            },
            "metadata": [{"key": key, "value": value} for key, value in self._body.metadata.items()],
        }

    def training_body(self, photos: list[str], parameters_of: ParametersOf) -> TrainingJobBody:
        """The body of the training. Raises: InvalidField naming the request's parameter."""
        values = {**self._said.values, "photos": photos}
        with self._said.own_words():
            body = TrainingJobBody(**values)
            derived = self._derived(parameters_of(body), len(photos))
            return TrainingJobBody(**values, **derived) if derived else body

    def own_words(self) -> AbstractContextManager[None]:
        """A block in which errors about the training's fields become errors about the request's parameters."""
        return self._said.own_words()

    def _derived(self, parameters: Mapping[str, Any], num_photos: int) -> dict[str, Any]:
        """What OpenAI's words come to beside this preset and with these photos."""
        derived: dict[str, Any] = {}
        asked = self._hyperparameters
        if asked.n_epochs is not None:
            at_once = parameters["train_batch_size"] * parameters["gradient_accumulation_steps"]
            derived["max_training_steps"] = math.ceil(asked.n_epochs * num_photos / at_once)
        if asked.learning_rate_multiplier is not None:
            derived["learning_rate"] = parameters["learning_rate"] * asked.learning_rate_multiplier
        return derived

    def _say_metadata(self) -> None:
        metadata = self._body.metadata
        if "instance_prompt" not in metadata:
            raise InvalidField.of("metadata.instance_prompt", "is required: what names the subject, `a sks chair`")
        for name in sorted(_IN_METADATA & set(metadata)):
            param = f"metadata.{name}"
            text = metadata[name]
            self._said.say(name, text if name in _TEXTS else _value(text, param), param=param)

    def _say_hyperparameters(self) -> None:
        asked = self._hyperparameters
        for name, value in asked.said().items():
            self._said.say(name, value, param=f"{self._path}.{name}")
        if asked.batch_size is not None:
            self._said.say("train_batch_size", asked.batch_size, param=f"{self._path}.batch_size")
        for name, derived in (("n_epochs", "max_training_steps"), ("learning_rate_multiplier", "learning_rate")):
            if getattr(asked, name) is None:
                continue
            param = f"{self._path}.{name}"
            if derived in self._said.values:
                raise InvalidField.of(param, f"cannot be beside {self._said.params[derived]}")
            self._said.params[derived] = param


def _hyperparameters(body: FineTuningBody) -> tuple[str, Hyperparameters]:
    """Where they stand, and what they are."""
    method = body.method
    settings = (method.supervised or method.dreambooth) if method else None
    if settings is None or settings.hyperparameters is None:
        return "hyperparameters", body.hyperparameters or Hyperparameters()
    if body.hyperparameters is not None:
        raise InvalidField.of("hyperparameters", "are given in method already")
    assert method is not None
    return f"method.{method.type}.hyperparameters", settings.hyperparameters


def _value(text: str, param: str) -> bool | int | float:
    """A number or a truth, as JSON writes them. Its kind and range are the training's to judge."""
    try:
        value = strict_json.loads(text)
    except InvalidRequest:
        value = None
    if not isinstance(value, bool | int | float):
        raise InvalidField.of(param, "must be a number, true or false, as text")
    return value
