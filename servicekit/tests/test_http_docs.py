"""The documentation that other tests do not look at: many who ask at once, and what flask-openapi cannot say."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

import pytest
from example_service import SMALL_BYTES, create_app
from flask_openapi.openapi import OpenAPI
from pydantic import BaseModel, Field

from enlight.servicekit.http import Readiness, create_service_app
from enlight.servicekit.http_docs import Document, operations_of, shape_errors, without_null
from enlight.servicekit.http_pictures import picture_answer, picture_body
from enlight.servicekit.schemas import ErrorBody


def test_the_document_is_made_once_however_many_ask_first(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a document that takes a while to make
    app = create_app()
    made: list[float] = []
    generate: Callable[[], None] = app.generate_spec_json

    def generate_slowly() -> None:
        made.append(time.monotonic())
        time.sleep(0.1)
        generate()

    monkeypatch.setattr(app, "generate_spec_json", generate_slowly)

    # When many ask for it at the same moment
    with ThreadPoolExecutor(8) as pool:
        documents = set(pool.map(lambda _: app.test_client().get("/openapi.json").text, range(8)))

    # Then it is made once, and nobody sees it half made
    assert len(made) == 1
    assert len(documents) == 1
    assert '"413"' in documents.pop()


class Options(BaseModel):
    """Options of a route that takes a picture."""

    quality: Annotated[int, Field(ge=1, le=100)] = 90
    colour: str | None = Field(None, description="Behind it.")
    kind: Literal["a", "b"] | int | None = None


def document_of(app: OpenAPI) -> dict[str, Any]:
    document: dict[str, Any] = app.test_client().get("/openapi.json").json or {}
    return document


def test_every_route_is_there_under_its_view_s_name() -> None:
    app = create_app()
    document = document_of(app)
    described = {(path, method) for path, method, _ in operations_of(document)}
    routes = {
        (re.sub("<(.+?)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert described == routes
    names = [operation["operationId"] for _, _, operation in operations_of(document)]
    assert len(names) == len(set(names))
    assert {"draw", "job", "index", "ready"} <= set(names)


def test_an_error_is_one_component_with_its_codes_and_headers() -> None:
    # Given a route that names an error, of a service whose errors have one more field
    app = create_service_app(
        service="example",
        version="1",
        description="",
        readiness=lambda: Readiness("ready"),
        default_body_limit_bytes=SMALL_BYTES,
        error_fields={"status": "false"},
    )

    @app.get("/thing", summary="A thing", responses={503: ErrorBody})
    def thing() -> dict[str, object]:
        """Gives the thing,
        whole."""
        return {}

    # When the document is made
    document = document_of(app)
    # Then the error is a reference to what is said of it once
    operation = document["paths"]["/thing"]["get"]
    assert operation["responses"] == {"503": {"$ref": "#/components/responses/Error503"}}
    error = document["components"]["responses"]["Error503"]
    assert "`queue_full`" in error["description"]
    assert set(error["headers"]) == {"X-Request-ID", "Retry-After"}
    body = document["components"]["schemas"]["ErrorBody"]
    assert body["properties"]["status"] == {"const": "false"}
    assert body["required"] == ["message", "error", "status"]
    assert body["additionalProperties"] is False
    # And lines stay lines, in whole numbers
    assert operation["description"] == "Gives the thing,\nwhole."
    assert "8.0" not in app.test_client().get("/openapi.json").text


def test_a_query_has_no_null() -> None:
    assert without_null({"anyOf": [{"type": "string", "maxLength": 3}, {"type": "null"}], "default": None}) == {
        "type": "string",
        "maxLength": 3,
    }
    assert without_null({"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]}) == {
        "anyOf": [{"type": "string"}, {"type": "integer"}]
    }
    assert without_null({"type": "integer", "default": 0}) == {"type": "integer", "default": 0}


def test_a_picture_s_route_describes_the_form_with_every_option() -> None:
    body = picture_body(Options, form_fields=("image", "file"))
    form = body["content"]["multipart/form-data"]["schema"]
    assert list(form["properties"]) == ["image", "file", "quality", "colour", "kind"]
    assert form["properties"]["colour"]["type"] == "string"
    assert form["additionalProperties"] is False
    assert form["anyOf"] == [{"required": ["image"]}, {"required": ["file"]}]
    assert picture_body(Options, form_fields=("file",))["content"]["multipart/form-data"]["schema"]["required"] == [
        "file"
    ]
    answer = picture_answer({"X-Width": "Pixels."})["200"]
    assert isinstance(answer, dict)
    assert set(answer["content"]) == {"image/png", "image/jpeg", "image/webp"}
    assert answer["headers"]["X-Width"]["required"]


def test_errors_of_some_paths_may_have_a_body_of_their_own() -> None:
    # Given a service that lays another API's error body down for a part of its routes
    theirs = {"type": "object", "properties": {"detail": {"type": "string"}}}

    def finish(document: Document) -> None:
        shape_errors(document, "/theirs/", "TheirError", theirs)

    app = create_service_app(
        service="both",
        version="1",
        description="",
        readiness=lambda: Readiness("ready"),
        default_body_limit_bytes=SMALL_BYTES,
        finish_document=finish,
    )
    for path in ("/theirs/thing", "/ours/thing"):
        route = app.post(path, responses={"404": ErrorBody, "200": {"description": "Done."}})
        route(_view(path.replace("/", "_"), Options))

    # When its document is made
    document = document_of(app)

    # Then each route's errors are those of its part, the foreseen ones and those that every body may get
    for path, name in (("/theirs/thing", "TheirError"), ("/ours/thing", "Error")):
        responses = document["paths"][path]["post"]["responses"]
        assert {status: responses[status] for status in ("404", "422")} == {
            status: {"$ref": f"#/components/responses/{name}{status}"} for status in ("404", "422")
        }
    described = document["components"]["responses"]
    assert described["TheirError404"]["content"]["application/json"]["schema"] == theirs
    assert described["Error404"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/ErrorBody"}
    assert described["TheirError404"]["description"] == described["Error404"]["description"]
    assert "x-error-shape" not in str(document)


def test_errors_with_a_body_of_their_own_may_have_another_status_for_a_bad_field() -> None:
    # Given a service whose clients know no 422
    app = create_service_app(
        service="theirs",
        version="1",
        description="",
        readiness=lambda: Readiness("ready"),
        default_body_limit_bytes=SMALL_BYTES,
        finish_document=lambda document: shape_errors(document, "/theirs/", "TheirError", {}, field_status="400"),
    )
    app.get("/theirs/thing", responses={"200": {"description": "Done."}})(_view("thing", Options))
    # When its document is made
    document = document_of(app)
    # Then a bad field is a 400, which says so
    assert set(document["paths"]["/theirs/thing"]["get"]["responses"]) == {"200", "400", "414"}
    described = document["components"]["responses"]
    assert "`invalid_field`" in described["TheirError400"]["description"]
    assert "`invalid_request`" in described["TheirError400"]["description"]


def _view(name: str, query: type[BaseModel]) -> Callable[..., dict[str, Any]]:
    def view(query: Any) -> dict[str, Any]:
        return {}

    view.__name__ = name
    view.__annotations__["query"] = query
    return view
