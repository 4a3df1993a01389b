"""``/make``."""

from __future__ import annotations

from flask import Blueprint, render_template


def make_pages() -> Blueprint:
    """The pages."""
    pages = Blueprint("make", __name__, url_prefix="/make")

    @pages.get("")
    def show() -> str:
        return render_template("make/page.html")

    return pages
