"""Small JSON records that notice when a byte of theirs changed: each carries the SHA-256 of its own content.

The seal guards against damage (a flipped bit, a truncated file, the wrong record), not against an attacker,
who can seal what he likes: whoever reads a record still checks every value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import NoReturn

from enlight.servicekit.errors import CorruptModel

_SEAL = "sha256"


def seal(record: Mapping[str, object]) -> bytes:
    """The record and its seal as UTF-8 JSON, for people to read too. Raises: ValueError for NaN and the
    like.
    """
    sealed = {**record, _SEAL: _digest(record)}
    return (json.dumps(sealed, indent=2, sort_keys=True, allow_nan=False) + "\n").encode("ascii")


def unseal(data: bytes, what: str) -> dict[str, object]:
    """The record in ``data``. Raises: CorruptModel naming ``what`` when it is not exactly what was sealed."""
    try:
        record = json.loads(data.decode("ascii"), parse_constant=_refuse)
        if not isinstance(record, dict) or record.pop(_SEAL, None) != _digest(record):
            raise ValueError("the seal does not fit")
    except (ValueError, RecursionError) as error:
        raise CorruptModel(f"{what} is damaged.") from error
    return record


def _digest(record: Mapping[str, object]) -> str:
    canonical = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
