"""``/make``: from photos to a model, and what became of those before."""

from __future__ import annotations

from flask import Blueprint

from enlight.dashboard.main_api.relays import EventRelay
from enlight.dashboard.pages.make.photo_uploads import PhotoUploads
from enlight.dashboard.pages.make.start_routes import add_start_routes
from enlight.dashboard.pages.make.training_routes import add_training_routes

UPLOAD_RULES = ("/make", "/make/photos/check")
"""Whose bodies are photos."""


def make_pages(uploads: PhotoUploads, streams: EventRelay) -> Blueprint:
    """The pages."""
    pages = Blueprint("make", __name__, url_prefix="/make")
    add_start_routes(pages, uploads)
    add_training_routes(pages, streams)
    return pages
