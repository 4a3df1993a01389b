"""The web page: `create_app` names its parts in the order in which they depend on each other."""

from __future__ import annotations

from importlib.metadata import version

from flask import g
from flask_openapi import OpenAPI

from enlight.dashboard.error_pages import show_errors
from enlight.dashboard.main_api.client import MainApi
from enlight.dashboard.main_api.relays import EventRelay
from enlight.dashboard.pages.front import front_page
from enlight.dashboard.pages.generate.api_limits import ApiLimits
from enlight.dashboard.pages.generate.picture_routes import picture_pages
from enlight.dashboard.pages.generate.routes import generate_pages
from enlight.dashboard.pages.make.photo_uploads import PhotoUploads
from enlight.dashboard.pages.make.routes import UPLOAD_RULES, make_pages
from enlight.dashboard.pages.run.model_import import IMPORT_RULE
from enlight.dashboard.pages.run.routes import run_pages
from enlight.dashboard.security.guard import Guard
from enlight.dashboard.security.sessions import SessionCookies, current_session
from enlight.dashboard.security.sign_in import sign_in_pages
from enlight.dashboard.settings import Settings
from enlight.dashboard.static_files import static_files
from enlight.dashboard.template_helpers import add_helpers
from enlight.servicekit.http import Readiness, create_service_app
from enlight.servicekit.logs import configure_logging
from enlight.servicekit.settings import load_settings


def create_app(settings: Settings | None = None) -> OpenAPI:
    """The WSGI application.

    Args:
        settings: None: those of the environment.

    Raises:
        SettingsError: a setting is unknown, misspelt or out of range.
    """
    settings = settings or load_settings(Settings)
    configure_logging("dashboard", settings.log_level)
    cookies = SessionCookies(
        settings.secret.get_secret_value() if settings.secret else None,
        lifetime_s=settings.session_hours * 3600,
        https=settings.https,
    )
    guard = Guard(cookies, sign_in=settings.auth == "key")
    main_api = MainApi(
        settings.main_api_url, read_timeout_s=settings.read_timeout_s, work_timeout_s=settings.work_timeout_s
    )
    streams, limits = EventRelay(settings.max_event_streams), ApiLimits()
    uploads = PhotoUploads(settings.max_uploads, max_body_bytes=settings.max_body_bytes)
    app = create_service_app(
        service="dashboard",
        version=version("enlight-dashboard"),
        description="The web page: photos to pictures in a browser, and the suite at a glance.",
        # The page is there without main-api, too: it says so, and asks again.
        readiness=lambda: Readiness("ready", {"main_api_url": settings.main_api_url}),
        default_body_limit_bytes=settings.max_small_body_bytes,
        body_limits={**dict.fromkeys(UPLOAD_RULES, settings.max_body_bytes), IMPORT_RULE: settings.max_model_bytes},
        authenticate=guard.admit,
        front_page=False,
    )
    guard.install(app)

    @app.before_request
    def ask_as_who_is_signed_in() -> None:
        g.api = main_api.with_key(current_session().key)

    add_helpers(app)
    show_errors(app, cookies)
    app.register_blueprint(static_files())
    app.register_blueprint(sign_in_pages(main_api, cookies))
    app.register_blueprint(front_page())
    app.register_blueprint(make_pages(uploads, streams))
    app.register_blueprint(generate_pages(streams, limits, work_timeout_s=settings.work_timeout_s))
    app.register_blueprint(picture_pages(limits))
    app.register_blueprint(run_pages(cookies, uploads))
    app.extensions["enlight"] = _NothingBesides()
    return app


class _NothingBesides:
    """What gunicorn ends with the service: no thread of ours is there without a request that needs it."""

    def stop(self) -> None:
        """Nothing to do."""
