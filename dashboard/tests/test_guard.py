"""Sessions and guards of the page by themselves: settings, cookies, host names, and a main-api that is away."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient
from pydantic import ValidationError

from enlight.dashboard.app import create_app
from enlight.dashboard.security.sessions import Session, SessionCookies
from enlight.dashboard.settings import Settings
from enlight.servicekit.local_process import free_port

SECRET = "known to this test alone, and long"
PAGE = {"Accept": "text/html"}


def client_of(**changes: object) -> FlaskClient:
    """Of a page whose main-api is not there."""
    given = {"secret": SECRET, "main_api_url": f"http://127.0.0.1:{free_port()}", **changes}
    return create_app(Settings(**given)).test_client()  # type: ignore[arg-type]  # checked by pydantic


def token_of(page: str) -> str:
    return str(re.findall(r'name="csrf_token" value="([^"]+)"', page)[0])


def signed_in(client: FlaskClient, *, secret: str = SECRET, name: str = "enlight_session") -> FlaskClient:
    """With the cookie of a session that somebody with ``secret`` sealed."""
    cookies = SessionCookies(secret, lifetime_s=60, https=False)
    with client.application.test_request_context():
        answer = client.application.make_response("")
        cookies.write(answer, Session(key="enl_a_b", tenant="anna", scope="user"))
    client.set_cookie(name, answer.headers["Set-Cookie"].partition("=")[2].partition(";")[0])
    return client


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_sign_in_can_only_be_off_on_loopback(host: str) -> None:
    with pytest.raises(ValidationError, match="loopback"):
        Settings(auth="off", host=host)
    assert Settings(auth="key", host=host).host == host


def test_a_secret_is_long() -> None:
    with pytest.raises(ValidationError, match="at least 32"):
        Settings(secret="short")


@pytest.mark.parametrize("host", ["localhost", "localhost:8050", "127.0.0.1:8050", "[::1]:8050"])
def test_without_sign_in_the_page_answers_as_this_machine(host: str) -> None:
    assert client_of(auth="off").get("/sign-in", headers={**PAGE, "Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["example.org", "127.0.0.1.example.org", "example.org:8050", "10.0.0.1", "localhost@"])
def test_without_sign_in_the_page_answers_under_no_other_name(host: str) -> None:
    # Such a name may be made to mean 127.0.0.1, and pages of that name could then read this one.
    assert client_of(auth="off").get("/sign-in", headers={**PAGE, "Host": host}).status_code in (400, 403)
    assert client_of(auth="key").get("/sign-in", headers={**PAGE, "Host": host}).status_code in (200, 400)


def test_a_cookie_that_others_sealed_is_none() -> None:
    assert signed_in(client_of()).get("/", headers=PAGE).headers["Location"] == "/make"
    answer = signed_in(client_of(), secret=SECRET + "!").get("/", headers=PAGE)
    assert answer.headers["Location"].startswith("/sign-in")


def test_a_session_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    client = signed_in(client_of(session_hours=1))
    assert client.get("/", headers=PAGE).headers["Location"] == "/make"
    monkeypatch.setattr("cryptography.fernet.time.time", lambda: __import__("time").time_ns() / 1e9 + 3601)
    assert client.get("/", headers=PAGE).headers["Location"].startswith("/sign-in")


def test_over_https_the_cookie_is_sent_over_nothing_else() -> None:
    cookie = client_of(https=True).get("/sign-in", headers=PAGE).headers["Set-Cookie"]
    assert cookie.startswith("__Host-enlight_session=")
    assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
    assert "Secure" not in client_of().get("/sign-in", headers=PAGE).headers["Set-Cookie"].split("; ")


def test_who_signs_in_while_main_api_is_away_can_try_again_on_the_same_page() -> None:
    client = client_of()
    form = {"key": "enl_a_b", "csrf_token": token_of(client.get("/sign-in", headers=PAGE).text)}
    answer = client.post("/sign-in", data=form, headers=PAGE)
    assert answer.status_code == 503
    assert "main-api cannot be reached" in answer.text
    assert 'name="key"' in answer.text


def test_a_page_that_needs_main_api_says_that_it_is_away() -> None:
    client = signed_in(client_of())
    answer = client.get("/generate", headers=PAGE)
    assert answer.status_code == 503
    assert answer.content_type.startswith("text/html")
    assert "main-api cannot be reached" in answer.text
    assert client.get("/ready").status_code == 200  # it is there, and says so
    part = client.get("/generate", headers={"HX-Request": "true"})
    assert (part.status_code, part.headers["HX-Retarget"]) == (503, "#notices")
    assert client.get("/generate", headers={"Accept": "application/json"}).get_json()["error"]["code"]
