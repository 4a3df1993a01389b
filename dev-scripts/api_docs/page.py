"""docs/api.md: each service's routes, what ``/openapi.json`` says of them, and examples that are run by a test."""

from __future__ import annotations

from collections.abc import Mapping

from api_docs.dreambooth_api import DREAMBOOTH_API
from api_docs.every_service import EVERY_SERVICE
from api_docs.headings import Headings
from api_docs.limits import limits
from api_docs.main_api import MAIN_API
from api_docs.picture_services import BGREM, REALESRGAN, UPSAMPLER
from api_docs.route import Route, Section
from api_docs.route_text import Document, RouteWriter, code
from api_docs.start import INTRODUCTION

from enlight.servicekit.errors import ServiceError, error_classes

SECTIONS: tuple[Section, ...] = (MAIN_API, EVERY_SERVICE, DREAMBOOTH_API, BGREM, UPSAMPLER, REALESRGAN)


def api_page(documents: Mapping[str, Document]) -> str:
    """The page's text.

    Args:
        documents: Each service's ``/openapi.json``, by the service's name.

    Raises:
        ValueError: a route says something else than its document.
    """
    headings, writer = Headings(), RouteWriter()
    contents, sections = [], []
    for section in SECTIONS:
        links, texts = [], []
        for part in section.parts:
            link = headings.link(part.name)
            links.append(link)
            if isinstance(part, Route):
                text = writer.text(part, documents[section.document], link=link)
            else:
                text = f"{part.text}\n\n{code('python', part.python)}"
            texts.append(f"\n### {part.name}\n\n{text}")
        contents.append(f"- **{section.name}**: " + " · ".join(links) + "\n")
        sections.append(f"\n## {section.name}\n\n{section.text}\n" + "".join(texts))
    return f"{INTRODUCTION}\n## Routes\n\n{''.join(contents)}{''.join(sections)}\n{_limits()}\n{_errors()}"


def _limits() -> str:
    return f"## Limits and times\n\nWhat has a setting can be set ([settings.md](settings.md)).\n\n{limits()}"


def _errors() -> str:
    rows = [
        f"| {known.status} | `{known.code}` | {'yes' if known.retryable else 'no'} | {_first_line(known)} |\n"
        for known in sorted(error_classes(), key=lambda known: (known.status, known.code))
    ]
    return (
        "## Errors\n\nEvery error has one body, and every 503 a `Retry-After` header:\n\n"
        '```json\n{"message": "LR: must be greater than 0", '
        '"error": {"code": "invalid_field", "details": {"...": "..."}, "request_id": "..."}}\n```\n\n'
        'The two upscalers put `"status": "false"` beside. Codes are stable, messages are for people.\n\n'
        "| status | code | worth trying again | when |\n| --- | --- | --- | --- |\n" + "".join(rows)
    )


def _first_line(error_class: type[ServiceError]) -> str:
    return (error_class.__doc__ or "").splitlines()[0]
