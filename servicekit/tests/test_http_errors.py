"""Errors of Flask, Werkzeug and pydantic in the contract's words."""

from __future__ import annotations

from typing import Annotated

import pytest
from answers import assert_error
from flask import Response, abort, redirect
from flask_openapi.openapi import OpenAPI
from pydantic import AfterValidator, ValidationError
from werkzeug.exceptions import (
    BadGateway,
    Gone,
    HTTPException,
    NotAcceptable,
    RequestTimeout,
    TooManyRequests,
    Unauthorized,
)

from enlight.servicekit.http import Readiness, create_service_app
from enlight.servicekit.http_errors import invalid_field
from enlight.servicekit.schemas import StrictModel


def app_that(fail: object) -> OpenAPI:
    app = create_service_app(
        service="x", version="1", description="", readiness=lambda: Readiness("ready"), default_body_limit_bytes=1
    )

    @app.get("/x")
    def view() -> Response:
        if isinstance(fail, Exception):
            raise fail
        assert callable(fail)
        answer = fail()
        assert isinstance(answer, Response)
        return answer

    return app


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Unauthorized(), 401, "unauthorized"),
        (TooManyRequests(retry_after=9), 429, "quota_exceeded"),
        (NotAcceptable(), 406, "not_acceptable"),
        (Gone(), 410, "gone"),
        (RequestTimeout(), 408, "request_timeout"),
        (BadGateway(), 502, "internal_error"),
    ],
)
def test_werkzeugs_errors_have_the_one_body(error: HTTPException, status: int, code: str) -> None:
    response = app_that(error).test_client().get("/x")
    assert_error(response, status, code)
    if status == 429:
        assert response.headers.getlist("Retry-After") == ["9"]


def test_a_ready_made_answer_is_left_alone() -> None:
    assert app_that(lambda: abort(Response("teapot", 418))).test_client().get("/x").text == "teapot"
    response = app_that(lambda: redirect("/live")).test_client().get("/x")
    assert response.status_code == 302


def even(value: int) -> int:
    if value % 2:
        raise ValueError("must be even")
    return value


class Inner(StrictModel):
    """Within another."""

    numbers: list[Annotated[int, AfterValidator(even)]]


class Outer(StrictModel):
    """A body."""

    inner: dict[str, Inner]


def test_a_field_is_named_by_its_path_and_a_validators_words_are_kept() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"inner": {"a": {"numbers": [2, 3]}}})
    assert invalid_field(caught.value).message == "inner.a.numbers[1]: must be even"
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate([])
    assert invalid_field(caught.value).message.startswith("body: must be a valid dictionary")


def test_the_value_is_never_shown() -> None:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"inner": "canary"})
    error = invalid_field(caught.value)
    assert "canary" not in f"{error.message} {error.details} {caught.value}"
