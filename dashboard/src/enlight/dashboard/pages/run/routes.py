"""``/run``."""

from __future__ import annotations

from flask import Blueprint, render_template


def run_pages() -> Blueprint:
    """The pages."""
    pages = Blueprint("run", __name__, url_prefix="/run")

    @pages.get("")
    def show() -> str:
        return render_template("run/page.html")

    return pages
