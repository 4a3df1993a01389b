"""From a model to pictures, and what is done with them: in a real Chromium, on the pocket model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from browser import PHONE, SCREEN, assert_accessible, assert_fits, take_screenshot
from local_suite import LocalSuite
from people import Person, until
from playwright.sync_api import Browser, Dialog, Locator, Page, expect

LONG_MS = 120_000
TRAP = "<img src=x onerror=\"document.title='owned';alert(1)\">"


@pytest.fixture(scope="module")
def anna(suite: LocalSuite, make_key: Callable[[str], str]) -> Person:
    """Has a model, `robot`, and one whose subject's name is a trap."""
    person = Person(suite, make_key("anna-of-generate"))
    person.train("robot")
    person.bring(person.exported("robot"), "a-trap", f"a sks {TRAP}")
    return person


@pytest.fixture
def page(anna: Person, browser: Browser) -> Iterator[Page]:
    with anna.browsing(browser) as page:
        yield page


def tiles(page: Page) -> Locator:
    return page.locator("#pictures").get_by_role("link")


def prompt(page: Page) -> Locator:
    return page.get_by_label("What should the picture show?")


def more(page: Page, **values: str) -> None:
    """Opens the folded part and fills it, by labels."""
    page.get_by_text("More", exact=True).click()
    for label, value in values.items():
        page.get_by_label(label).fill(value)


def begin_two(page: Page, *, steps: int) -> None:
    """Has two pictures made, until the first one is there."""
    page.goto("/generate?model=enlight/pocket")
    prompt(page).fill("a cat")
    page.get_by_label("How many pictures?").fill("2")
    more(page, Steps=str(steps))
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_text("1 of 2 pictures")).to_be_visible(timeout=LONG_MS)


# Making


@pytest.mark.parametrize("viewport", [PHONE, SCREEN], ids=["phone", "screen"])
def test_a_suggestion_becomes_pictures_that_are_kept(anna: Person, browser: Browser, viewport: dict[str, int]) -> None:
    width = viewport["width"]
    with anna.browsing(browser, viewport=viewport, dark=viewport == PHONE) as page:
        page.goto("/generate?model=robot")
        there = len(anna.pictures())
        page.get_by_role("button", name="on the beach").click()
        expect(prompt(page)).to_have_value("a sks robot on the beach")
        page.get_by_label("How many pictures?").fill("3")
        more(page, Steps="3")
        assert_accessible(page)
        assert_fits(page)
        take_screenshot(page, f"generate-form-{width}")
        page.get_by_role("button", name="Generate").click()
        places = page.get_by_label("A picture that is being made")
        expect(places.first).to_be_visible()  # before there is any picture
        expect(page.get_by_role("button", name="Stop")).to_be_visible()
        take_screenshot(page, f"generate-running-{width}")
        expect(page.get_by_text("Your 3 pictures are ready.")).to_be_visible(timeout=LONG_MS)
        expect(places).to_have_count(0)
        expect(tiles(page)).to_have_count(there + 3)
        shown = [address.rpartition("/")[2] for address in hrefs(page)]
        assert shown == [picture["id"] for picture in anna.pictures()]  # as they come with the next look, too
        page.reload()
        expect(tiles(page)).to_have_count(there + 3)
        expect(prompt(page)).to_have_value("a sks robot on the beach")  # kept for this model
        expect(page.get_by_label("Steps")).to_have_value("3")
        assert_accessible(page)
        assert_fits(page)
        take_screenshot(page, f"generate-{width}")
        page.goto("/generate?model=enlight/pocket")
        expect(prompt(page)).to_have_value("")


def hrefs(page: Page) -> list[str]:
    return [str(link.get_attribute("href")) for link in tiles(page).all()]


def test_a_model_is_chosen_from_all_there_are(page: Page) -> None:
    sizes: list[int] = []
    page.on(
        "response",
        lambda answer: sizes.append(0 if "/pictures/" in answer.url else int(answer.headers.get("content-length", 0))),
    )
    page.goto("/generate", wait_until="networkidle")
    assert 60_000 < sum(sizes) < 150_000  # pictures not counted
    page.get_by_role("button", name="Model").click()
    chooser = page.get_by_role("dialog", name="Choose a model")
    names = [name.inner_text() for name in chooser.get_by_role("listitem").locator("strong").all()]
    assert names == ["a-trap", "robot", "enlight/pocket"]  # the newest first, then those that nobody trained
    expect(chooser.get_by_role("link", name="a-trap")).to_have_attribute("aria-current", "true")
    assert_accessible(page)
    chooser.get_by_role("link", name="enlight/pocket").click()
    expect(page).to_have_url(re.compile(r"model=enlight%2Fpocket|model=enlight/pocket"))
    expect(page.get_by_role("button", name="a cat on the beach")).to_be_visible()  # it knows no subject of ours


def test_one_of_many_models_is_found_by_a_part_of_its_name(
    anna: Person, suite: LocalSuite, browser: Browser, make_key: Callable[[str], str]
) -> None:
    person = Person(suite, make_key("many-models"))
    file = anna.exported("robot")
    for number in range(9):
        person.bring(file, f"robot-{number}", "a sks robot")
    with person.browsing(browser) as page:
        page.goto("/generate")
        page.get_by_role("button", name="Model").click()
        chooser = page.get_by_role("dialog", name="Choose a model")
        find = chooser.get_by_label("Find")
        find.fill("nothing like it")
        expect(chooser.get_by_text("No model has that in its name.")).to_be_visible()
        expect(chooser.get_by_role("link")).to_have_count(0)
        find.fill("T-7")
        expect(chooser.get_by_role("link")).to_have_count(1)
        find.press("Enter")
        expect(page).to_have_url(re.compile("model=robot-7"))


def test_wrong_values_are_named_where_they_are(page: Page) -> None:
    page.goto("/generate?model=robot")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_text("Say what the picture should show.")).to_be_visible()
    prompt(page).fill("a sks robot")
    more(page, Steps="5000", Seed="lucky")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_label("Seed")).to_have_accessible_description(re.compile("Must be a whole number"))
    page.get_by_label("Seed").fill("7")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_label("Steps")).to_have_accessible_description(re.compile("less than or equal to 1000|at most"))
    expect(page.get_by_label("Steps")).to_be_focused()
    expect(page.get_by_label("Seed")).not_to_have_attribute("aria-invalid", "true")
    assert_accessible(page)
    page.get_by_label("Steps").fill("2")
    page.get_by_label("Size").select_option("Another size…")
    page.get_by_label("Width").fill("60")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_label("Width")).to_have_accessible_description(re.compile("multiple"))


def test_what_is_stopped_is_made_no_further(
    suite: LocalSuite, browser: Browser, make_key: Callable[[str], str]
) -> None:
    person = Person(suite, make_key("stopper"))
    with person.browsing(browser) as page:
        begin_two(page, steps=80)
        until(lambda: at_work(suite) > 0)  # the second one
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_text("Stopped.")).to_be_visible()
        expect(page.get_by_role("button", name="Generate")).to_be_enabled()
        until(lambda: at_work(suite) == 0)
        assert len(person.pictures()) == 1


def at_work(suite: LocalSuite) -> int:
    """Generations that wait or run."""
    behind = requests.get(f"{suite.parts['dreambooth-api'].url}/v1/status", timeout=30).json()  # type: ignore[attr-defined]
    return int(behind["queued"] + behind["running"])


def test_a_connection_that_breaks_is_told_of_and_comes_back(
    suite: LocalSuite, browser: Browser, make_key: Callable[[str], str]
) -> None:
    person = Person(suite, make_key("unlucky"))
    with person.browsing(browser) as page:
        begin_two(page, steps=40)
        suite.dashboard.kill()
        try:
            expect(page.get_by_text("The connection broke.")).to_be_visible(timeout=LONG_MS)
        finally:
            suite.dashboard.start()
        kept = person.pictures()
        expect(page.locator(f"#pictures [data-picture='{kept[-1]['id']}']")).to_be_visible()
        expect(page.get_by_label("A picture that is being made")).to_have_count(0)


def test_a_failure_says_what_to_do(suite: LocalSuite, browser: Browser, make_key: Callable[[str], str]) -> None:
    person = Person(suite, make_key("interrupted"))
    with person.browsing(browser) as page:
        begin_two(page, steps=40)
        for process in psutil.Process(suite.parts["dreambooth-api"].pid).children(recursive=True):
            if any("dreambooth_api.engine" in part for part in process.cmdline()):
                process.kill()
        expect(
            page.get_by_text(re.compile("1 picture of 2 came, then it failed. .+ Press Generate to try again."))
        ).to_be_visible(timeout=LONG_MS)
        expect(page.get_by_label("A picture that is being made")).to_have_count(0)
        page.get_by_label("How many pictures?").fill("1")
        page.get_by_label("Steps").fill("2")
        page.get_by_role("button", name="Generate").click()
        expect(page.get_by_text("Your picture is ready.")).to_be_visible(timeout=LONG_MS)


# The gallery


def test_older_pictures_come_by_the_keyboard_too_and_can_be_filtered(
    suite: LocalSuite, browser: Browser, make_key: Callable[[str], str]
) -> None:
    person = Person(suite, make_key("collector"))
    with person.browsing(browser) as page:
        page.goto("/generate")
        expect(page.get_by_text("No pictures yet.")).to_be_visible()
        assert_accessible(page)
        take_screenshot(page, "generate-empty-1440")
        made = person.make_pictures(num_images=26, num_inference_steps=1)
        page.reload()
        expect(tiles(page)).to_have_count(24)
        page.get_by_role("button", name="Show more").focus()
        page.keyboard.press("Enter")
        expect(tiles(page)).to_have_count(26)
        expect(tiles(page).nth(24)).to_be_focused()
        assert hrefs(page) == [f"/pictures/{picture['id']}" for picture in reversed(made)]
        page.get_by_label("Kind").select_option("Enlarged")
        expect(page.get_by_text("None of these.")).to_be_visible()
        expect(page).to_have_url(re.compile("kind=upscale"))
        page.get_by_label("Kind").select_option("All kinds")
        page.get_by_label("Made with").select_option("enlight/pocket")
        expect(tiles(page)).to_have_count(24)
        page.reload()
        expect(page.get_by_label("Made with")).to_have_value("enlight/pocket")


def test_one_picture_is_shown_with_all_it_was_made_with(anna: Person, page: Page) -> None:
    older, newer = anna.make_pictures(
        model_id="robot", prompt="a sks robot at night", negative_prompt="rain", num_images=2, seed=2**62, width=72
    )
    page.goto("/generate?model=robot")
    tiles(page).first.click()
    viewer = page.get_by_role("dialog", name="Picture")
    expect(viewer.get_by_role("heading", name="a sks robot at night")).to_be_visible()
    expect(page).to_have_url(re.compile(newer["id"]))
    for fact in ("a sks robot at night", "rain", str(2**62 + 1), "72 × 64 pixels", "DDIM"):
        expect(viewer.get_by_role("definition").filter(has_text=fact).first).to_be_visible()
    assert_accessible(page)
    take_screenshot(page, "generate-viewer-1440")
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(older["id"]))
    viewer.get_by_role("link", name="Newer picture").click()
    expect(page).to_have_url(re.compile(newer["id"]))
    page.keyboard.press("Escape")
    expect(viewer).not_to_be_visible()
    expect(page).to_have_url(re.compile("/generate"))
    expect(tiles(page).first).to_be_focused()
    page.go_forward()
    expect(viewer).to_be_visible()
    page.reload()  # the address is one of a page
    expect(page.get_by_role("heading", name="a sks robot at night")).to_be_visible()
    assert_accessible(page)
    take_screenshot(page, "generate-picture-1440")
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(older["id"]))
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert sha256(Path(download.value.path()).read_bytes()).hexdigest() == older["sha256"]
    assert download.value.suggested_filename == f"robot-generation-{2**62}.png"
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert f"Seed: {2**62}\n" in page.evaluate("navigator.clipboard.readText()")


def test_again_with_this_seed_makes_the_same_picture(anna: Person, page: Page) -> None:
    (made,) = anna.make_pictures(
        model_id="robot", prompt="a sks robot", negative_prompt="rain", seed=2**62 + 7, guidance_scale=3.5, height=40
    )
    page.goto(f"/pictures/{made['id']}")
    page.get_by_role("link", name="Again with this seed").click()
    expect(prompt(page)).to_have_value("a sks robot")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_text("Your picture is ready.")).to_be_visible(timeout=LONG_MS)
    again = anna.pictures()[0]
    assert (again["parameters"], again["sha256"]) == (made["parameters"], made["sha256"])
    assert again["id"] != made["id"]


def test_a_picture_is_cut_out_enlarged_compared_and_deleted(anna: Person, page: Page) -> None:
    (made,) = anna.make_pictures(prompt="a pizza")
    page.goto("/generate")
    tiles(page).first.click()
    page.get_by_role("button", name="Remove background").click()
    viewer = page.get_by_role("dialog", name="Picture")
    expect(viewer.get_by_role("heading", name="Background removed")).to_be_visible(timeout=LONG_MS)
    take_screenshot(page, "generate-cutout-1440")
    viewer.get_by_label("Long side").select_option("1024 pixels")
    viewer.get_by_label("It is").select_option("anything, quickly")
    viewer.get_by_role("button", name="Enlarge").click()
    expect(viewer.get_by_role("heading", name="Enlarged")).to_be_visible(timeout=LONG_MS)
    enlarged, cut_out = anna.pictures()[:2]
    assert (enlarged["kind"], enlarged["width"], enlarged["source_id"]) == ("upscale", 1024, cut_out["id"])
    assert (cut_out["kind"], cut_out["source_id"]) == ("cutout", made["id"])
    assert_accessible(page)
    take_screenshot(page, "generate-enlarged-1440")

    # Before and after: by the keyboard, and by the mouse on the picture itself.
    handle = viewer.get_by_role("slider", name="Before and after")
    assert before_share(page) == pytest.approx(0.5, abs=0.01)
    handle.focus()
    page.keyboard.press("Home")
    assert before_share(page) == 0
    box = handle.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2)
    assert before_share(page) == pytest.approx(0.8, abs=0.03)
    viewer.get_by_role("button", name="Before and after").click()
    expect(handle).not_to_be_visible()

    viewer.get_by_role("button", name="Delete").click()
    question = page.get_by_role("dialog", name="Delete this picture?")
    question.get_by_role("button", name="Keep it").click()
    assert anna.pictures()[0]["id"] == enlarged["id"]
    viewer.get_by_role("button", name="Delete").click()
    question.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Deleted.")).to_be_visible()
    expect(page).to_have_url(re.compile(cut_out["id"]))  # the one beside it
    page.keyboard.press("Escape")
    expect(tiles(page).first).to_have_attribute("href", f"/pictures/{cut_out['id']}")
    assert anna.pictures()[0]["id"] == cut_out["id"]


def before_share(page: Page) -> float:
    """How much of the picture shows the one before."""
    right = page.locator("#before").evaluate("element => getComputedStyle(element).clipPath")
    found = re.match(r"inset\(0(?:px)? (?:calc\()?(?:100% - )?([\d.]+)(?:%|px)", right)
    assert found, right
    share = float(found[1]) / 100
    return share if "100% -" in right else 1 - share


def test_long_work_goes_on_when_its_page_is_left(anna: Person, page: Page) -> None:
    (made,) = anna.make_pictures(prompt="a car")
    page.goto(f"/pictures/{made['id']}")
    with page.expect_request(re.compile("/upscale$")):
        page.get_by_label("It is").select_option("anything, quickly")
        page.get_by_role("button", name="Enlarge").click()
    expect(page.get_by_role("list", name="Under way")).to_contain_text("Enlarging to 1024 pixels")
    page.goto("/make")
    page.goto("/generate")
    expect(page.get_by_text("Enlarging to 1024 pixels: it is in your gallery.")).to_be_visible(timeout=LONG_MS)
    (enlarged,) = anna.pictures(f"source_id={made['id']}")
    expect(tiles(page).first).to_have_attribute("href", f"/pictures/{enlarged['id']}")


# What is of nobody's business, and what stays text


def test_nobody_sees_what_is_somebody_else_s(
    anna: Person, suite: LocalSuite, browser: Browser, make_key: Callable[[str], str]
) -> None:
    (made,) = anna.make_pictures(model_id="robot", prompt="a sks robot of anna")
    other = Person(suite, make_key("bob-of-generate"))
    with other.browsing(browser) as page:
        answer = page.goto("/generate?model=robot")
        assert answer is not None
        assert "of anna" not in page.content()
        expect(page.get_by_text("There is no model called “robot” any more.")).to_be_visible()
        page.get_by_role("button", name="Model").click()
        expect(page.get_by_role("link", name="robot")).to_have_count(0)
        for path in ("", "/view", "/tile", "/file", "/thumbnail"):
            answer = page.goto(f"/pictures/{made['id']}{path}")
            assert answer is not None
            assert answer.status == 404, path
            expect(page.get_by_role("heading", name="Not here")).to_be_visible()
        page.goto("/generate")
        for method, path in (("DELETE", ""), ("POST", "/cutout"), ("POST", "/upscale")):
            status = page.evaluate(
                """([method, address]) => fetch(address, {method, body: method === "POST" ? new URLSearchParams(
                  {out_resolution: "1024"}) : undefined, headers: {"X-CSRF-Token": document.body.dataset.csrfToken}}
                ).then((answer) => answer.status)""",
                [method, f"/pictures/{made['id']}{path}"],
            )
            assert status == 404, (method, path)
    assert made["id"] in [picture["id"] for picture in anna.pictures()]


def test_names_and_prompts_stay_text(anna: Person, browser: Browser) -> None:
    with anna.browsing(browser) as page:
        opened: list[Dialog] = []

        def note(dialog: Dialog) -> None:
            opened.append(dialog)
            dialog.dismiss()

        page.on("dialog", note)
        page.goto("/generate?model=a-trap")
        expect(page.get_by_text(f"a sks {TRAP}").first).to_be_visible()  # as it was written
        page.get_by_role("button", name="on the beach").click()
        page.get_by_label("How many pictures?").fill("1")
        more(page, Steps="2")
        page.get_by_label("What should not be there?").fill(TRAP)
        page.get_by_role("button", name="Generate").click()
        expect(page.get_by_text("Your picture is ready.")).to_be_visible(timeout=LONG_MS)
        tiles(page).first.click()
        expect(page.get_by_role("dialog").get_by_text(TRAP, exact=True)).to_be_visible()
        page.get_by_role("button", name="Delete").click()
        page.get_by_role("button", name="Keep it").click()
        page.reload()
        expect(page.get_by_text(TRAP, exact=True)).to_be_visible()
        page.get_by_role("link", name="Again with this seed").click()
        expect(page.get_by_label("What should not be there?")).to_have_value(TRAP)
        page.goto(f"/generate?model={TRAP}&of={TRAP}&kind={TRAP}")
        expect(page.get_by_text(f"There is no model called “{TRAP}” any more.")).to_be_visible()
        assert page.locator("img[src=x]").count() == 0
        assert (opened, page.title()) == ([], "Generate · Enlight")


def test_a_picture_s_file_is_a_picture_whatever_happens(anna: Person, page: Page) -> None:
    (made,) = anna.make_pictures()
    for path, media_type in (("file", "image/png"), ("thumbnail", "image/webp"), ("file?download", "image/png")):
        answer: Any = page.request.get(f"/pictures/{made['id']}/{path}")
        assert (answer.status, answer.headers["content-type"]) == (200, media_type)
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "immutable" in answer.headers["cache-control"]
        expected = "attachment" if "download" in path else ""
        assert expected in answer.headers.get("content-disposition", "")
        seen = {"If-None-Match": answer.headers["etag"]}
        assert page.request.get(f"/pictures/{made['id']}/{path}", headers=seen).status == 304
