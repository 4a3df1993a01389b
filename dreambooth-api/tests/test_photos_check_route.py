"""What is said of photos over HTTP: before a training, in its answer and in its record. The trainer is not real."""

from __future__ import annotations

import base64
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from made_photos import DEMO_PHOTOS, blurred, encoded, scene
from PIL import Image
from training_client import client_in

from enlight.servicekit.images import decode_image

CHECK = "/v1/photos/check"
DEMO = [base64.b64encode(path.read_bytes()).decode() for path in DEMO_PHOTOS]
SUBJECT = {"model_id": "toy", "instance_prompt": "a sks toy"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A machine where the weights of the pocket base are."""
    (tmp_path / "models/pocket").mkdir(parents=True)
    (tmp_path / "models/pocket/model_index.json").touch()
    return tmp_path


@pytest.fixture
def client(folder: Path) -> Iterator[FlaskClient]:
    with client_in(folder) as client:
        yield client


def odd_photos() -> list[str]:
    """Two sharp photos, a copy of the first, and a small blurred one."""
    small = blurred(scene(2, side_px=60), 0.06).crop((0, 0, 50, 60))
    return [encoded(picture) for picture in (scene(0), scene(1), scene(0).resize((400, 400)), small)]


def told(view: dict[str, Any]) -> list[tuple[str, list[int]]]:
    return [(warning["code"], warning["photos"]) for warning in view["warnings"]]


def test_photos_that_deserve_no_word_are_ok(client: FlaskClient) -> None:
    answer = client.post(CHECK, json={"photos": DEMO})
    assert answer.status_code == 200, answer.text
    assert answer.json == {
        "ok": True,
        "base_model": "enlight/pocket",
        "resolution": 64,
        "photos": [{"width_px": 256, "height_px": 256, "warnings": []}] * 5,
        "warnings": [],
    }


def test_each_photo_and_the_set_get_their_warnings(client: FlaskClient) -> None:
    answer = client.post(CHECK, json={"photos": odd_photos()}).json
    assert answer is not None
    assert answer["ok"] is False
    assert told(answer) == [("too_small", [3]), ("blurred", [3]), ("near_duplicate", [0, 2])]
    assert [photo["warnings"] for photo in answer["photos"]] == [
        ["near_duplicate"],
        [],
        ["near_duplicate"],
        ["too_small", "blurred"],
    ]
    assert [(photo["width_px"], photo["height_px"]) for photo in answer["photos"]][2:] == [(400, 400), (50, 60)]
    assert "photos[0], photos[2]:" in answer["warnings"][2]["message"]


def test_a_warning_about_the_number_names_no_photo(client: FlaskClient) -> None:
    answer = client.post(CHECK, json={"photos": DEMO[:1]}).json
    assert answer is not None
    assert told(answer) == [("too_few", [])]
    assert (answer["ok"], answer["photos"][0]["warnings"]) == (False, [])


def test_photos_are_judged_for_the_resolution_and_the_base_that_are_named(client: FlaskClient) -> None:
    # A photo of 100 pixels is large enough for the pocket base, not for more
    body = {"photos": [encoded(scene(number, side_px=100)) for number in range(3)]}
    for fields, resolution, expected in (
        ({}, 64, []),
        ({"resolution": 128}, 128, [("too_small", [0, 1, 2])]),
        # No weights of it are on this machine, and none are needed
        ({"base_model": "stabilityai/stable-diffusion-2"}, 768, [("too_small", [0, 1, 2])]),
    ):
        answer = client.post(CHECK, json=body | fields).json
        assert answer is not None
        assert (answer["resolution"], told(answer)) == (resolution, expected)


@pytest.mark.parametrize(
    ("photo", "status", "code"),
    [
        ("not base64!", 400, "invalid_request"),
        ("", 400, "invalid_request"),
        (base64.b64encode(b"GIF89a").decode(), 415, "unsupported_image"),
        (encoded(scene(0, side_px=64))[:400], 400, "broken_image"),
        (encoded(Image.new("RGB", (8193, 1))), 413, "image_too_large"),
    ],
)
def test_an_unreadable_photo_is_refused_as_by_a_training(
    client: FlaskClient, photo: str, status: int, code: str
) -> None:
    photos = [*DEMO[:2], photo]
    answers = [
        client.post(CHECK, json={"photos": photos}),
        client.post("/v1/trainings", json=SUBJECT | {"photos": photos}),
    ]
    check, training = (answer.get_json() for answer in answers)
    assert [answer.status_code for answer in answers] == [status] * 2
    assert check["error"]["code"] == code
    assert check["error"]["details"]["field"] == "photos[2]"
    assert "photos[2]" in check["message"]
    # The same body, but for the request's id
    del check["error"]["request_id"], training["error"]["request_id"]
    assert check == training


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("photos", []),
        ("photos", DEMO[:1] * 51),
        ("photos", "text"),
        ("photos", [3]),
        ("photos", None),
        ("resolution", 65),
        ("resolution", 768),
        ("resolution", "64"),
        ("resolution", True),
        ("base_model", "someone/else"),
        ("base_model", 3),
        ("instance_prompt", "a sks toy"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_bad_value_is_422_and_named(client: FlaskClient, field: str, value: object) -> None:
    answer = client.post(CHECK, json={"photos": DEMO[:1]} | {field: value})
    assert answer.json is not None
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "invalid_field")
    assert field in answer.json["message"]


def test_checking_keeps_and_starts_nothing(client: FlaskClient, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    assert client.post(CHECK, json={"photos": DEMO}).status_code == 200
    assert sorted(folder.rglob("*")) == before
    listed = client.get("/v1/trainings").json
    assert listed == {"trainings": []}


def test_the_pixels_of_one_photo_are_in_memory_at_a_time(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a decoder that counts, at each photo, the earlier pictures that are still held
    pictures: list[weakref.ref[Image.Image]] = []
    held: list[int] = []

    def watched(data: bytes, field: str) -> Image.Image:
        held.append(sum(picture() is not None for picture in pictures))
        picture = decode_image(data, field)
        pictures.append(weakref.ref(picture))
        return picture

    monkeypatch.setattr("enlight.dreambooth_api.training_requests.decode_image", watched)
    # When 50 photos are checked, then each is decoded once, when the one before is gone
    assert client.post(CHECK, json={"photos": DEMO[:1] * 50}).status_code == 200
    assert held == [0] * 50


def test_a_training_says_the_same_and_runs_also_in_its_record(folder: Path) -> None:
    body = {"photos": odd_photos()}
    with client_in(folder) as client:
        check = client.post(CHECK, json=body).json
        accepted = client.post("/v1/trainings", json=SUBJECT | body)
        assert accepted.status_code == 202, accepted.text
        views = [accepted.json]
    # And after a restart of the service
    with client_in(folder) as client:
        views.append(client.get(accepted.headers["Location"]).json)
    assert check is not None
    for view in views:
        assert view is not None
        assert view["warnings"] == check["warnings"] != []


def test_the_seed_s_route_says_it_in_sentences_with_its_own_field_and_only_when_there_are_any(
    client: FlaskClient,
) -> None:
    body = {"INSTANCE_PROMPT": "a sks toy", "OUTPUT_DIR": "toy"}
    answer = client.post("/train", json=body | {"IMAGE_LIST": odd_photos()}).json
    assert answer is not None
    assert [sentence.split(": ")[0] for sentence in answer.pop("warnings")] == [
        "IMAGE_LIST[3]",
        "IMAGE_LIST[3]",
        "IMAGE_LIST[0], IMAGE_LIST[2]",
    ]
    assert answer == {"message": "Training is done.", "model_id": "toy"}
    answer = client.post("/train", json=body | {"IMAGE_LIST": DEMO}).json
    assert answer == {"message": "Training is done.", "model_id": "toy"}
