"""Options that come as text, in a query or in the fields of a form.

JSON says what is a number; text does not, so that each option's type says how its text is read::

    quality: Annotated[int, Field(ge=1, le=100), WHOLE_NUMBER] = 90
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, BeforeValidator, ValidationError
from pydantic_core import PydanticCustomError
from werkzeug.datastructures import MultiDict

from enlight.servicekit.errors import InvalidField
from enlight.servicekit.http_errors import invalid_field

OptionsT = TypeVar("OptionsT", bound=BaseModel)

_TRUE = frozenset({"1", "true", "on", "yes", "t", "y"})
_FALSE = frozenset({"0", "false", "off", "no", "f", "n"})


def read_options(kind: type[OptionsT], query: MultiDict[str, str], form: Mapping[str, str]) -> OptionsT:
    """The options of a request, wherever each of them was given.

    Raises:
        InvalidField: one is unknown, out of range, or given twice.
    """
    given = dict(form)
    for name, values in query.lists():
        if len(values) > 1 or name in given:
            raise InvalidField.of(name[:100], "is given twice")
        given[name] = values[0]
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise invalid_field(error) from error


def _whole_number(value: object) -> object:
    if not isinstance(value, str):
        return value
    # ASCII digits only: int() would take "1_000" and the digits of other scripts.
    if not re.fullmatch(r"-?[0-9]{1,20}", value):
        raise PydanticCustomError("whole_number", "must be a whole number")
    return int(value)


def _decimal_number(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"-?[0-9]{1,20}(\.[0-9]{1,20})?", value):
        raise PydanticCustomError("decimal_number", "must be a number such as 0.5")
    return float(value)


def _truth(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise PydanticCustomError("truth", "must be true or false")


WHOLE_NUMBER = BeforeValidator(_whole_number)
"""An int: decimal digits with an optional minus."""
DECIMAL_NUMBER = BeforeValidator(_decimal_number)
"""A float: decimal digits, at most one point; no exponent, no NaN."""
TRUTH = BeforeValidator(_truth)
"""A bool: true, false, and the words that forms send for them."""
