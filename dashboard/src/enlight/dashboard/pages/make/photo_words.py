"""Warnings about photos as people read them: by the number that a photo has on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_SHORT = {
    "too_small": "Small",
    "cropped": "Will be cropped",
    "too_dark": "Very dark",
    "too_bright": "Very bright",
    "no_visible_subject": "No subject seen",
    "blurred": "Blurred",
    "near_duplicate": "Same as another",
}
FEW, MANY = 5, 20
"""Fewer than the one teach too little, more than the other hardly more."""


def warnings_in_words(warnings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The API's warnings with ``text`` for people and ``short`` for a thumbnail; the one about their number is left to
    `advice_on_number`."""
    return [
        {
            "photos": warning["photos"],
            "short": _SHORT.get(warning["code"], "Look again"),
            "text": f"{_photos(warning['photos'])}: {_without_fields(warning)}",
        }
        for warning in warnings
        if warning["photos"]
    ]


def advice_on_number(count: int) -> str:
    """What to think of ``count`` photos."""
    if count < FEW:
        return f"{count} photo{'s' if count != 1 else ''}: it works, but 5 to 20 are best."
    if count > MANY:
        return f"{count} photos: fine, though more than 20 hardly help."
    return f"{count} photos: a good number."


def _photos(indexes: Sequence[int]) -> str:
    numbers = [str(index + 1) for index in indexes]
    if len(numbers) == 1:
        return f"Photo {numbers[0]}"
    return f"Photos {', '.join(numbers[:-1])} and {numbers[-1]}"


def _without_fields(warning: Mapping[str, Any]) -> str:
    # The API names a photo as its field: "photos[1], photos[4]: blurred, ..."
    head, separator, rest = warning["message"].partition(": ")
    return str(rest if separator and head.startswith("photos[") else warning["message"])
