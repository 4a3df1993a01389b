"""A person who has never read the docs, by what can be read on the page: five photos, a model, a gallery, a picture
enlarged and cut out. In a real Chromium, on the pocket model, with the values that the page recommends."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from browser import SCREEN, assert_accessible, chromium, take_screenshot, visitor
from local_suite import ROOT, LocalSuite
from playwright.sync_api import Page, expect

PHOTOS = sorted((ROOT / "demo" / "photos").glob("*.png"))
LONG_MS = 280_000


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSuite]:
    folder = tmp_path_factory.mktemp("suite")
    with LocalSuite(folder / "data", folder, page=True) as running:
        yield running


@pytest.fixture(scope="module")
def page(suite: LocalSuite) -> Iterator[Page]:
    with chromium() as browser, visitor(browser, suite.dashboard.url, viewport=SCREEN) as opened:
        yield opened


@pytest.mark.timeout(600)
def test_from_five_photos_to_a_gallery(suite: LocalSuite, page: Page) -> None:
    began_s = time.monotonic()
    page.goto("/")
    page.get_by_label("Choose photos").set_input_files(PHOTOS)
    expect(page.get_by_text("5 photos: a good number.")).to_be_visible()
    page.get_by_label("Its name").fill("Robbie")
    page.get_by_label("What it is, in a word").fill("robot")
    expect(page.get_by_role("radio", name="recommended")).to_be_checked()
    take_screenshot(page, "readme-make")
    page.get_by_role("button", name="Start").click()

    expect(page.get_by_role("img", name=re.compile("Robbie after .* steps")).first).to_be_visible(timeout=LONG_MS)
    take_screenshot(page, "readme-learning")
    page.reload()  # in the middle: nothing is lost
    expect(page.get_by_role("progressbar", name="Progress").or_(page.get_by_text("Robbie is ready"))).to_be_visible()
    expect(page.get_by_role("heading", name="Robbie is ready")).to_be_visible(timeout=LONG_MS)

    page.get_by_role("link", name="Make pictures").click()
    page.wait_for_load_state()
    for scene in ("on the beach", "in the snow"):
        page.get_by_role("button", name=scene).click()
        page.get_by_label("How many pictures?").fill("4")
        page.get_by_role("button", name="Generate").click()
        pictures = page.get_by_role("list").get_by_role("link", name=re.compile(f"a sks robot {scene}"))
        expect(pictures).to_have_count(4, timeout=LONG_MS)
    took_s = time.monotonic() - began_s
    print(f"from five photos to a gallery of eight pictures in {took_s:.0f} s")
    assert_accessible(page)
    take_screenshot(page, "readme-generate")

    pictures.first.click()
    viewer = page.get_by_role("dialog", name="Picture")
    viewer.get_by_role("button", name="Enlarge").click()
    expect(viewer.get_by_role("heading", name="Enlarged")).to_be_visible(timeout=LONG_MS)
    take_screenshot(page, "readme-enlarged")
    viewer.get_by_role("button", name="Remove background").click()
    expect(viewer.get_by_role("heading", name="Background removed")).to_be_visible(timeout=LONG_MS)
    take_screenshot(page, "readme-cutout")

    kept = requests.get(f"{suite.url}/v1/pictures", timeout=30).json()["pictures"]
    assert [picture["kind"] for picture in kept] == ["cutout", "upscale", *["generation"] * 8]


def test_readme_shows_pages_as_they_are() -> None:
    images = re.findall(r'src="(docs/images/dashboard-[a-z]+\.(?:png|webp))"', Path(ROOT / "README.md").read_text())
    assert len(images) == 2
    assert all((ROOT / image).is_file() for image in images)
