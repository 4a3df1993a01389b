"""Each reason to warn, on pictures made for it: caught, and not seen where it is not."""

from __future__ import annotations

from collections.abc import Callable

import made_photos
import numpy as np
import pytest
from made_photos import DEMO_PHOTOS, blurred, gradient, levels, noise, recompressed, scene, soft_background
from PIL import Image, ImageOps

from enlight.dreambooth_api.photo_looks import look_at
from enlight.dreambooth_api.photo_preflight import PhotoWarning, photo_warnings


def warnings_of(*pictures: Image.Image, resolution_px: int = 64) -> list[PhotoWarning]:
    looks = [look_at(picture, resolution_px) for picture in pictures]
    return list(photo_warnings(looks, resolution_px, field="photos"))


def reasons(*pictures: Image.Image, resolution_px: int = 64) -> list[tuple[str, tuple[int, ...]]]:
    """Codes and photos, but for the number of photos."""
    found = warnings_of(*pictures, resolution_px=resolution_px)
    return [(warning.code, warning.photos) for warning in found if warning.code != "too_few"]


def codes(picture: Image.Image, resolution_px: int = 64) -> list[str]:
    return [code for code, _ in reasons(picture, resolution_px=resolution_px)]


def demo_photos() -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in DEMO_PHOTOS]


def test_the_demo_s_photos_deserve_no_word() -> None:
    assert warnings_of(*demo_photos()) == []


@pytest.mark.parametrize("resolution_px", [64, 256, 768])
def test_sharp_different_photos_deserve_no_word(resolution_px: int) -> None:
    pictures = [scene(seed) for seed in range(1, 6)]
    assert warnings_of(*pictures, soft_background(), resolution_px=resolution_px) == []


@pytest.mark.parametrize(("count", "told"), [(1, "Only 1 photo:"), (2, "Only 2 photos:"), (3, None)])
def test_too_few(count: int, told: str | None) -> None:
    found = warnings_of(*[scene(seed) for seed in range(count)])
    assert [(warning.code, warning.photos) for warning in found] == ([("too_few", ())] if told else [])
    assert all(told is not None and warning.message.startswith(told) for warning in found)


def test_too_small_is_the_short_side_below_the_resolution() -> None:
    just_too_small = scene(1, side_px=80).crop((0, 9, 80, 72))
    just_large_enough = scene(2, side_px=80).crop((0, 8, 80, 72))
    assert reasons(just_too_small, just_large_enough) == [("too_small", (0,))]


def test_a_small_photo_is_not_called_blurred_for_being_enlarged() -> None:
    assert codes(scene(side_px=200), 768) == ["too_small"]


@pytest.mark.parametrize(("size", "warned"), [((400, 200), False), ((402, 200), True), ((200, 402), True)])
def test_cropped_is_to_lose_more_than_half(size: tuple[int, int], *, warned: bool) -> None:
    picture = scene().resize((402, 402)).crop((0, 0, *size))
    assert ("cropped" in codes(picture)) is warned


@pytest.mark.parametrize("resolution_px", [64, 768])
def test_blurred(resolution_px: int) -> None:
    assert codes(blurred(scene(), 0.04), resolution_px) == ["blurred"]


def test_blur_is_judged_at_the_training_s_resolution() -> None:
    # Given a large photo with a blur of 8 pixels of 768: less than a pixel of 64
    soft = blurred(scene(), 8 / 768)
    assert codes(soft, 768) == ["blurred"]
    assert codes(soft, 64) == []


def test_blur_under_grain_and_compression_is_seen() -> None:
    soft = np.asarray(blurred(scene(), 0.03)) + np.random.default_rng(0).normal(0, 4, (768, 768, 3))
    assert codes(recompressed(Image.fromarray(np.clip(soft, 0, 255).astype(np.uint8)), 80), 768) == ["blurred"]


def test_a_sharp_subject_before_a_soft_background_is_sharp() -> None:
    assert codes(soft_background(), 768) == []


def test_low_contrast_is_not_blur() -> None:
    assert codes(levels(scene(), 0.3, 100), 768) == []


@pytest.mark.parametrize(
    "picture",
    [
        Image.new("RGB", (300, 300), "teal"),
        Image.new("RGB", (300, 300), (60, 60, 60)),
        gradient(),
        noise(64),
        noise(300),
        noise(768),
        recompressed(noise(64), 70),
        levels(noise(300), 0.08, 120),
    ],
    ids=["plain", "grey", "gradient", "noise 64", "noise 300", "noise 768", "noise in JPEG", "wall"],
)
def test_no_visible_subject_and_nothing_else_is_said(picture: Image.Image) -> None:
    assert codes(picture) == ["no_visible_subject"]


@pytest.mark.parametrize(("colour", "light"), [("black", "too_dark"), ("white", "too_bright")])
def test_a_black_or_white_frame_is_told_by_its_light_too(colour: str, light: str) -> None:
    assert codes(Image.new("RGB", (300, 300), colour)) == ["no_visible_subject", light]


def test_a_small_subject_is_visible() -> None:
    picture = Image.new("RGB", (400, 400), "white")
    picture.paste(scene().resize((60, 60)), (250, 80))
    assert codes(picture) == []


@pytest.mark.parametrize(("gain", "warned"), [(0.15, True), (0.4, False)])
def test_too_dark(gain: float, *, warned: bool) -> None:
    assert codes(levels(scene(), gain)) == (["too_dark"] if warned else [])


@pytest.mark.parametrize(("gain", "offset", "warned"), [(0.15, 215, True), (0.5, 127, False)])
def test_too_bright(gain: float, offset: float, *, warned: bool) -> None:
    assert codes(levels(scene(), gain, offset)) == (["too_bright"] if warned else [])


def test_a_white_background_is_not_too_bright() -> None:
    picture = Image.new("RGB", (400, 400), "white")
    picture.paste(scene().resize((120, 120)), (140, 140))
    assert codes(picture) == []


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "the same": lambda picture: picture,
    "smaller": lambda picture: picture.resize((200, 200)),
    "recompressed": lambda picture: recompressed(picture, 30),
    "brighter": lambda picture: levels(picture, 1.12),
    "darker": lambda picture: levels(picture, 0.8),
    "mirrored": ImageOps.mirror,
    "all at once": lambda picture: levels(recompressed(ImageOps.mirror(picture).resize((300, 300)), 50), 1.1),
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("original", [scene(), Image.open(DEMO_PHOTOS[1]).convert("RGB")], ids=["scene", "drawn"])
def test_near_duplicate_names_both(original: Image.Image, copy: Callable[[Image.Image], Image.Image]) -> None:
    assert reasons(original, scene(7), copy(original)) == [("near_duplicate", (0, 2))]


def test_other_shots_of_the_subject_before_the_same_background_are_no_duplicates() -> None:
    places = [(0.5, 0.5), (0.42, 0.55), (0.6, 0.45), (0.3, 0.4)]
    assert reasons(*[scene(3, subject_at=place) for place in places]) == []


def test_the_same_shape_in_another_colour_is_no_duplicate() -> None:
    original = np.asarray(scene())
    assert reasons(scene(), Image.fromarray(original[..., ::-1].copy())) == []


def test_copies_are_told_in_groups_and_each_photo_once() -> None:
    one, other = scene(1), scene(2)
    pictures = [one, other, ImageOps.mirror(one), scene(3), recompressed(other, 50), levels(one, 1.05)]
    assert reasons(*pictures) == [("near_duplicate", (0, 2, 5)), ("near_duplicate", (1, 4))]


def test_pictures_of_nothing_are_not_compared() -> None:
    assert reasons(*[Image.new("RGB", (99, 99), "teal")] * 2) == [("no_visible_subject", (0, 1))]


def test_one_warning_per_reason_names_its_photos_as_errors_do() -> None:
    soft = [blurred(scene(2, subject_at=place), 0.05) for place in ((0.3, 0.5), (0.7, 0.4))]
    found = warnings_of(scene(1), soft[0], scene(3), soft[1])
    assert [(warning.code, warning.photos) for warning in found] == [("blurred", (1, 3))]
    assert found[0].message.startswith("photos[1], photos[3]: blurred, even at the training's 64 pixels. Send")


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (8000, 1), (3, 5), (15, 17)])
def test_tiny_photos_are_judged_without_an_error(size: tuple[int, int]) -> None:
    assert "too_small" in codes(made_photos.scene(side_px=32).resize(size), 768)
