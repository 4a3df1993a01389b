"""Who gets in, and what a browser is told. In a real Chromium, before the real suite."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import requests
from browser import PHONE, SCREEN, assert_accessible, assert_fits, take_screenshot, visitor
from local_suite import LocalSuite
from playwright.sync_api import Browser, Page, expect

PAGE = {"Accept": "text/html"}


def sign_in(page: Page, key: str) -> None:
    page.goto("/")
    page.get_by_label("Your API key").fill(key)
    page.get_by_role("button", name="Sign in").click()


def test_nobody_sees_a_page_without_a_key(suite: LocalSuite, browser: Browser, make_key: Callable[[str], str]) -> None:
    key = make_key("anna")
    with visitor(browser, suite.dashboard.url) as page:
        sign_in(page, "enl_nobody_0000")
        expect(page.get_by_role("alert")).to_contain_text("No such key")
        page.goto("/generate?model=robot")
        assert "/sign-in" in page.url
        page.get_by_label("Your API key").fill(key)
        page.get_by_role("button", name="Sign in").click()
        expect(page).to_have_url(re.compile(r"/generate\?model=robot$"))  # where one wanted to go
        page.get_by_role("button", name="Sign out").click()
        page.goto("/make")
        expect(page.get_by_label("Your API key")).to_be_visible()


def test_a_key_that_is_revoked_ends_the_session(
    suite: LocalSuite, browser: Browser, make_key: Callable[[str], str], admin_key: str
) -> None:
    key = make_key("bruno")
    with visitor(browser, suite.dashboard.url) as page:
        sign_in(page, key)
        as_admin = {"Authorization": f"Bearer {admin_key}"}
        (found,) = requests.get(f"{suite.url}/v1/keys?tenant=bruno", headers=as_admin, timeout=30).json()["keys"]
        requests.delete(f"{suite.url}/v1/keys/{found['id']}", headers=as_admin, timeout=30).raise_for_status()
        page.goto("/make")
        page.goto("/make")
        expect(page.get_by_label("Your API key")).to_be_visible()


@pytest.mark.parametrize("viewport", [PHONE, SCREEN], ids=["phone", "screen"])
def test_the_first_page_can_be_used_by_everybody(suite: LocalSuite, browser: Browser, viewport: dict[str, int]) -> None:
    for dark in (False, True):
        with visitor(browser, suite.dashboard.url, viewport=viewport, dark=dark) as page:
            page.goto("/")
            assert_accessible(page)
            assert_fits(page)
            take_screenshot(page, f"sign-in-{viewport['width']}{'-dark' if dark else ''}")


def test_the_cookie_is_for_this_site_and_no_script(
    suite: LocalSuite, browser: Browser, make_key: Callable[[str], str]
) -> None:
    key = make_key("carla")
    with visitor(browser, suite.dashboard.url) as page:
        sign_in(page, key)
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Lax")
        assert key not in cookie["value"]
        assert page.evaluate("document.cookie") == ""


@pytest.mark.parametrize("address", ["//example.org", "https://example.org", "/\\example.org", "javascript:alert(1)"])
def test_the_sign_in_leads_to_this_site_only(suite: LocalSuite, make_key: Callable[[str], str], address: str) -> None:
    with requests.Session() as client:
        token = _token(client, suite)
        form = {"key": make_key("dora"), "csrf_token": token, "next": address}
        answer = client.post(f"{suite.dashboard.url}/sign-in", data=form, allow_redirects=False, timeout=30)
        assert (answer.status_code, answer.headers["Location"]) == (303, "/")


def test_what_another_site_sends_is_refused(suite: LocalSuite, make_key: Callable[[str], str]) -> None:
    with requests.Session() as client:
        form = {"key": make_key("emil"), "csrf_token": _token(client, suite)}
        address = f"{suite.dashboard.url}/sign-in"
        for changes, headers in (
            ({"csrf_token": ""}, {}),
            ({"csrf_token": "x" * 32}, {}),
            ({}, {"Sec-Fetch-Site": "cross-site"}),
            ({}, {"Sec-Fetch-Site": "same-site"}),  # another port of this machine
        ):
            answer = client.post(address, data=form | changes, headers=headers, allow_redirects=False, timeout=30)
            assert answer.status_code == 403, (changes, headers)
        with requests.Session() as other:  # somebody else's token is none of this session's
            token = _token(other, suite)
        assert client.post(address, data=form | {"csrf_token": token}, timeout=30).status_code == 403
        assert client.post(address, data=form, allow_redirects=False, timeout=30).status_code == 303


def test_a_page_runs_nothing_from_elsewhere_and_is_shown_in_no_frame(suite: LocalSuite) -> None:
    answer = requests.get(f"{suite.dashboard.url}/sign-in", headers=PAGE, timeout=30)
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_first_page_is_small(suite: LocalSuite, browser: Browser) -> None:
    sizes = []
    with visitor(browser, suite.dashboard.url) as page:
        page.on("response", lambda answer: sizes.append(int(answer.headers.get("content-length", 0))))
        page.goto("/", wait_until="networkidle")
    assert len(sizes) >= 4  # page, style, scripts, icon
    assert sum(sizes) < 150_000


def _token(client: requests.Session, suite: LocalSuite) -> str:
    page = client.get(f"{suite.dashboard.url}/sign-in", headers=PAGE, timeout=30).text
    (token,) = re.findall(r'name="csrf_token" value="([^"]+)"', page)
    return str(token)
