"""Debian's Chromium, as people with a phone and with a large screen have it. A page that asks another site for
something, or whose script fails, fails the test that opened it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

PHONE = {"width": 390, "height": 844}
SCREEN = {"width": 1440, "height": 900}
TIMEOUT_MS = 20_000
SCREENSHOTS = Path(__file__).resolve().parents[3] / "demo-output" / "screenshots"
"""Where the tests leave pictures of the pages; not committed."""

expect.set_options(timeout=TIMEOUT_MS)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; the test is skipped where there is none."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        # As root, which containers and CI machines run tests as, Chromium's own sandbox cannot be had.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visitor(
    browser: Browser, address: str, *, viewport: dict[str, int] | None = None, dark: bool = False
) -> Iterator[Page]:
    """A page of somebody with a browser of their own: no cookies of anybody else.

    Raises: AssertionError at the end, when the pages asked for something elsewhere, or a script of theirs failed.
    """
    context: BrowserContext = browser.new_context(
        base_url=address,
        viewport=viewport or SCREEN,  # type: ignore[arg-type]  # a TypedDict of Playwright's
        has_touch=viewport == PHONE,
        color_scheme="dark" if dark else "light",
    )
    context.set_default_timeout(TIMEOUT_MS)
    own = urlsplit(address).netloc
    troubles: list[str] = []
    context.on(
        "request",
        lambda request: (
            None
            if urlsplit(request.url).netloc == own or request.url.startswith(("data:", f"blob:{address}"))
            else troubles.append(f"asked for {request.url}")
        ),
    )
    context.on("weberror", lambda error: troubles.append(f"a script failed: {error.error}"))
    # A refusal of the content security policy is told on the console.
    context.on(
        "console",
        lambda message: troubles.append(message.text) if "Content Security Policy" in message.text else None,
    )
    try:
        yield context.new_page()
    finally:
        context.close()
    assert not troubles, troubles


def assert_accessible(page: Page) -> None:
    """axe finds nothing serious or critical on the page as it is."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    serious = [
        (problem["id"], problem["help"], [node["html"][:200] for node in problem["nodes"]])
        for problem in found
        if problem["impact"] in ("serious", "critical")
    ]
    assert not serious, serious


def assert_fits(page: Page) -> None:
    """Nothing is wider than the screen."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0, f"the page is {wide} pixels wider than the screen"


def take_screenshot(page: Page, name: str) -> None:
    """Leaves ``demo-output/screenshots/<name>.png``, to be looked at."""
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.evaluate("scrollTo(0, 0)")  # what stays at an edge of the screen is else in the middle of the picture
    page.screenshot(path=SCREENSHOTS / f"{name}.png", full_page=True)
