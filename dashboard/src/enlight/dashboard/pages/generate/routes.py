"""``/generate``."""

from __future__ import annotations

from flask import Blueprint, render_template


def generate_pages() -> Blueprint:
    """The pages."""
    pages = Blueprint("generate", __name__, url_prefix="/generate")

    @pages.get("")
    def show() -> str:
        return render_template("generate/page.html")

    return pages
