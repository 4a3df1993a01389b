"""``/``: the way to what one came for."""

from __future__ import annotations

from flask import Blueprint, redirect
from werkzeug.wrappers import Response


def front_page() -> Blueprint:
    """The page."""
    pages = Blueprint("front", __name__)

    @pages.get("/")
    def index() -> Response:
        return redirect("/make", 303)

    return pages
