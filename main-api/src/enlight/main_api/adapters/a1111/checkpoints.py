"""Models as A1111's clients see them: base models and the tenant's trained models are checkpoints, trained ones LoRAs
as well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.main_api.adapters.a1111.choices import Choices
from enlight.main_api.adapters.a1111.prompts import read_marks
from enlight.main_api.keys.tenants import Caller
from enlight.main_api.models.lookup import ModelLookup
from enlight.main_api.models.service import ModelsService
from enlight.servicekit.errors import InvalidField, NotFound

_PAGE = 100


@dataclass(frozen=True)
class ChosenModel:
    """What a request's pictures are made with."""

    name: str
    prompt: str
    """Without the marks that picked the model."""


class Checkpoints:
    """Finds models by their titles, which are their names.

    Args:
        catalogue: Base models.
        models: Trained models.
        lookup: Their names.
        choices: What keys chose.
        default: The base model of keys that chose none.
    """

    def __init__(
        self,
        catalogue: BaseCatalogue,
        models: ModelsService,
        lookup: ModelLookup,
        choices: Choices,
        *,
        default: str,
    ) -> None:
        self._catalogue = catalogue
        self._models = models
        self._lookup = lookup
        self._choices = choices
        self._default = default

    def bases(self) -> list[str]:
        """Base models whose weights are on this machine."""
        return [name for name, base in self._catalogue.bases().items() if self._catalogue.has_weights(base)]

    def trained(self, caller: Caller) -> Iterator[str]:
        """The tenant's models that pictures can be made with, by name."""
        after: str | None = None
        more = True
        while more:
            page, more = self._models.list(caller.tenant, limit=_PAGE, after=after)
            yield from (facts.named.name for facts in page if facts.state == "ready")
            after = page[-1].named.name if page else None

    def current(self, caller: Caller) -> str:
        """The model of a request that names none."""
        return self._choices.of(caller) or self._default

    def choose(self, caller: Caller, title: str) -> None:
        """Makes it the model of the key's later requests. Raises: NotFound."""
        self._check(caller, title)
        self._choices.choose(caller, title)

    def of_request(self, caller: Caller, prompt: str, title: str | None) -> ChosenModel:
        """What a request's pictures are made with: what its prompt picks, else ``title``, else what the key chose.

        Raises:
            NotFound: there is no such model.
            InvalidField: two are named, or nothing is left of the prompt.
        """
        marked = read_marks(prompt)
        if not marked.text:
            raise InvalidField.of("prompt", "must not be empty")
        if marked.lora is not None and title is not None and "/" not in title and title != marked.lora:
            raise InvalidField.of("prompt", f"picks {marked.lora}, and sd_model_checkpoint another model, {title}")
        name = marked.lora or title or self.current(caller)
        self._check(caller, name)
        return ChosenModel(name, marked.text)

    def _check(self, caller: Caller, name: str) -> None:
        try:
            if "/" in name:
                self._catalogue.resolve(name, field="sd_model_checkpoint")
            else:
                self._lookup.bucket_id(caller.tenant, name)
        except (NotFound, InvalidField):
            raise NotFound(
                f"Model not found: {name[:200]}. GET /sdapi/v1/sd-models lists those that you have."
            ) from None
