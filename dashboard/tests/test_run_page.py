"""The page Run: what is seen of the suite, and what is done about it. In a real Chromium, before the real suite."""

from __future__ import annotations

import base64
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from browser import PHONE, SCREEN, assert_accessible, assert_fits, take_screenshot
from local_suite import LocalSuite
from people import LONG_S, PHOTOS, Person
from playwright.sync_api import Browser, Page, expect
from waiting import wait_until

MakeKey = Callable[[str], str]
BACK_AGAIN_MS = 60_000
"""A service that starts on a machine that does much else."""


@pytest.fixture(scope="module")
def admin(suite: LocalSuite, admin_key: str) -> Person:
    """Who runs the suite."""
    return Person(suite, admin_key)


@pytest.fixture(scope="module")
def rita(suite: LocalSuite, make_key: MakeKey) -> Person:
    """A user with a model, `robot`, a training of it that was cancelled, and a request that failed."""
    rita = Person(suite, make_key("rita"))
    rita.train("robot")
    start(rita, "cancelled", cancel=True)
    call(rita, "POST", "/v1/generations", {"model_id": "<img src=x onerror=alert(1)>", "prompt": "a robot"}, status=404)
    return rita


def call(person: Person, method: str, path: str, body: object = None, *, status: int, **headers: str) -> Any:
    headers["Authorization"] = f"Bearer {person.key}"
    answer = requests.request(method, f"{person.suite.url}{path}", json=body, headers=headers, timeout=LONG_S)
    assert answer.status_code == status, answer.text
    return answer.json()


def start(person: Person, model_id: str, *, cancel: bool = False, **headers: str) -> str:
    photo = base64.b64encode((PHOTOS / "robot-1.png").read_bytes()).decode()
    body = {"model_id": model_id, "instance_prompt": "a sks robot", "photos": [photo], "max_training_steps": 2000}
    training_id = str(call(person, "POST", "/v1/trainings", body, status=202, **headers)["id"])
    if cancel:
        call(person, "POST", f"/v1/trainings/{training_id}/cancel", status=202)
        wait_until(lambda: person.get(f"/v1/trainings/{training_id}")["state"] == "cancelled", LONG_S)
    return training_id


@contextmanager
def on(person: Person, browser: Browser, address: str, **how: Any) -> Iterator[Page]:
    with person.browsing(browser, **how) as page:
        page.goto(address)
        yield page


def test_the_machine_is_seen_and_its_figures_renew_themselves(admin: Person, rita: Person, browser: Browser) -> None:
    with on(admin, browser, "/run?hours=1") as page:
        card = page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="dreambooth-api"))
        expect(card).to_contain_text("ready")
        memory = card.get_by_role("meter", name="Memory")
        assert 0 < float(memory.get_attribute("value") or 0) < float(memory.get_attribute("max") or 0)
        expect(page.get_by_role("heading", name="Training worker")).to_be_visible()
        chart = page.get_by_role("img", name=re.compile(r"^Requests\. [\d,]+ in all, \d+ of them failed"))
        first_said = chart.get_attribute("aria-label")
        page.get_by_text("As a table").first.click()
        table = page.get_by_role("region", name="Figures of Requests")
        expect(table.get_by_role("columnheader", name="Failed")).to_be_visible()
        period = page.get_by_role("link", name="24 hours")
        period.focus()
        before = page.evaluate("scrollTo(0, 300), scrollY")
        call(rita, "GET", "/v1/models/nobody", status=404)
        expect(chart).not_to_have_attribute("aria-label", first_said or "")
        expect(table).to_be_visible()  # stays open
        expect(period).to_be_focused()
        assert page.evaluate("scrollY") == before
        period.click()
        expect(page.get_by_role("heading", name=re.compile("last 24 hours"))).to_be_visible()


def test_a_hidden_page_asks_for_nothing(admin: Person, browser: Browser) -> None:
    with admin.browsing(browser) as page:
        page.clock.install()
        page.goto("/run")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(urlsplit(request.url).path))
        show(page, "hidden")
        page.clock.run_for(60_000)
        assert "/run/now" not in asked
        with page.expect_request(re.compile("/run/now")):
            show(page, "visible")
        with page.expect_request(re.compile("/run/now")):
            page.clock.run_for(10_000)


def show(page: Page, state: str) -> None:
    """As if the reader looked at another tab, or came back."""
    page.evaluate(
        "(state) => { Object.defineProperty(document, 'visibilityState', {value: state, configurable: true});"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        state,
    )


def test_a_user_sees_what_is_their_own(rita: Person, suite: LocalSuite, make_key: MakeKey, browser: Browser) -> None:
    other = Person(suite, make_key("sven"))
    with on(other, browser, "/run") as page:
        expect(page.get_by_role("heading", name="Workers")).to_have_count(0)
        page.goto("/run/jobs")
        expect(page.get_by_text("Nobody has trained anything yet")).to_be_visible()
        page.goto("/run/models")
        expect(page.get_by_text("There is no model yet")).to_be_visible()
        page.goto("/run/models/robot")
        expect(page.get_by_role("alert")).to_contain_text("There is no model robot")
        page.goto(f"/run/jobs/{rita.get('/v1/trainings')['trainings'][0]['id']}")
        expect(page.get_by_role("heading", name="Not here")).to_be_visible()
        page.goto("/run/keys")
        expect(page.get_by_role("cell", name="sven")).to_be_visible()
        expect(page.get_by_role("cell", name="rita")).to_have_count(0)
        expect(page.get_by_role("button", name="Make a key")).to_have_count(0)
        page.goto("/run/errors")
        expect(page.get_by_text("onerror")).to_have_count(0)


def test_main_api_away_and_back(admin: Person, suite: LocalSuite, browser: Browser) -> None:
    gateway = suite.parts["main-api"]
    with on(admin, browser, "/run") as page:
        away = page.get_by_role("status").filter(has_text="main-api cannot be reached")
        gateway.stop()
        try:
            expect(away).to_be_visible()
            expect(page.get_by_role("heading", name="Workers")).to_be_visible()  # what was seen last
            assert_accessible(page)
            take_screenshot(page, "run-away-1440")
            page.goto("/run/jobs")
            expect(away).to_be_visible()
            expect(page.get_by_role("button", name="Close this notice")).to_have_count(0)
        finally:
            gateway.start()
        expect(away).to_be_hidden(timeout=BACK_AGAIN_MS)
        expect(page.get_by_text("Nobody has trained anything yet")).to_be_visible()


def test_a_training_is_cancelled_and_retried_and_tells_of_itself(rita: Person, browser: Browser) -> None:
    training_id = start(rita, "slow")
    with on(rita, browser, "/run/jobs") as page:
        row = page.get_by_role("row").filter(has=page.get_by_role("link", name="slow", exact=True))
        row.get_by_role("button", name="Cancel the training of slow").click()
        dialog = page.get_by_role("dialog", name="Cancel the training of slow?")
        dialog.get_by_role("button", name="Let it go on").click()
        expect(dialog).to_be_hidden()
        assert rita.get(f"/v1/trainings/{training_id}")["cancel_requested"] is False
        row.get_by_role("button", name="Cancel the training of slow").click()
        dialog.get_by_role("button", name="Cancel the training", exact=True).click()
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(row.get_by_text("cancelled", exact=True)).to_be_visible(timeout=BACK_AGAIN_MS)
        row.get_by_role("button", name="Retry the training of slow").click()
        expect(page.get_by_text(re.compile("slow is trained again"))).to_be_visible()
        again = rita.get("/v1/trainings")["trainings"][0]
        assert again["retry_of"] == training_id
        page.goto(f"/run/jobs/{again['id']}")
        log = page.get_by_role("list", name="Log")
        expect(log).to_contain_text("Accepted")
        expect(page.get_by_role("region", name="Parameters")).to_contain_text("max training steps")
        page.get_by_role("button", name="Cancel the training of slow").click()
        dialog.get_by_role("button", name="Cancel the training", exact=True).click()
        expect(page.get_by_text("cancelled", exact=True)).to_be_visible(timeout=BACK_AGAIN_MS)


def test_trainings_are_filtered_and_paged(rita: Person, browser: Browser) -> None:
    with on(rita, browser, "/run/jobs") as page:
        page.get_by_label("State").select_option("succeeded")
        page.get_by_role("button", name="Show").click()
        expect(page).to_have_url(re.compile("state=succeeded"))
        expect(page.get_by_role("link", name="robot", exact=True)).to_be_visible()
        expect(page.get_by_role("link", name="cancelled", exact=True)).to_have_count(0)
        page.get_by_label("Model").fill("cancelled")
        page.get_by_role("button", name="Show", exact=True).click()
        expect(page.get_by_text("No training is like that.")).to_be_visible()
        page.get_by_role("link", name="Show all").click()
        expect(page.get_by_role("link", name="cancelled", exact=True)).to_be_visible()


def test_a_model_goes_away_and_comes_back_and_goes(rita: Person, browser: Browser, tmp_path: Path) -> None:
    with on(rita, browser, "/run/models") as page:
        with page.expect_download() as download:
            page.get_by_role("link", name="Export robot", exact=True).click()
        file = tmp_path / download.value.suggested_filename
        download.value.save_as(file)
        page.get_by_role("button", name="Import a model").click()
        dialog = page.get_by_role("dialog", name="Import a model")
        dialog.get_by_label("File").set_input_files(file)
        expect(dialog.get_by_label("Name")).to_have_value("robot")
        dialog.get_by_role("button", name="Import", exact=True).click()
        expect(dialog.get_by_role("alert")).to_contain_text("robot")  # that name is taken
        dialog.get_by_label("Name").fill("guest")
        dialog.get_by_role("button", name="Import", exact=True).click()
        expect(page.get_by_text("guest is here.")).to_be_visible()
        expect(page.get_by_role("link", name="guest", exact=True)).to_be_visible()
        versions = [rita.get(f"/v1/models/{name}")["size_bytes"] for name in ("robot", "guest")]
        assert versions[0] == versions[1]

        page.get_by_role("button", name="Rename guest").click()
        page.get_by_label("New name").fill("robot")
        page.get_by_role("button", name="Rename", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("already")
        page.get_by_label("New name").fill("lodger")
        page.get_by_role("button", name="Rename", exact=True).click()
        expect(page.get_by_role("heading", name="lodger")).to_be_visible()
        page.wait_for_load_state()

        page.get_by_role("button", name="Delete lodger").click()
        page.get_by_label("Type its name, lodger").fill("robot")
        page.get_by_role("button", name="Delete everywhere").click()
        expect(page.get_by_role("alert")).to_contain_text("type its name: lodger")
        assert rita.get("/v1/models/lodger")["id"] == "lodger"
        page.get_by_label("Type its name, lodger").fill("lodger")
        page.get_by_role("button", name="Delete everywhere").click()
        gone = page.get_by_role("dialog", name="lodger is deleted")
        expect(gone).to_contain_text(re.compile(r"Files left in the bucket\s*0"))
        gone.get_by_role("link", name="All models").click()
        expect(page.get_by_role("link", name="robot", exact=True)).to_be_visible()
        expect(page.get_by_role("link", name="lodger", exact=True)).to_have_count(0)


def test_an_import_that_is_too_large_or_forged_is_refused(rita: Person, suite: LocalSuite, browser: Browser) -> None:
    with on(rita, browser, "/run/models") as page:
        cookies = {each["name"]: each["value"] for each in page.context.cookies()}
        token = page.locator("body").get_attribute("data-csrf-token") or ""
    address = f"{suite.dashboard.url}/run/import-model?name=forged"
    answer = requests.post(address, data=b"x", cookies=cookies, timeout=LONG_S)
    assert answer.status_code == 403
    headers = {"X-CSRF-Token": token, "Content-Length": str(9 << 30)}
    place = urlsplit(suite.dashboard.url)
    with socket.create_connection((place.hostname, place.port), timeout=LONG_S) as line:
        cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
        lines = ["POST /run/import-model?name=big HTTP/1.1", f"Host: {place.netloc}"]
        lines += [f"Cookie: {cookie}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        line.sendall("\r\n".join(lines).encode())
        assert b" 413 " in line.recv(200)


def test_a_key_is_shown_once_and_works_until_it_is_revoked(admin: Person, suite: LocalSuite, browser: Browser) -> None:
    with on(admin, browser, "/run/keys") as page:
        page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        page.get_by_role("button", name="Make a key").click()
        dialog = page.get_by_role("dialog", name="Make a key")
        dialog.get_by_role("textbox", name="Tenant").fill("tilda")
        dialog.get_by_label("Used for").fill("<b>the shop</b>")
        with page.expect_response(re.compile("/run/keys$")) as answered:
            dialog.get_by_role("button", name="Make the key").click()
        assert answered.value.headers["cache-control"] == "no-store"
        dialog = page.get_by_role("dialog", name="The key of tilda")
        expect(dialog).to_contain_text("the only time that it is shown")
        key = dialog.get_by_label("Key", exact=True).input_value()
        assert key not in page.url
        dialog.get_by_role("button", name="Copy").click()
        expect(dialog.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == key
        dialog.get_by_role("button", name="I have kept it").click()
        expect(page.get_by_role("cell", name="<b>the shop</b>")).to_be_visible()  # as it was typed
        assert key not in page.content()
        tilda = Person(suite, key)
        assert tilda.get("/v1/me")["tenant"] == "tilda"

        row = page.get_by_role("row").filter(has_text="tilda")
        row.get_by_role("button", name=re.compile("^Revoke")).click()
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        expect(page.get_by_role("cell", name="tilda")).to_have_count(0)
        call(tilda, "GET", "/v1/me", status=401)
        page.get_by_role("link", name=re.compile("revoked, too")).click()
        expect(page.get_by_role("row").filter(has_text="the shop")).to_contain_text("revoked")


def test_who_renews_the_key_that_they_came_with_stays_signed_in(
    suite: LocalSuite, make_key: MakeKey, browser: Browser
) -> None:
    ulla = Person(suite, make_key("ulla"))
    with on(ulla, browser, "/run/keys") as page:
        row = page.get_by_role("row").filter(has_text="you")
        row.get_by_role("button", name=re.compile("^Renew")).click()
        page.get_by_role("dialog").get_by_role("button", name="Renew").click()
        renewed = page.get_by_role("dialog").get_by_label("Key", exact=True).input_value()
        assert renewed != ulla.key
        page.get_by_role("button", name="I have kept it").click()
        page.goto("/run/models")
        expect(page.get_by_text("There is no model yet")).to_be_visible()
        call(ulla, "GET", "/v1/me", status=401)


def test_what_failed_is_listed_as_text_page_by_page(rita: Person, browser: Browser) -> None:
    with on(rita, browser, "/run/errors") as page:
        expect(page.get_by_role("cell", name="<img src=x onerror=alert(1)>")).to_be_visible()
        expect(page.get_by_role("img")).to_have_count(0)
        expect(page.get_by_role("link", name="Earlier ones")).to_have_count(0)
        for number in range(60):
            call(rita, "GET", f"/v1/models/nobody-{number}", status=404)
        expect(page.get_by_role("cell", name="nobody-59")).to_be_visible()
        page.get_by_role("link", name="Earlier ones").click()
        expect(page.get_by_role("cell", name="<img src=x onerror=alert(1)>")).to_be_visible()
        expect(page.get_by_role("cell", name="nobody-59")).to_have_count(0)


def test_a_webhook_that_did_not_arrive_is_delivered_again(rita: Person, browser: Browser) -> None:
    received = threading.Event()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200 if up.is_set() else 500)
            self.end_headers()
            if up.is_set():
                received.set()

    up = threading.Event()
    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}/told"
        start(rita, "told", cancel=True, **{"X-Webhook-URL": address})
        with on(rita, browser, "/run/errors") as page:
            row = page.get_by_role("row").filter(has_text=address)
            expect(row).to_contain_text("given up", timeout=BACK_AGAIN_MS)
            up.set()
            row.get_by_role("button", name=re.compile("^Deliver")).click()
            assert received.wait(LONG_S)
            expect(row).to_have_count(0, timeout=BACK_AGAIN_MS)
        server.shutdown()


@pytest.mark.parametrize(("viewport", "dark"), [(PHONE, False), (SCREEN, False), (SCREEN, True)])
def test_every_tab_can_be_used_by_everybody(
    admin: Person, rita: Person, browser: Browser, viewport: dict[str, int], dark: bool
) -> None:
    kind = f"{viewport['width']}{'-dark' if dark else ''}"
    with on(admin, browser, "/run?hours=1", viewport=viewport, dark=dark) as page:
        for tab in ("Overview", "Keys", "Errors"):
            page.get_by_role("navigation", name="Run").get_by_role("link", name=tab).click()
            look_at(page, f"run-{tab.lower()}-{kind}")
        page.goto("/run/keys")
        page.get_by_role("button", name="Make a key").click()
        look_at(page, f"run-make-a-key-{kind}")
    with on(rita, browser, "/run/jobs", viewport=viewport, dark=dark) as page:
        look_at(page, f"run-jobs-{kind}")
        page.get_by_role("link", name="robot", exact=True).click()
        look_at(page, f"run-job-{kind}")
        page.goto("/run/models")
        look_at(page, f"run-models-{kind}")
        page.get_by_role("button", name="Delete robot").click()
        look_at(page, f"run-delete-{kind}")
        page.goto("/run/models/robot")
        look_at(page, f"run-model-{kind}")


def look_at(page: Page, name: str) -> None:
    page.wait_for_load_state("networkidle")
    assert_accessible(page)
    assert_fits(page)
    take_screenshot(page, name)
