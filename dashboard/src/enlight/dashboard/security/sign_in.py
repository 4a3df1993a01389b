"""``/sign-in``, ``/sign-out``."""

from __future__ import annotations

import re

from flask import Blueprint, Response, make_response, redirect, render_template, request, url_for

from enlight.dashboard.main_api.client import MainApi
from enlight.dashboard.security.sessions import Session, SessionCookies
from enlight.servicekit.errors import CapacityError, DependencyError, Unauthorized

_LOCAL_PATH = re.compile(r"/(?![/\\])[^\\\x00-\x1f]*")
MAX_KEY_CHARACTERS = 200


def sign_in_pages(main_api: MainApi, cookies: SessionCookies) -> Blueprint:
    """The two pages."""
    pages = Blueprint("sign_in", __name__)

    @pages.get("/sign-in")
    def show() -> str:
        return render_template("sign_in.html", next=_next(request.args.get("next", "")), message=None)

    @pages.post("/sign-in")
    def take_key() -> Response:
        key = request.form.get("key", "").strip()
        wanted = _next(request.form.get("next", ""))
        try:
            if not key or len(key) > MAX_KEY_CHARACTERS or not key.isascii() or not key.isprintable():
                raise Unauthorized("This is no key of this suite. A key begins with enl_.")
            me = main_api.with_key(key).get("/v1/me")
        except (Unauthorized, CapacityError, DependencyError) as error:
            message = "No such key, or not any more." if isinstance(error, Unauthorized) else error.message
            page = render_template("sign_in.html", next=wanted, message=message)
            return make_response(page, error.status)
        response = make_response(redirect(wanted, 303))
        cookies.write(response, Session(key=key, tenant=me["tenant"], scope=me["scope"]))  # with a new token, too
        return response

    @pages.post("/sign-out")
    def sign_out() -> Response:
        response = make_response(redirect(url_for("sign_in.show"), 303))
        cookies.write(response, Session())
        return response

    return pages


def _next(path: str) -> str:
    """``path`` when it is one of this site, else the first page."""
    return path if _LOCAL_PATH.fullmatch(path) else url_for("front.index")
