"""Options as text: what is a number, what is true, what is given twice."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import BaseModel, ConfigDict, Field
from werkzeug.datastructures import MultiDict

from enlight.servicekit.errors import InvalidField
from enlight.servicekit.text_options import DECIMAL_NUMBER, TRUTH, WHOLE_NUMBER, read_options


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    quality: Annotated[int, Field(ge=1, le=100), WHOLE_NUMBER] = 90
    strength: Annotated[float, Field(ge=0, le=1), DECIMAL_NUMBER] | None = None
    mask: Annotated[bool, TRUTH] = False


def read(query: str = "", **form: str) -> Options:
    pairs = [tuple(pair.split("=", 1)) for pair in query.split("&") if pair]
    return read_options(Options, MultiDict(pairs), form)  # type: ignore[arg-type]


def test_options_of_query_and_form_come_together() -> None:
    assert read() == Options()
    assert read("quality=7", strength="0.25", mask="on") == Options(quality=7, strength=0.25, mask=True)
    assert read("mask=False") == Options()


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("quality", "1_0", "must be a whole number"),
        ("quality", "١٢", "must be a whole number"),
        ("quality", "7.0", "must be a whole number"),
        ("quality", " 7", "must be a whole number"),
        ("quality", "7\n", "must be a whole number"),
        ("quality", "", "must be a whole number"),
        ("quality", "0", "must be greater than or equal to 1"),
        ("quality", "9" * 30, "must be a whole number"),
        ("strength", "nan", "must be a number such as 0.5"),
        ("strength", "1e-3", "must be a number such as 0.5"),
        ("strength", "-0.1", "must be greater than or equal to 0"),
        ("mask", "maybe", "must be true or false"),
        ("shape", "round", "is not a known field"),
    ],
)
def test_what_cannot_be_read_is_named(field: str, text: str, message: str) -> None:
    with pytest.raises(InvalidField) as caught:
        read(**{field: text})
    assert caught.value.message == f"{field}: {message}"


def test_an_option_given_twice_is_refused_wherever_it_stands() -> None:
    with pytest.raises(InvalidField, match="quality: is given twice"):
        read("quality=7&quality=8")
    with pytest.raises(InvalidField, match="quality: is given twice"):
        read("quality=7", quality="7")


def test_the_ranges_are_in_the_schema() -> None:
    quality = Options.model_json_schema()["properties"]["quality"]
    assert (quality["type"], quality["minimum"], quality["maximum"]) == ("integer", 1, 100)
