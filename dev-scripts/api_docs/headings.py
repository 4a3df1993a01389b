"""Headings of a Markdown page, and how other places link to them."""

from __future__ import annotations

import re
from collections import Counter


class Headings:
    """The headings written so far; the same one twice gets two anchors."""

    def __init__(self) -> None:
        self._written: Counter[str] = Counter()

    def link(self, heading: str) -> str:
        """A link to ``heading``, which is written now."""
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")  # as GitHub makes it
        earlier = self._written[anchor]
        self._written[anchor] += 1
        return f"[{heading}](#{anchor}-{earlier})" if earlier else f"[{heading}](#{anchor})"
