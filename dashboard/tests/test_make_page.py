"""From photos to a model, as people do it: by what they read on the page. In a real Chromium, before the real suite."""

from __future__ import annotations

import base64
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from browser import PHONE, SCREEN, assert_accessible, assert_fits, take_screenshot, visitor
from fault_proxy import Fault, HttpFaultProxy
from local_suite import ROOT, LocalSuite
from people import Person, until
from PIL import Image
from playwright.sync_api import Browser, Page, expect

PHOTOS = sorted((ROOT / "demo" / "photos").glob("*.png"))
TRAINED_WITHIN_MS = 240_000
"""A training of a few steps takes seconds, and a minute where eight other processes want the same two cores."""


class Maker(Person):
    """A tenant who makes models."""

    def post(self, path: str, **body: object) -> dict[str, Any]:
        """What main-api answers; an error fails the test."""
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = requests.post(self.suite.url + path, json=body or None, headers=headers, timeout=60)
        assert answer.ok, answer.text
        return dict(answer.json())

    def trainings(self) -> list[dict[str, Any]]:
        """All of theirs, newest first."""
        return list(self.get("/v1/trainings")["trainings"])

    def start(self, name: str, **more: object) -> str:
        """Starts a training of a few steps over the API; gives its id."""
        photos = [base64.b64encode(photo.read_bytes()).decode() for photo in PHOTOS]
        fields = {"preset": "lora", "max_training_steps": 2, "train_batch_size": 1, **more}
        body = {"model_id": name, "instance_prompt": "a sks robot", "photos": photos, **fields}
        return str(self.post("/v1/trainings", **body)["id"])

    def cancel_the_only_one(self) -> dict[str, Any]:
        """Gives the one training that they have, and spares the machine the rest of it."""
        (training,) = self.trainings()
        return self.post(f"/v1/trainings/{training['id']}/cancel")


MakeMaker = Callable[[str], Maker]


@pytest.fixture(scope="module")
def maker(suite: LocalSuite, make_key: Callable[[str], str]) -> MakeMaker:
    """Makes somebody new."""
    return lambda name: Maker(suite, make_key(f"{name}-makes"))


@pytest.fixture(scope="module")
def anna(maker: MakeMaker) -> Maker:
    return maker("anna")


@pytest.fixture(scope="module")
def trained(anna: Maker) -> dict[str, Any]:
    """A training that succeeded, with a sample."""
    address = f"/v1/trainings/{anna.start('robot', sample_prompt='a sks robot', sample_every_steps=2)}"
    until(lambda: anna.get(address)["state"] not in ("queued", "running"))
    training: dict[str, Any] = anna.get(address)
    assert training["state"] == "succeeded", training
    return training


@contextmanager
def between(suite: LocalSuite) -> Iterator[HttpFaultProxy]:
    """A way to the page on which connections can be lost; its address is `url`."""
    port = urlsplit(suite.dashboard.url).port
    assert port is not None
    with HttpFaultProxy(("127.0.0.1", port)) as proxy:
        yield proxy


def sign_in(page: Page, person: Person) -> None:
    page.goto("/sign-in")
    page.get_by_label("Your API key").fill(person.key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/make")


def choose(page: Page, *photos: Path) -> None:
    page.get_by_label("Choose photos").set_input_files(photos)


def chosen(page: Page) -> list[str]:
    """The names of the photos on the page, in order."""
    images = page.get_by_role("list", name="Photos that you chose").get_by_role("img").all()
    return [re.sub(r"Photo \d+: ", "", image.get_attribute("alt") or "") for image in images]


def expect_chosen(page: Page, *photos: Path) -> None:
    expect(page.get_by_role("img", name=f"Photo {len(photos)}:")).to_be_visible()
    assert chosen(page) == [photo.name for photo in photos]


def fill_in(page: Page, name: str) -> None:
    page.get_by_label("Its name").fill(name)
    page.get_by_label("What it is, in a word").fill("robot")
    page.get_by_role("radio", name="Quick and small").check()
    page.get_by_text("More settings").click()
    page.get_by_label("Steps", exact=True).fill("10")


def test_from_photos_to_a_model(browser: Browser, maker: MakeMaker) -> None:
    berta = maker("berta")
    with berta.browsing(browser) as page:
        expect(page.get_by_text("Nothing yet.")).to_be_visible()
        choose(page, *PHOTOS)
        expect(page.get_by_text("5 photos: a good number.")).to_be_visible()
        fill_in(page, "Berta's robot")
        expect(page.get_by_text("The model is called Berta-s-robot.")).to_be_visible()
        expect(page.get_by_text("In prompts it is called a sks robot.")).to_be_visible()
        page.get_by_role("button", name="Start").click()

        expect(page.get_by_role("heading", name=re.compile("Berta-s-robot (waits|is being made)"))).to_be_visible()
        expect(page.get_by_role("progressbar", name="Progress")).to_be_visible()
        first = page.get_by_role("img", name="Berta-s-robot after 2 steps")
        expect(first).to_be_visible(timeout=TRAINED_WITHIN_MS)  # while it learns, without a reload
        assert_accessible(page)
        page.reload()
        expect(first).to_be_visible()

        expect(page.get_by_role("heading", name="Berta-s-robot is ready")).to_be_visible(timeout=TRAINED_WITHIN_MS)
        expect(page).to_have_title("Berta-s-robot is ready · Enlight")
        expect(page.get_by_role("img", name=re.compile("Berta-s-robot after"))).to_have_count(5)
        expect(page.get_by_role("img", name="Curve of the loss")).to_be_visible()
        assert page.evaluate("document.querySelector('img[alt$=\"after 10 steps\"]').naturalWidth") == 64
        address = page.get_by_role("link", name="Make pictures").get_attribute("href")
        assert address == "/generate?model=Berta-s-robot"

        page.go_back()  # to the form, which is not sent again
        expect(page.get_by_role("link", name=re.compile("Berta-s-robot.*Ready"))).to_be_visible()
        (training,) = berta.trainings()
        assert training["parameters"]["sample_prompt"] == training["parameters"]["instance_prompt"] == "a sks robot"
        assert (training["preset"], training["parameters"]["num_photos"]) == ("lora", 5)


def test_files_that_are_no_photos_are_left_out_before_anything_is_sent(
    browser: Browser, anna: Maker, tmp_path: Path
) -> None:
    notes, empty, damaged, heic, huge = (
        tmp_path / name for name in ("notes.jpg", "empty.png", "half.png", "phone.heic", "huge.png")
    )
    notes.write_text("no photo, whatever its name says")
    empty.touch()
    damaged.write_bytes(PHOTOS[0].read_bytes()[:40])
    heic.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(1000))  # which this browser cannot show
    with huge.open("wb") as file:  # a hole: it takes no room
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(202_000_000)
    with anna.browsing(browser) as page:
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
        choose(page, notes, empty, damaged, huge)
        told = page.get_by_role("alert")
        expect(
            told.get_by_text("notes.jpg is not a photo that can be used: take JPEG, PNG, WebP or HEIC.")
        ).to_be_visible()
        expect(told.get_by_text("empty.png is empty.")).to_be_visible()
        expect(told.get_by_text("half.png is damaged and cannot be opened.")).to_be_visible()
        expect(told.get_by_text("huge.png is too large: all photos together may have 201 MB.")).to_be_visible()
        assert not sent

        choose(page, PHOTOS[0])
        expect_chosen(page, PHOTOS[0])
        choose(page, PHOTOS[0])
        expect(told.get_by_text("robot-1.png is there already.")).to_be_visible()

        choose(page, heic)  # shown by its name; main-api, which can open it, finds it broken
        expect(told.get_by_text("phone.heic is damaged, so it was left out.")).to_be_visible()
        expect_chosen(page, PHOTOS[0])


def test_more_photos_than_a_training_takes_are_left_out(browser: Browser, anna: Maker, tmp_path: Path) -> None:
    many = [tmp_path / f"photo-{number:02d}.png" for number in range(52)]
    for number, path in enumerate(many):
        Image.new("RGB", (64, 64), (number * 4, 100, 200)).save(path)
    with anna.browsing(browser) as page:
        choose(page, *many)
        expect(page.get_by_text("50 photos are the most: 2 were left out.")).to_be_visible()
        expect_chosen(page, *many[:50])
        expect(page.get_by_text("50 photos: fine, though more than 20 hardly help.")).to_be_visible()


def test_photos_are_moved_and_removed_by_button_key_and_mouse(browser: Browser, anna: Maker) -> None:
    one, two, three, *_ = PHOTOS
    with anna.browsing(browser) as page:
        choose(page, one, two, three)
        expect_chosen(page, one, two, three)
        page.get_by_role("button", name="Move photo 1 later").click()
        expect_chosen(page, two, one, three)
        expect(page.get_by_text("Photo 1 is now photo 2.")).to_be_attached()
        page.keyboard.press("ArrowRight")  # the button went with its photo, and is focused
        expect_chosen(page, two, three, one)
        page.get_by_role("img", name="Photo 3:").drag_to(page.get_by_role("img", name="Photo 1:"))
        expect_chosen(page, one, two, three)
        page.get_by_role("button", name="Remove photo 2").focus()
        page.keyboard.press("Delete")
        expect(page.get_by_role("img", name="Photo 3:")).to_have_count(0)
        expect_chosen(page, one, three)
        expect(page.get_by_role("button", name="Remove photo 2")).to_be_focused()


def test_photos_can_be_dropped_anywhere(browser: Browser, anna: Maker) -> None:
    with anna.browsing(browser) as page:
        dropped = page.evaluate_handle(
            """photos => photos.reduce((data, [name, text]) => {
                const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
                data.items.add(new File([bytes], name));
                return data;
            }, new DataTransfer())""",
            [[photo.name, base64.b64encode(photo.read_bytes()).decode()] for photo in PHOTOS[:2]],
        )
        page.get_by_role("heading", name="Made before").dispatch_event("drop", {"dataTransfer": dropped})
        expect_chosen(page, *PHOTOS[:2])


def test_warnings_are_about_the_photos_that_are_there(
    suite: LocalSuite, browser: Browser, anna: Maker, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(PHOTOS[0].read_bytes())
    with between(suite) as way, visitor(browser, way.url) as page:
        sign_in(page, anna)
        choose(page, *PHOTOS[:4], copy)
        sentence = page.get_by_text("nearly the same picture. Keep one")
        expect(sentence).to_have_text(re.compile("^Photos 1 and 5: "))
        expect(page.get_by_text("Same as another")).to_have_count(2)
        assert_accessible(page)

        way.inject(Fault(match="POST /make/photos/check", latency_s=3))
        with page.expect_request("**/photos/check"):
            page.get_by_role("button", name="Move photo 5 earlier").click()
        page.get_by_role("button", name="Remove photo 4").click()  # while five are being looked at
        expect(page.get_by_text("4 photos: it works, but 5 to 20 are best.")).to_be_visible()
        page.wait_for_timeout(3500)  # the answer about five has come, and nobody wants it
        expect(sentence).to_be_hidden()
        expect(page.get_by_text("Same as another").first).to_be_hidden()


def test_large_photos_are_sent_whole_but_checked_small(browser: Browser, anna: Maker, tmp_path: Path) -> None:
    photo = tmp_path / "from-a-phone.jpg"
    Image.effect_noise((4000, 3000), 80).convert("RGB").save(photo, quality=90)
    with anna.browsing(browser) as page:
        with page.expect_request("**/photos/check") as checked:
            choose(page, photo)
        size_bytes = int(checked.value.all_headers()["content-length"])
        assert size_bytes < photo.stat().st_size / 2
        expect(page.get_by_text("Photo 1: nothing stands out")).to_be_visible()  # noise is seen as such all the same


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("robot", "There is a model robot: it gets a new version."),
        ("Großvaters Röbi", "The model is called Grossvaters-Robi."),
        ("<img src=x onerror=alert(1)>", "The model is called img-src-x-onerror-alert-1."),
        ("小狗", "Give a name with at least one letter from A to Z or a digit."),
    ],
)
def test_a_name_becomes_one_that_can_be_used(
    browser: Browser, anna: Maker, trained: dict[str, Any], typed: str, told: str
) -> None:
    with anna.browsing(browser) as page:
        page.get_by_label("Its name").fill(typed)
        expect(page.get_by_text(told)).to_be_visible()


def test_what_was_chosen_outlives_a_reload_and_is_forgotten_once_it_is_started(
    suite: LocalSuite, browser: Browser, maker: MakeMaker
) -> None:
    clara = maker("clara")
    with clara.browsing(browser) as page:
        choose(page, *PHOTOS)
        fill_in(page, "robbie")
        expect_chosen(page, *PHOTOS)
        page.wait_for_timeout(800)  # a moment after the last change
        page.reload()
        expect_chosen(page, *PHOTOS)
        expect(page.get_by_label("Its name")).to_have_value("robbie")
        expect(page.get_by_role("radio", name="Quick and small")).to_be_checked()
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_role("heading", name=re.compile("robbie"))).to_be_visible()
        page.goto("/make")
        expect(page.get_by_role("link", name=re.compile("robbie"))).to_be_visible()
        expect(page.get_by_label("Its name")).to_have_value("")
        assert chosen(page) == []
    clara.cancel_the_only_one()


def test_a_connection_that_is_lost_starts_one_training(suite: LocalSuite, browser: Browser, maker: MakeMaker) -> None:
    dora = maker("dora")
    with between(suite) as way, visitor(browser, way.url) as page:
        sign_in(page, dora)
        choose(page, *PHOTOS)
        fill_in(page, "robbie")
        expect(page.get_by_text("5 photos: a good number.")).to_be_visible()
        lost = page.get_by_text("The connection was lost. Nothing you chose is lost")

        # Amid the photos, and again when the browser tries it by itself.
        way.inject(Fault(match="POST /make$", cut_request_after=20_000, reset=True, times=None))
        page.get_by_role("button", name="Start").click()
        expect(lost).to_be_visible()
        way.clear()
        assert dora.trainings() == []

        way.inject(Fault(match="POST /make$", cut_response_after=0))  # it was accepted, and nobody told
        page.get_by_role("button", name="Send again").click()
        until(lambda: len(dora.trainings()) == 1)
        expect(lost).to_be_visible()

        page.get_by_role("button", name="Send again").click()
        expect(page.get_by_role("heading", name=re.compile("robbie"))).to_be_visible()
        assert dora.cancel_the_only_one()["id"] in page.url


def test_what_main_api_refuses_is_said_at_its_field(browser: Browser, anna: Maker) -> None:
    with anna.browsing(browser) as page:
        choose(page, *PHOTOS)
        fill_in(page, "robbie")
        page.get_by_label("Learning rate").fill("7")
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_role("alert").filter(has_text="less than or equal to 1")).to_be_visible()
        expect(page.get_by_label("Learning rate")).to_be_focused()
        page.get_by_label("Learning rate").fill("much")
        page.get_by_role("button", name="Send again").click()
        expect(page.get_by_text("This must be a number such as 0.0001.")).to_be_visible()


def test_a_training_is_cancelled_after_a_question_and_can_be_tried_again(
    suite: LocalSuite, browser: Browser, maker: MakeMaker
) -> None:
    emma = maker("emma")
    first = emma.start("robbie", max_training_steps=500)
    with emma.browsing(browser) as page:
        page.goto(f"/make/{first}")
        page.get_by_role("button", name="Cancel").click()
        question = page.get_by_role("dialog", name="Cancel robbie?")
        assert_accessible(page)
        question.get_by_role("button", name="Let it go on").click()
        expect(question).to_be_hidden()
        assert emma.trainings()[0]["state"] in ("queued", "running")
        page.get_by_role("button", name="Cancel").click()
        question.get_by_role("button", name="Cancel it").click()
        expect(page.get_by_role("heading", name="robbie was cancelled")).to_be_visible()
        page.get_by_role("button", name="Try again").click()
        expect(page.get_by_role("heading", name=re.compile("robbie (waits|is being made)"))).to_be_visible()
        again = emma.trainings()[0]
        assert (again["retry_of"], again["id"] in page.url) == (first, True)
    emma.post(f"/v1/trainings/{again['id']}/cancel")


def test_a_failure_is_told_with_what_to_do_next(browser: Browser, maker: MakeMaker) -> None:
    frida = maker("frida")
    training_id = frida.start("robbie", preset="seed", learning_rate=1.0, max_training_steps=4)
    with frida.browsing(browser) as page:
        page.goto(f"/make/{training_id}")
        expect(page.get_by_role("heading", name="robbie could not be made")).to_be_visible(timeout=TRAINED_WITHIN_MS)
        expect(page.get_by_text("The training diverged")).to_be_visible()
        expect(page.get_by_role("button", name="Try again")).to_be_visible()
        assert_accessible(page)
        take_screenshot(page, "make-failed-1440")


def test_the_page_waits_for_a_server_that_is_away(suite: LocalSuite, browser: Browser, maker: MakeMaker) -> None:
    gina = maker("gina")
    training_id = gina.start("robbie", max_training_steps=6)
    with gina.browsing(browser) as page:
        page.goto(f"/make/{training_id}")
        try:
            # So long that the stream is refused, after which a browser tries no more by itself.
            with page.expect_response(lambda answer: answer.url.endswith("/events") and answer.status == 503):
                suite.gateway.kill()
                expect(page.get_by_text("This page tries again by itself")).to_be_visible()
        finally:
            suite.gateway.start()
        expect(page.get_by_role("heading", name="robbie is ready")).to_be_visible(timeout=TRAINED_WITHIN_MS)
        expect(page.get_by_text("This page tries again by itself")).to_be_hidden()


def test_others_do_not_see_a_training(browser: Browser, maker: MakeMaker, anna: Maker, trained: dict[str, Any]) -> None:
    other = maker("hanna")
    with other.browsing(browser) as page:
        expect(page.get_by_text("Nothing yet.")).to_be_visible()
        for path in ("", "/now", "/events", "/log", "/samples/2"):
            assert page.request.get(f"/make/{trained['id']}{path}").status == 404, path
    with anna.browsing(browser) as page:
        for path in ("", "/now", "/events", "/log", "/samples/2"):
            assert page.request.get(f"/make/{trained['id']}{path}").status == 200, path


def test_a_training_is_started_without_scripts(suite: LocalSuite, browser: Browser, maker: MakeMaker) -> None:
    ida = maker("ida")
    context = browser.new_context(base_url=suite.dashboard.url, java_script_enabled=False)
    page = context.new_page()
    page.goto("/sign-in")
    page.get_by_label("Your API key").fill(ida.key)
    page.get_by_role("button", name="Sign in").click()
    choose(page, *PHOTOS)
    page.get_by_label("Its name").fill("robbie")
    page.get_by_label("What it is, in a word").fill("robot")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_role("heading", name=re.compile("robbie"))).to_be_visible()
    context.close()
    (training,) = ida.trainings()
    assert training["parameters"]["num_photos"] == 5
    ida.cancel_the_only_one()


def test_another_site_cannot_start_a_training(suite: LocalSuite, browser: Browser, maker: MakeMaker) -> None:
    jana = maker("jana")
    photos = [("photos", (photo.name, photo.read_bytes())) for photo in PHOTOS]
    with jana.browsing(browser) as page:
        cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
        own_token = page.evaluate("document.body.dataset.csrfToken")
    fields = {"subject_name": "robbie", "subject_kind": "robot", "start_key": "0" * 32}
    for token in ({}, {"csrf_token": ""}, {"csrf_token": "x" * 32}):
        answer = requests.post(
            f"{suite.dashboard.url}/make", data=fields | token, files=photos, cookies=cookies, timeout=30
        )
        assert answer.status_code == 403, token
    assert jana.trainings() == []
    fields |= {"csrf_token": own_token, "max_training_steps": "2"}
    answer = requests.post(f"{suite.dashboard.url}/make", data=fields, files=photos, cookies=cookies, timeout=30)
    assert answer.status_code == 202
    jana.cancel_the_only_one()


def test_only_so_many_send_photos_at_once(browser: Browser, suite: LocalSuite, anna: Maker) -> None:
    with anna.browsing(browser) as page:
        cookies = {cookie["name"]: cookie["value"] for cookie in page.context.cookies()}
        token = page.evaluate("document.body.dataset.csrfToken")
    port = urlsplit(suite.dashboard.url).port
    headers = {"X-CSRF-Token": token, "Content-Type": "multipart/form-data; boundary=b"}
    head = "".join(
        f"{name}: {value}\r\n"
        for name, value in {
            **headers,
            "Host": f"127.0.0.1:{port}",
            "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
            "Content-Length": "1000",
        }.items()
    )
    body = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n'
    address = f"{suite.dashboard.url}/make/photos/check"

    def status() -> int:
        return requests.post(address, data=body, headers=headers, cookies=cookies, timeout=30).status_code

    with ExitStack() as held:
        for _ in range(4):  # DASHBOARD_MAX_UPLOADS; each of them sends the beginning of a form, and then nothing
            client = held.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(f"POST /make/photos/check HTTP/1.1\r\n{head}\r\n".encode() + body)
        until_s = time.monotonic() + 20
        while (refused := status()) != 503:
            assert time.monotonic() < until_s, refused
    until_s = time.monotonic() + 20
    while (taken := status()) == 503:
        assert time.monotonic() < until_s
    assert taken in (400, 422)  # a form that is no form


@pytest.mark.parametrize("viewport", [PHONE, SCREEN], ids=["phone", "screen"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_everybody_can_use_it(
    browser: Browser, anna: Maker, trained: dict[str, Any], viewport: dict[str, int], dark: bool, tmp_path: Path
) -> None:
    name = f"{viewport['width']}{'-dark' if dark else ''}"
    copy = tmp_path / "copy.png"
    copy.write_bytes(PHOTOS[0].read_bytes())
    with anna.browsing(browser, viewport=viewport, dark=dark) as page:
        expect(page.get_by_role("link", name=re.compile("robot.*Ready"))).to_be_visible()
        assert_accessible(page)
        choose(page, *PHOTOS, copy)
        page.get_by_label("Its name").fill("robot")
        page.get_by_label("What it is, in a word").fill("robot")
        expect(page.get_by_text("Photos 1 and 6: nearly the same picture.")).to_be_visible()
        expect(page.get_by_text("There is a model robot")).to_be_visible()
        assert_accessible(page)
        assert_fits(page)
        take_screenshot(page, f"make-{name}")
        page.get_by_text("More settings").click()
        assert_accessible(page)
        assert_fits(page)
        small = page.evaluate(
            "[...document.querySelectorAll('main :is(button, a.button, summary)')].filter(each => "
            "each.checkVisibility() && each.getBoundingClientRect().height < 40).map(each => each.outerHTML)"
        )
        assert not small
        page.goto(f"/make/{trained['id']}")
        page.get_by_text("What happened").click()
        expect(page.get_by_text("Succeeded.")).to_be_visible()
        assert_accessible(page)
        assert_fits(page)
        take_screenshot(page, f"make-done-{name}")
