"""What the page Generate works out by itself: sizes, suggestions, bodies of requests, words."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from enlight.dashboard.main_api.browser_watch import BrowserWatch
from enlight.dashboard.pages.generate.api_limits import FieldLimits, limits_of
from enlight.dashboard.pages.generate.gallery import Filter
from enlight.dashboard.pages.generate.generation_form import generation_body
from enlight.dashboard.pages.generate.picture_words import caption, facts
from enlight.dashboard.pages.generate.scenes import suggestions
from enlight.dashboard.pages.generate.sizes import sizes
from enlight.servicekit.errors import InvalidField

POCKET = {"native_size_px": 64, "min_size_px": 32, "max_size_px": 128, "size_multiple_px": 8}
LARGE = {"native_size_px": 768, "min_size_px": 256, "max_size_px": 1024, "size_multiple_px": 8}


@pytest.mark.parametrize("base", [POCKET, LARGE, {**POCKET, "max_size_px": 64}, {**LARGE, "size_multiple_px": 64}])
def test_every_size_is_one_that_the_base_takes(base: dict[str, int]) -> None:
    offered = sizes(base)
    assert offered[0].value == f"{base['native_size_px']}x{base['native_size_px']}"
    assert len({size.value for size in offered}) == len(offered) > 1
    for size in offered:
        for side in (size.width_px, size.height_px):
            assert base["min_size_px"] <= side <= base["max_size_px"]
            assert side % base["size_multiple_px"] == 0


def test_suggestions_fit_the_subject() -> None:
    assert suggestions("a sks robot")[0].prompt == "a sks robot on the beach"
    places = {kind: [one.label for one in suggestions(f"a sks {kind}")] for kind in ("robot", "dog", "woman")}
    assert "on a wooden table" in places["robot"]
    assert "on a wooden table" not in places["dog"] + places["woman"]
    assert "in a library" in places["woman"]
    assert all("sks" not in one.prompt for one in suggestions(None))


def test_what_is_left_empty_is_left_to_the_api() -> None:
    form = {"model_id": "robot", "prompt": " a sks robot ", "seed": "", "num_images": "", "guidance_scale": " "}
    assert generation_body(form) == {"model_id": "robot", "prompt": "a sks robot"}


def test_numbers_arrive_exactly() -> None:
    form = {"model_id": "robot", "prompt": "x", "seed": str(2**63 - 1), "guidance_scale": "3,5", "size": "64x48"}
    body = generation_body(form)
    assert (body["seed"], body["guidance_scale"]) == (2**63 - 1, 3.5)
    assert (body["width"], body["height"]) == (64, 48)
    assert generation_body({**form, "size": "other", "width": "40", "height": ""})["width"] == 40
    assert "width" not in generation_body({**form, "size": "", "width": "40"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("seed", "lucky"),
        ("seed", "1_0"),
        ("seed", "١"),
        ("num_images", "1.5"),
        ("guidance_scale", "nan"),
        ("size", "big"),
    ],
)
def test_what_is_no_number_is_named(name: str, text: str) -> None:
    with pytest.raises(InvalidField, match=name):
        generation_body({"model_id": "robot", "prompt": "x", name: text})


def test_ranges_are_read_from_the_api_s_description() -> None:
    schema = {"anyOf": [{"minimum": 0, "exclusiveMaximum": 8, "type": "integer"}, {"type": "null"}]}
    assert limits_of(schema) == FieldLimits(minimum=0, maximum=7)
    assert limits_of({"minimum": 1, "maximum": 50, "default": 1}) == FieldLimits(minimum=1, maximum=50, default=1)
    assert limits_of({"maxLength": 9}) == FieldLimits(max_length=9)


def test_a_filter_is_kept_in_addresses() -> None:
    shown = Filter.from_query({"of": "a/b&c", "kind": "cutout"})
    assert shown.address("/generate", before="x") == "/generate?of=a%2Fb%26c&kind=cutout&before=x"
    assert Filter.from_query({"kind": "<b>"}).address("/generate") == "/generate"


def test_everything_that_a_picture_was_made_with_is_said() -> None:
    picture: dict[str, Any] = {
        "kind": "generation",
        "model_id": "robot",
        "width": 64,
        "height": 48,
        "parameters": {"prompt": "a sks robot", "negative_prompt": "", "seed": "7", "new_thing": True, "width": 64},
    }
    said = [
        ("Model", "robot"),
        ("Text", "a sks robot"),
        ("Seed", "7"),
        ("New thing", "yes"),
        ("Size", "64 × 48 pixels"),
    ]
    assert facts(picture) == said
    assert caption(picture) == "a sks robot"
    assert caption({**picture, "kind": "cutout", "parameters": {}}) == "Background removed, made with robot"


def test_a_stream_is_hung_up_on_once_its_browser_is_gone() -> None:
    watch = BrowserWatch()
    for _ in range(2):  # its thread ends with the last stream, and begins again
        hung_up: dict[str, threading.Event] = {"left": threading.Event(), "there": threading.Event()}
        forget: list[Callable[[], None]] = [
            watch.add(lambda: True, hung_up["left"].set),
            watch.add(lambda: False, hung_up["there"].set),
        ]
        assert hung_up["left"].wait(10)
        assert not hung_up["there"].is_set()
        for end in forget:
            end()
