"""``/run``: the suite at a glance. One module for each of its tabs."""

from __future__ import annotations

from flask import Blueprint

from enlight.dashboard.pages.make.photo_uploads import PhotoUploads
from enlight.dashboard.pages.run.errors import add_errors
from enlight.dashboard.pages.run.jobs import add_jobs
from enlight.dashboard.pages.run.keys import add_keys
from enlight.dashboard.pages.run.model_import import add_model_import
from enlight.dashboard.pages.run.models import add_models
from enlight.dashboard.pages.run.overview import add_overview
from enlight.dashboard.security.sessions import SessionCookies


def run_pages(cookies: SessionCookies, uploads: PhotoUploads) -> Blueprint:
    """The pages."""
    pages = Blueprint("run", __name__, url_prefix="/run")
    add_overview(pages)
    add_jobs(pages)
    add_model_import(pages, uploads)
    add_models(pages)
    add_keys(pages, cookies)
    add_errors(pages)
    return pages
