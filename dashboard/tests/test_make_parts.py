"""What the page Make is made of: JSON that is written as it is sent, names, words."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from enlight.dashboard.pages.make.loss_curve import HEIGHT, WIDTH, loss_curve
from enlight.dashboard.pages.make.photo_uploads import PIECE_BYTES, JsonWithPhotos
from enlight.dashboard.pages.make.photo_words import advice_on_number, warnings_in_words
from enlight.dashboard.pages.make.preset_words import find_base_model, preset_choices
from enlight.dashboard.pages.make.start_form import start_key, training_fields
from enlight.dashboard.pages.make.subjects import instance_prompt, model_name
from enlight.dashboard.pages.make.training_words import progress_share, standing, what_to_do
from enlight.servicekit.errors import InvalidField


@pytest.mark.parametrize(
    "sizes", [(0,), (1,), (2, 3, 4), (PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1), (3 * PIECE_BYTES + 2,)]
)
def test_photos_become_the_json_that_was_announced(sizes: tuple[int, ...]) -> None:
    photos = [bytes(range(256)) * (size // 256 + 1) for size in sizes]
    photos = [photo[:size] for photo, size in zip(photos, sizes, strict=True)]
    body = JsonWithPhotos({"model_id": 'quote " and ü', "seed": 3}, [io.BytesIO(photo) for photo in photos])
    for _ in range(2):  # a connection that could not be made is made again
        text = b"".join(body)
        assert len(text) == body.length_bytes
        read = json.loads(text)
        assert read == {
            "model_id": 'quote " and ü',
            "seed": 3,
            "photos": [base64.b64encode(photo).decode() for photo in photos],
        }


def test_no_photo_is_in_memory_whole() -> None:
    class Watched(io.BytesIO):
        largest = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            Watched.largest = max(Watched.largest, len(data))
            return data

    pieces: Iterator[bytes] = iter(JsonWithPhotos({}, [Watched(bytes(5 * PIECE_BYTES))]))
    assert max(map(len, pieces)) == PIECE_BYTES * 4 // 3
    assert Watched.largest == PIECE_BYTES


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("Robbie", "Robbie"),
        ("  My dog ", "My-dog"),
        ("Großmutters Häschen", "Grossmutters-Haschen"),
        ("-- ..a", "a"),
        ("v1.0_final", "v1.0_final"),
        ("小狗", ""),
        ("x" * 80, "x" * 64),
        ("a" * 63 + " b", "a" * 63),
        ("a/../b", "a-..-b"),
    ],
)
def test_a_name_is_one_that_main_api_takes(typed: str, name: str) -> None:
    assert model_name(typed) == name
    assert not name or re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name)
    assert model_name(name) == name


@pytest.mark.parametrize(
    ("kind", "prompt"),
    [
        ("dog", "a sks dog"),
        (" the  old  car ", "a sks old car"),
        ("an apple", "a sks apple"),
        ("a", "a sks a"),
        (" ", ""),
    ],
)
def test_a_word_becomes_a_prompt(kind: str, prompt: str) -> None:
    assert instance_prompt(kind) == prompt


def test_a_form_becomes_a_request() -> None:
    form = {"subject_name": "My dog", "subject_kind": "dog", "preset": "lora", "seed": "", "learning_rate": "1e-4"}
    assert training_fields(form) == {
        "model_id": "My-dog",
        "instance_prompt": "a sks dog",
        "preset": "lora",
        "learning_rate": 0.0001,
    }
    more = {"instance_prompt": "zwx hound", "samples": "yes", "max_training_steps": "12"}
    assert training_fields(form | more) == {
        "model_id": "My-dog",
        "instance_prompt": "zwx hound",
        "preset": "lora",
        "learning_rate": 0.0001,
        "max_training_steps": 12,
        "sample_prompt": "zwx hound",
    }


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"subject_name": "?"}, "subject_name"),
        ({"subject_kind": " "}, "subject_kind"),
        ({"seed": "1.5"}, "seed"),
        ({"max_training_steps": "many"}, "max_training_steps"),
    ],
)
def test_a_form_that_cannot_be_sent_names_the_field(changes: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        training_fields({"subject_name": "dog", "subject_kind": "dog"} | changes)
    assert refusal.value.details["fields"][0]["field"] == field  # type: ignore[index]


@pytest.mark.parametrize("key", ["", "short", "x" * 65, "with space and more", "new\nline-line-line"])
def test_a_start_needs_a_key_of_its_own(key: str) -> None:
    with pytest.raises(InvalidField):
        start_key({"start_key": key})


def test_warnings_name_photos_by_their_number() -> None:
    told = warnings_in_words(
        [
            {"code": "too_few", "message": "Only 2 photos: 5 to 20 give a better model.", "photos": []},
            {"code": "blurred", "message": "photos[0]: blurred, even at 64 pixels.", "photos": [0]},
            {"code": "near_duplicate", "message": "photos[1], photos[3], photos[4]: the same.", "photos": [1, 3, 4]},
            {"code": "of_a_later_release", "message": "photos[2]: odd: look.", "photos": [2]},
        ]
    )
    assert [warning["text"] for warning in told] == [
        "Photo 1: blurred, even at 64 pixels.",
        "Photos 2, 4 and 5: the same.",
        "Photo 3: odd: look.",
    ]
    assert [warning["short"] for warning in told] == ["Blurred", "Same as another", "Look again"]
    assert [advice_on_number(count).partition(":")[2][:9] for count in (1, 5, 20, 21)] == [
        " it works",
        " a good n",
        " a good n",
        " fine, th",
    ]


def _base(**presets: dict[str, Any]) -> dict[str, Any]:
    listed = [{"name": name, "description": name, "parameters": values} for name, values in presets.items()]
    return {"name": "base", "recommended_preset": "b", "presets": listed}


def test_the_recommended_preset_is_first_and_no_two_are_called_alike() -> None:
    lora = {"kind": "lora", "max_training_steps": 100}
    base = _base(a={**lora}, b={"kind": "full", "train_text_encoder": True}, c_2={**lora}, odd={})
    choices = preset_choices(base)
    assert [(choice.name, choice.title) for choice in choices] == [
        ("b", "Closest likeness"),
        ("a", "A"),
        ("c_2", "C_2"),
        ("odd", "Odd"),
    ]
    assert [choice.recommended for choice in choices] == [True, False, False, False]
    known = {"default": "base", "base_models": [{"name": "other"}, base]}
    assert find_base_model(known, "other")["name"] == "other"
    assert find_base_model(known, "gone")["name"] == "base"


def _training(state: str, **more: Any) -> dict[str, Any]:
    fields = {"model_id": "robbie", "state": state, "position": None, "progress": None, "error": None}
    return {**fields, "cancel_requested": False, **more}


def _progress(phase: str, step: int, steps: int) -> dict[str, Any]:
    return {"phase": phase, "step": step, "steps": steps}


@pytest.mark.parametrize(
    ("training", "line", "share"),
    [
        (_training("queued", position=0), "Next in line: it starts as soon as a machine is free.", None),
        (_training("queued", position=1), "1 training is before this one.", None),
        (_training("queued", position=3), "3 trainings are before this one.", None),
        (_training("running"), "Getting ready …", None),
        (_training("running", progress=_progress("photos", 3, 5)), "Looking at your photos: 3 of 5", None),
        (_training("running", progress=_progress("training", 30, 100)), "Learning: step 30 of 100", 0.3),
        (_training("running", progress=_progress("publishing", 100, 100)), "Putting the model in its place …", 1.0),
        (_training("running", cancel_requested=True), "It stops within a moment.", None),
        (_training("succeeded"), "", 1.0),
        (_training("cancelled"), "", None),
    ],
)
def test_a_training_is_told_in_words(training: dict[str, Any], line: str, share: float | None) -> None:
    told = standing(training)
    assert (told.line, told.share) == (line, share)


def test_what_is_read_aloud_changes_four_times() -> None:
    spoken = {
        standing(_training("running", progress=_progress("training", step, 100))).spoken for step in range(1, 100)
    }
    assert len(spoken) == 4


def test_a_failure_that_is_known_has_a_remedy_of_its_own() -> None:
    known = what_to_do(_training("failed", error={"code": "out_of_gpu_memory"}))
    assert "smaller picture size" in known
    assert what_to_do(_training("failed", error={"code": "never seen"})) != known
    assert progress_share(_training("failed", progress=_progress("training", 1, 4))) == 0.25


def test_a_curve_stays_in_its_box_and_grows_to_the_right() -> None:
    assert loss_curve([{"step": 1, "loss": 0.5}], 10) is None
    curve = loss_curve([{"step": 1, "loss": 0.5}, {"step": 3, "loss": 2.0}, {"step": 5, "loss": 0.0}], 10)
    assert curve is not None
    points = [tuple(map(float, point.split(","))) for point in curve.line.split()]
    assert [x for x, _ in points] == [30.0, 90.0, 150.0]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    flat = loss_curve([{"step": 1, "loss": 0.0}, {"step": 2, "loss": 0.0}], 2)
    assert flat is not None
