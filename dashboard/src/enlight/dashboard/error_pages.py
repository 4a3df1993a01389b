"""What a person sees when something fails: a whole page, or a notice on the page that is open."""

from __future__ import annotations

from flask import Flask, Response, render_template, request, url_for
from werkzeug.exceptions import HTTPException

from enlight.dashboard.security.guard import wants_page
from enlight.dashboard.security.sessions import Session, SessionCookies, current_session
from enlight.servicekit.errors import Unauthorized
from enlight.servicekit.http_errors import answer_error

_TITLES = {401: "Signed out", 403: "Not yours to do", 404: "Not here", 429: "Enough for now", 503: "Not at the moment"}


def show_errors(app: Flask, cookies: SessionCookies) -> None:
    """Has errors answered in the form that the asker can use; a key that was revoked ends the session."""

    def show(error: Exception) -> Response | HTTPException:
        answer = answer_error(error, {})
        if isinstance(answer, HTTPException) or answer.mimetype != "application/json":
            return answer
        body = answer.get_json()
        known = {"status": answer.status_code, "message": body["message"], "request_id": body["error"]["request_id"]}
        if isinstance(error, Unauthorized):
            _sign_out(answer, cookies)
        if request.headers.get("HX-Request"):
            answer.set_data(render_template("notice.html", **known))
            answer.headers["HX-Retarget"] = "#notices"
            answer.headers["HX-Reswap"] = "beforeend"
            answer.content_type = "text/html; charset=utf-8"
        elif wants_page():
            title = _TITLES.get(answer.status_code, "That failed")
            answer.set_data(render_template("error.html", title=title, **known))
            answer.content_type = "text/html; charset=utf-8"
        return answer

    app.register_error_handler(Exception, show)


def _sign_out(answer: Response, cookies: SessionCookies) -> None:
    if current_session().signed_in:
        cookies.write(answer, Session())
    if request.headers.get("HX-Request"):
        answer.headers["HX-Redirect"] = url_for("sign_in.show")
