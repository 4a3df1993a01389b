"""What is asked of each request before a page sees it, and what each answer tells the browser."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Flask, Response, abort, g, redirect, request, url_for

from enlight.dashboard.security.sessions import Session, SessionCookies, current_session, same_token
from enlight.dashboard.settings import is_loopback
from enlight.servicekit.errors import Forbidden, Unauthorized

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_ENDPOINTS = frozenset({"sign_in.show", "sign_in.take_key", "static_files.file"})
OPEN_PATHS = frozenset({"/live", "/ready", "/metrics", "/docs", "/docs/page.css", "/docs/page.js", "/openapi.json"})
"""They show nothing of anybody."""
TOKEN_IN_UPLOAD = frozenset({"make.start"})
"""Endpoints of forms with files that work without scripts: they check the token themselves with `require_token`, once
there is a place for the files that come with it."""
LOCAL_SESSION = {"tenant": "local", "scope": "admin"}
"""Of everybody, where nobody signs in."""

PAGE_HEADERS = {
    # Everything comes from here. `blob:` are thumbnails of photos that were picked and not sent yet.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    # `no-referrer` would have browsers send `Origin: null` with the page's own forms.
    "Referrer-Policy": "same-origin",
}


class Guard:
    """Lets a request in, or not.

    Args:
        cookies: Where sessions are.
        sign_in: Whether people have to sign in.
    """

    def __init__(self, cookies: SessionCookies, *, sign_in: bool) -> None:
        self._cookies = cookies
        self._sign_in = sign_in

    def install(self, app: Flask) -> None:
        """Has every request looked at. The session is set by `admit`, which the application calls first."""
        app.before_request(refuse_forged)
        app.after_request(self._finish)

    def admit(self) -> None:
        """Notes whose session this is.

        Raises:
            HTTPException: the way to the sign-in.
            Unauthorized: the same, for a request of a page's script.
            Forbidden: the page is asked for under a name that is not this machine's.
        """
        g.session, g.new_session = Session(), False  # what a refusal below is shown with
        if not self._sign_in and not is_loopback(urlsplit(f"//{request.host}").hostname or ""):
            # Another site's name can be made to mean 127.0.0.1, and its pages could then read ours.
            raise Forbidden("Without sign-in this page is only served as http://localhost or http://127.0.0.1.")
        found = self._cookies.read(request)
        g.new_session = found is None
        g.session = found or Session(**({} if self._sign_in else LOCAL_SESSION))
        if g.session.signed_in or request.endpoint in OPEN_ENDPOINTS or request.path in OPEN_PATHS:
            return
        if request.method == "GET" and wants_page():
            wanted = request.full_path.rstrip("?") if request.path != "/" else None
            abort(redirect(url_for("sign_in.show", next=wanted), 303))
        raise Unauthorized("You are signed out. Sign in again, then repeat this.")

    def _finish(self, response: Response) -> Response:
        if response.mimetype == "text/html":
            for name, value in PAGE_HEADERS.items():
                response.headers.setdefault(name, value)
            if g.get("new_session") and response.status_code < 400:
                self._cookies.write(response, current_session())
        return response


def refuse_forged() -> None:
    """Refuses what another site had the browser send. Raises Forbidden."""
    if request.method in SAFE_METHODS or request.path in OPEN_PATHS:
        return
    # The browser's own word, where it gives one, and the token that only our pages have.
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise Forbidden("This request came from another site.")
    token = request.headers.get("X-CSRF-Token", "")
    if not token and request.mimetype == "application/x-www-form-urlencoded":
        token = request.form.get("csrf_token", "")
    if token or request.endpoint not in TOKEN_IN_UPLOAD:
        require_token(token)


def require_token(token: str) -> None:
    """Refuses a request whose page had another token. Raises Forbidden."""
    if not same_token(token, current_session()):
        raise Forbidden("This page is older than your sign-in. Load it again, then repeat this.")


def wants_page() -> bool:
    """Whether a person looks at the answer: no script of ours asked."""
    return "HX-Request" not in request.headers and "text/html" in request.headers.get("Accept", "")
