"""What docs/api.md says of a route beside what the service's ``/openapi.json`` says of it."""

from __future__ import annotations

from dataclasses import dataclass

from enlight.servicekit.errors import ServiceError

Errors = tuple[tuple[type[ServiceError], str], ...]
"""Each with when it comes; empty: as its class says."""


@dataclass(frozen=True)
class Route:
    """One route. ``curl`` and ``python`` are the same request; each goes on in the shell, or the Python, in which the
    examples above it ran. They are indented as it suits the code around them. e2e/test_api_page.py runs them.

    Attributes:
        name: Method and path, as in ``/openapi.json``.
        curl: Example.
        python: Example.
        answer: A good answer's JSON, shortened: one item of a list, ``"..."`` for a long text. Empty: it is no JSON.
        more: What the description in ``/openapi.json`` does not say.
        errors: Those that not every route has.
        refused: What the examples get instead, and why or until when.
    """

    name: str
    curl: str
    python: str
    answer: str = ""
    more: str = ""
    errors: Errors = ()
    refused: tuple[type[ServiceError], str] | None = None


@dataclass(frozen=True)
class Topic:
    """A part of a section that is about no single route."""

    name: str
    text: str
    python: str


@dataclass(frozen=True)
class Section:
    """A service's part of the page, or the part about all services.

    Attributes:
        name: The heading.
        document: The service whose ``/openapi.json`` describes the routes.
        text: What the section begins with.
        parts: What it consists of.
    """

    name: str
    document: str
    text: str
    parts: tuple[Route | Topic, ...]
