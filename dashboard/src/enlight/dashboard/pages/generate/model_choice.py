"""Which models one can choose from, and what is known of the one that was chosen."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from enlight.dashboard.main_api.client import ApiOfSomebody
from enlight.servicekit.errors import NotFound

_TROUBLES = {"empty": "Its training has not ended yet.", "damaged": "It cannot be read. Train it again."}
PAGES_READ = 20
"""Of 100 models each: the list is by name, and shown by age."""


@dataclass(frozen=True)
class Choices:
    """What there is."""

    trained: list[dict[str, Any]]
    """That can be used, newest first; each with ``created_at``."""
    known_bases: list[dict[str, Any]]
    """As ``GET /v1/base-models`` lists them."""
    default_base: str

    @property
    def bases(self) -> list[dict[str, Any]]:
        """Base models that can be used."""
        return [base for base in self.known_bases if base["weights_here"]]

    @property
    def names(self) -> list[str]:
        """Of all, in the order in which they are shown."""
        return [model["id"] for model in self.trained] + [base["name"] for base in self.bases]

    @property
    def first(self) -> str:
        """The one to begin with."""
        return self.trained[0]["id"] if self.trained else self.default_base


@dataclass(frozen=True)
class Chosen:
    """One model."""

    name: str
    base: dict[str, Any]
    """As ``GET /v1/base-models`` lists it; what is not known of one that is not listed is as of the default one."""
    subject: str | None = None
    """The prompt that it was trained with; None: a base model."""
    trouble: str = ""
    """Why it makes no pictures now; empty: it does."""

    @property
    def is_base(self) -> bool:
        """Whether nobody trained it here."""
        return "/" in self.name


def choices(api: ApiOfSomebody) -> Choices:
    """Everything that somebody can make pictures with."""
    found: list[dict[str, Any]] = []
    after: str | None = None
    for _ in range(PAGES_READ):
        page = api.get("/v1/models", {"after": after})
        found += [model for model in page["data"] if model["state"] == "ready"]
        after = page["last_id"]
        if not page["has_more"]:
            break
    found.sort(key=lambda model: (-model["created"], model["id"]))
    for model in found:
        model["created_at"] = datetime.fromtimestamp(model["created"], UTC).isoformat()
    known = api.get("/v1/base-models")
    return Choices(found, known["base_models"], known["default"])


def choose(api: ApiOfSomebody, name: str, there: Choices) -> Chosen:
    """What is known of a model. Raises NotFound: there is none of this name."""
    bases = {called: base for base in there.known_bases for called in (base["name"], *base["aliases"])}
    if "/" in name:  # a trained model's name holds none
        if name not in bases:
            raise NotFound(f"There is no base model {name[:100]!r}.")
        base = bases[name]
        trouble = "" if base["weights_here"] else "Its weights are not on this machine."
        return Chosen(base["name"], base, trouble=trouble)
    model = api.get(f"/v1/models/{quote(name, safe='')}")
    return Chosen(
        model["id"],
        bases.get(model["base_model"] or "") or bases[there.default_base],
        subject=model["instance_prompt"],
        trouble=_TROUBLES.get(model["state"], ""),
    )
