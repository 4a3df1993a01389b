"""The gateway's WSGI application for `gunicorn server:create_app()`, started in this folder."""

from __future__ import annotations

from enlight.main_api.app import create_app

__all__ = ["create_app"]
