"""The error tree, its drawing, its body and its way through a pipe."""

from __future__ import annotations

import json
import math
import pickle
import re
from pathlib import Path

import pytest

from enlight.servicekit import errors
from enlight.servicekit.errors import (
    Cancelled,
    InternalError,
    InvalidField,
    JobCancelled,
    NotFound,
    QueueFull,
    ServiceError,
    WireError,
    error_body,
    error_classes,
    error_from_wire,
    error_to_wire,
)

ALL = list(error_classes())


def test_the_drawing_is_the_tree() -> None:
    drawn = re.findall(r"^ +(\w+) +(\d{3}) +(\w+)( +retryable)?$", errors.__doc__ or "", re.MULTILINE)
    real = [(known.__name__, str(known.status), known.code, known.retryable) for known in ALL]
    assert sorted((name, status, code, bool(again)) for name, status, code, again in drawn) == sorted(real)


def test_codes_are_unique_and_in_one_style() -> None:
    codes = [known.code for known in ALL]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("known", ALL, ids=lambda known: known.__name__)
def test_an_error_keeps_its_class_through_a_pipe(known: type[ServiceError]) -> None:
    error = known("What happened.", details={"field": "LR", "numbers": (1, 2)})
    wire = pickle.loads(pickle.dumps(error_to_wire(error)))
    copy = error_from_wire(wire)
    assert type(copy) is known
    assert (copy.message, copy.retry_after_s) == (error.message, error.retry_after_s)
    assert copy.details == {"field": "LR", "numbers": [1, 2]}


def test_an_unknown_exception_loses_its_text_on_the_way() -> None:
    wire = error_to_wire(ZeroDivisionError("secret"))
    assert wire.code == InternalError.code
    assert "secret" not in str(wire)


def test_a_cancelled_task_is_a_cancelled_job_for_the_other_side() -> None:
    assert isinstance(error_from_wire(error_to_wire(Cancelled())), JobCancelled)
    assert not isinstance(Cancelled(), Exception), "no except Exception swallows it"


def test_a_code_of_another_version_is_an_internal_error() -> None:
    assert type(error_from_wire(WireError("from_the_future", "Hello."))) is InternalError


def test_the_body() -> None:
    error = NotFound("No such model.", details={"model_id": "dog", "path": Path("/x"), "loss": math.nan})
    body = error_body(error, "request-1")
    assert body == {
        "message": "No such model.",
        "error": {
            "code": "not_found",
            "details": {"model_id": "dog", "path": "/x", "loss": "nan"},
            "request_id": "request-1",
        },
    }
    json.dumps(body, allow_nan=False)


def test_what_clears_up_by_itself_says_when() -> None:
    assert QueueFull("Full.").retry_after_s == errors.RETRY_AFTER_S
    assert QueueFull("Full.", retry_after_s=30).retry_after_s == 30
    assert NotFound("No.").retry_after_s is None


def test_a_field_is_named_in_message_and_details() -> None:
    error = InvalidField.of("LR", "must be above 0")
    assert error.message == "LR: must be above 0"
    assert error.details == {"fields": [{"field": "LR", "message": "must be above 0"}]}
    several = InvalidField.of_fields([("LR", "a"), ("size", "b")])
    assert several.message == "LR: a (and 1 more)"
