"""What docs/api.md is made with: tables from schemas, links, and the refusal of what a document does not say."""

from __future__ import annotations

from typing import Any

import pytest
from api_docs.headings import Headings
from api_docs.route import Route
from api_docs.route_text import RouteWriter, code
from api_docs.schema_tables import answer_table, identity, inlined, request_table

from enlight.servicekit.errors import Conflict, NotFound

VIEW = {
    "type": "object",
    "required": ["id", "state", "progress"],
    "properties": {
        "id": {"type": "string", "description": "Of the\nthing."},
        "state": {"anyOf": [{"enum": ["on", "off"], "type": "string"}, {"type": "null"}]},
        "progress": {"anyOf": [{"$ref": "#/components/schemas/Progress"}, {"type": "null"}]},
    },
}
PAGE = {"properties": {"things": {"type": "array", "items": {"$ref": "#/components/schemas/View"}}}}
PROGRESS = {"properties": {"step": {"type": "integer"}}}
BODY = {
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "count": {"type": "integer", "minimum": 1, "exclusiveMaximum": 2**63, "default": 3},
        "photos": {"type": "array", "minItems": 1, "maxItems": 50, "items": {"type": "string"}},
    },
}
ERROR = {"$ref": "#/components/responses/Error404"}


def document(**responses: Any) -> dict[str, Any]:
    """Of a service with a route that answers with a view, and one that lists views."""
    view, page = ({"$ref": f"#/components/schemas/{name}"} for name in ("View", "Page"))
    return {
        "paths": {
            "/things": {
                "post": {
                    "summary": "Make a thing",
                    "description": "Makes it.",
                    "requestBody": {"content": {"application/json": {"schema": BODY}}},
                    "responses": {"201": answer(view), **responses},
                },
                "get": {"summary": "List things", "responses": {"200": answer(page)}},
            },
        },
        "components": {
            "schemas": {"View": VIEW, "Page": PAGE, "Progress": PROGRESS},
            "responses": {"Error404": {"description": "Not found"}},
        },
    }


def answer(schema: dict[str, Any]) -> dict[str, Any]:
    headers = {"X-Request-ID": {"description": "Its own."}, "Location": {"description": "Where it is."}}
    return {"description": "Made", "content": {"application/json": {"schema": schema}}, "headers": headers}


def route(name: str = "POST /things", **changes: Any) -> Route:
    return Route(name, "\n    curl $API/things\n    ", "\n    requests.get(API)\n    ", **changes)


def test_a_body_is_a_table_of_types_ranges_and_defaults() -> None:
    assert request_table(BODY).splitlines()[2:] == [
        "| `name` | string | **required** | |",
        "| `count` | integer, at least 1, below 2^63 | `3` | |",
        "| `photos` | list of 1 to 50 strings | | |",
    ]


def test_an_answer_is_a_table_with_what_its_objects_hold() -> None:
    assert answer_table(inlined(VIEW, document()), {}).splitlines()[2:] == [
        "| `id` | string | Of the thing. |",
        "| `state` | one of `on`, `off`, or null | |",
        "| `progress` | object or null | |",
        "| `progress.step` | integer | |",
    ]


def test_an_object_that_has_its_table_elsewhere_is_linked_to() -> None:
    view = inlined(VIEW, document())
    rows = answer_table(inlined(PAGE, document()), {identity(view): "[there](#there)"}).splitlines()[2:]
    assert rows == ["| `things` | list of objects, as [there](#there) answers | |"]


def test_a_route_says_what_its_document_says_and_shows_its_examples() -> None:
    text = RouteWriter().text(route(answer='{"id": "..."}', more="Once."), document(), link="[here](#here)")
    assert text.startswith("**Make a thing.** Makes it. Once.\n\nBody:\n\n| field |")
    assert 'Answer: 201, `{"id": "..."}`' in text
    assert "Headers of the answer: `Location`: Where it is.\n" in text
    assert text.endswith("```bash\ncurl $API/things\n```\n```python\nrequests.get(API)\n```\n")


def test_a_table_is_on_the_page_once() -> None:
    writer = RouteWriter()
    first = writer.text(route(), document(), link="[first](#first)")
    second = writer.text(route(), document(), link="[second](#second)")
    listed = writer.text(route("GET /things"), document(), link="[list](#list)")
    assert "| `count` |" in first
    assert "Body: as of [first](#first).\n\nAnswer: 201\n\nFields of the answer: as of [first](#first).\n" in second
    assert "| `things` | list of objects, as [first](#first) answers | |" in listed


@pytest.mark.parametrize(
    ("told", "described"),
    [((), {"404": ERROR}), (((NotFound, ""), (Conflict, "")), {"404": ERROR}), (((NotFound, ""),), {})],
    ids=["an error of the document is not told", "one more is told", "a told one is not in the document"],
)
def test_errors_are_those_of_the_document(told: Any, described: Any) -> None:
    with pytest.raises(ValueError, match="POST /things"):
        RouteWriter().text(route(errors=told), document(**described), link="")


def test_errors_are_told_in_order_with_their_reasons() -> None:
    described = document(**{"409": ERROR, "404": ERROR})
    text = RouteWriter().text(route(errors=((Conflict, "it runs"), (NotFound, ""))), described, link="")
    assert "[Errors](#errors): 404 `not_found`, 409 `conflict` (it runs).\n" in text


@pytest.mark.parametrize("sample", ['{"nope": 1}', '{"progress": {"nope": 1}}'])
def test_a_sample_holds_fields_of_the_document_only(sample: str) -> None:
    with pytest.raises(ValueError, match="nope"):
        RouteWriter().text(route(answer=sample), document(), link="")


def test_equal_headings_have_anchors_of_their_own() -> None:
    headings = Headings()
    assert headings.link("GET /v1/keys/{key_id}") == "[GET /v1/keys/{key_id}](#get-v1keyskey_id)"
    assert headings.link("GET /v1/keys/{key_id}") == "[GET /v1/keys/{key_id}](#get-v1keyskey_id-1)"


def test_an_indented_end_of_python_is_followed_by_an_empty_line() -> None:
    assert (
        code("python", "\n    for x in y:\n        print(x)\n\n    ") == "```python\nfor x in y:\n    print(x)\n\n```\n"
    )
    assert code("python", "\n    print(x)\n    ") == "```python\nprint(x)\n```\n"
