"""Bad input gets a clear 4xx that names the field; nothing that a client sends makes a 5xx or ends a process."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from clients import (
    PHOTOS,
    assert_error,
    generation_body,
    get,
    post,
    running_service,
    train_body,
    training_body,
)
from odd_pictures import accepted, refused, saved
from PIL import Image

from enlight.servicekit.local_service import LocalService

INFERENCE = {"prompt": "a sks toy", "model_id": "toy"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalService]:
    folder = tmp_path_factory.mktemp("bad-input")
    with running_service(folder, max_body_bytes=1_000_000, max_train_body_bytes=6_000_000) as service:
        yield service
        # Whatever was sent, the engine is the one that was started at first.
        assert get(service, "/ready").json()["details"]["engine"]["restarts"] == 0


def raw(service: LocalService, path: str, body: bytes | str, **headers: str) -> requests.Response:
    data = body.encode() if isinstance(body, str) else body
    return requests.post(
        f"{service.url}{path}", data=data, headers={"Content-Type": "application/json"} | headers, timeout=60
    )


ROUTES = {
    "/train": train_body(),
    "/inference": INFERENCE,
    "/v1/trainings": training_body(),
    "/v1/generations": generation_body(),
}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("not JSON", "hello"),
        ("empty", ""),
        ("half an object", '{"prompt": "a"'),
        ("NaN", '{"LR": NaN}'),
        ("Infinity", '{"LR": Infinity}'),
        ("minus Infinity", '{"LR": -Infinity}'),
        ("a number beyond floating point", '{"LR": 1e999}'),
        ("a number of 5,000 digits", '{"LR": ' + "9" * 5000 + "}"),
        ("the same key twice", '{"LR": 1, "LR": 2}'),
        ("a lone surrogate", '{"prompt": "\\ud800"}'),
        ("100,000 brackets", "[" * 100_000),
        ("100,000 closed brackets", "[" * 100_000 + "]" * 100_000),
        ("100,000 nested objects", '{"a":' * 100_000),
        ("not UTF-8", b'{"prompt": "\xff\xfe"}'),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 40 else "",
)
def test_what_is_not_strict_json_is_400(service: LocalService, path: str, name: str, body: str | bytes) -> None:
    assert_error(raw(service, path, body), 400, "invalid_request")


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("body", ["null", "[]", "3", '"text"', "true"])
def test_json_that_is_no_object_is_422(service: LocalService, path: str, body: str) -> None:
    assert_error(raw(service, path, body), 422, "invalid_field")


@pytest.mark.parametrize("path", ROUTES)
def test_each_missing_field_and_an_unknown_one_are_named(service: LocalService, path: str) -> None:
    required = {
        "/train": ("INSTANCE_PROMPT", "OUTPUT_DIR", "IMAGE_LIST"),
        "/inference": ("prompt", "model_id"),
        "/v1/trainings": ("model_id", "instance_prompt", "photos"),
        "/v1/generations": ("model_id", "prompt"),
    }[path]
    for field in required:
        body = {key: value for key, value in ROUTES[path].items() if key != field}
        assert_error(post(service, path, body), 422, "invalid_field", field)
    assert_error(post(service, path, ROUTES[path] | {"SURPRISE": 1}), 422, "invalid_field", "SURPRISE")


TRAIN_VALUES: list[tuple[str, Any]] = [
    ("INSTANCE_PROMPT", ""),
    ("INSTANCE_PROMPT", "   "),
    ("INSTANCE_PROMPT", "a\0b"),
    ("INSTANCE_PROMPT", "x" * 2001),
    ("INSTANCE_PROMPT", None),
    ("INSTANCE_PROMPT", ["a"]),
    ("INSTANCE_PROMPT", {"$ne": None}),
    ("OUTPUT_DIR", "../x"),
    ("OUTPUT_DIR", "a/b"),
    ("OUTPUT_DIR", "a\\b"),
    ("OUTPUT_DIR", "/etc"),
    ("OUTPUT_DIR", "..%2fx"),
    ("OUTPUT_DIR", "．．／x"),
    ("OUTPUT_DIR", "a\n"),
    ("OUTPUT_DIR", "a\0"),
    ("OUTPUT_DIR", ""),
    ("OUTPUT_DIR", "."),
    ("OUTPUT_DIR", ".hidden"),
    ("OUTPUT_DIR", "a" * 65),
    ("OUTPUT_DIR", "a" * 300),
    ("OUTPUT_DIR", "$(touch canary)"),
    ("OUTPUT_DIR", 7),
    ("IMAGE_LIST", []),
    ("IMAGE_LIST", PHOTOS[:1] * 51),
    ("IMAGE_LIST", "text"),
    ("IMAGE_LIST", [3]),
    ("IMAGE_LIST", None),
    ("MODEL_NAME", "someone/else"),
    ("MODEL_NAME", "../../etc"),
    ("MODEL_NAME", "https://example.com/x"),
    ("MODEL_NAME", 3),
    ("MAX_TRAINING_STEPS", 0),
    ("MAX_TRAINING_STEPS", -1),
    ("MAX_TRAINING_STEPS", 10**9),
    ("MAX_TRAINING_STEPS", True),
    ("MAX_TRAINING_STEPS", "400"),
    ("MAX_TRAINING_STEPS", "1_000"),
    ("MAX_TRAINING_STEPS", "١٢"),
    ("MAX_TRAINING_STEPS", 4.5),
    ("MAX_TRAINING_STEPS", None),
    ("RESOLUTION", 7),
    ("RESOLUTION", 65),
    ("RESOLUTION", 100_000),
    ("RESOLUTION", 768),
    ("RESOLUTION", True),
    ("TRAIN_BATCH_SIZE", 0),
    ("TRAIN_BATCH_SIZE", 10**6),
    ("LR", 0),
    ("LR", -1e-6),
    ("LR", -0.0),
    ("LR", 2),
    ("LR", True),
    ("LR", "1e-6"),
    ("LR", None),
    ("LR_SCHEDULER", "piecewise_constant"),
    ("LR_SCHEDULER", "nonsense"),
    ("LR_SCHEDULER", 1),
    ("LR_WARMUP_STEPS", -1),
    ("LR_WARMUP_STEPS", False),
    ("MAIN_PROCESS_POR", 80),
    ("MAIN_PROCESS_POR", 70_000),
    ("MAIN_PROCESS_PORT", "28900; rm -rf /"),
    ("GRADIENT_ACCUMULATION_STEPS", 0),
    ("GRADIENT_ACCUMULATION_STEPS", 10**6),
]


@pytest.mark.parametrize(("field", "value"), TRAIN_VALUES, ids=lambda value: repr(value)[:30])
def test_train_names_the_field_of_a_bad_value(service: LocalService, field: str, value: Any) -> None:
    assert_error(post(service, "/train", train_body(**{field: value})), 422, "invalid_field", field)


def test_a_number_too_small_for_floating_point_is_no_learning_rate(service: LocalService) -> None:
    body = json.dumps(train_body()).replace("1e-05", "1e-400")
    assert "1e-400" in body
    assert_error(raw(service, "/train", body), 422, "invalid_field", "LR")


def test_two_different_ports_are_refused(service: LocalService) -> None:
    body = train_body(MAIN_PROCESS_POR=28900, MAIN_PROCESS_PORT=28901)
    assert_error(post(service, "/train", body), 422, "invalid_field")


INFERENCE_VALUES: list[tuple[str, Any]] = [
    ("prompt", ""),
    ("prompt", "\t\n "),
    ("prompt", "a\0b"),
    ("prompt", "x" * 2001),
    ("prompt", 3),
    ("model_id", "../x"),
    ("model_id", "a\n"),
    ("model_id", "a" * 300),
    ("model_id", {"$gt": ""}),
    ("size", 7),
    ("size", 100_000),
    ("size", "64"),
    ("size", 64.0),
    ("num_image", 0),
    ("num_image", -3),
    ("num_image", 51),
    ("num_image", 10**6),
    ("num_image", True),
    ("num_image", None),
]


@pytest.mark.parametrize(("field", "value"), INFERENCE_VALUES, ids=lambda value: repr(value)[:30])
def test_inference_names_the_field_of_a_bad_value(service: LocalService, field: str, value: Any) -> None:
    assert_error(post(service, "/inference", INFERENCE | {field: value}), 422, "invalid_field", field)


GENERATION_VALUES: list[tuple[str, Any]] = [
    ("model_id", "someone/else"),
    ("negative_prompt", "a\0"),
    ("negative_prompt", "x" * 2001),
    ("num_images", 51),
    ("width", 65),
    ("width", 2048),
    ("height", 24),
    ("seed", -1),
    ("seed", 2**63),
    ("seed", 2**64),
    ("seed", 1.5),
    ("num_inference_steps", 0),
    ("num_inference_steps", 10**9),
    ("guidance_scale", -1),
    ("guidance_scale", 1000),
    ("guidance_scale", "7"),
    ("format", "gif"),
    ("format", "PNG"),
    ("image", 3),
    ("image", PHOTOS),
    ("mask", PHOTOS[0]),
    ("mask", {"png": PHOTOS[0]}),
    ("strength", 0.5),
    ("strength", "0.5"),
    ("keep_unmasked", False),
    ("keep_unmasked", None),
]


@pytest.mark.parametrize(("field", "value"), GENERATION_VALUES, ids=lambda value: repr(value)[:30])
def test_generations_name_the_field_of_a_bad_value(service: LocalService, field: str, value: Any) -> None:
    assert_error(post(service, "/v1/generations", generation_body(**{field: value})), 422, "invalid_field", field)


FROM_A_PICTURE: list[tuple[str, dict[str, Any]]] = [
    ("strength", {"strength": 0}),
    ("strength", {"strength": -0.1}),
    ("strength", {"strength": 1.01}),
    ("strength", {"strength": True}),
    ("strength", {"strength": 0.2}),  # of 4 steps none would be run
    ("keep_unmasked", {"keep_unmasked": True}),
    ("keep_unmasked", {"mask": PHOTOS[1], "keep_unmasked": "yes"}),
    ("mask", {"mask": accepted()["RGBA PNG"]}),  # of another size
    ("mask", {"mask": saved(Image.new("L", (256, 256)), "PNG")}),
    ("width", {"width": 65}),
    ("height", {"mask": PHOTOS[1], "height": 4096}),
]


@pytest.mark.parametrize(("field", "fields"), FROM_A_PICTURE, ids=lambda value: str(value)[:30])
def test_generations_name_the_field_that_does_not_suit_a_picture(
    service: LocalService, field: str, fields: dict[str, Any]
) -> None:
    body = generation_body(image=PHOTOS[0]) | fields
    assert_error(post(service, "/v1/generations", body), 422, "invalid_field", field)


@pytest.mark.parametrize("field", ["image", "mask"])
@pytest.mark.parametrize("name", refused())
def test_pictures_to_begin_from_that_are_not_read_are_named(service: LocalService, name: str, field: str) -> None:
    picture, status, code = refused()[name]
    assert_error(
        post(service, "/v1/generations", generation_body(image=PHOTOS[0]) | {field: picture}), status, code, field
    )


@pytest.mark.parametrize("name", accepted())
def test_odd_pictures_to_begin_from(service: LocalService, name: str) -> None:
    # When an odd picture is begun from, which is its own mask, too
    picture = accepted()[name]
    body = generation_body(image=picture, mask=picture, num_inference_steps=1)
    answer = post(service, "/v1/generations", body)
    # Then it is read, at its own size, upright
    assert answer.status_code == 200, answer.text
    size = (64, 96) if name.startswith("EXIF") else (96, 64)
    assert (answer.json()["width"], answer.json()["height"]) == size


def test_prompts_that_only_look_dangerous_are_just_text(service: LocalService, tmp_path: Path) -> None:
    for prompt in (
        "{{7*7}}",
        "$(touch canary)",
        '"; rm -rf /',
        "a\nb",
        "🍕" * 100,
        "\u202eabc",
        "a\u200bb",
        "' OR 1=1",
    ):
        answer = post(service, "/v1/generations", generation_body(prompt=prompt, num_inference_steps=1))
        assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("name", accepted())
def test_odd_pictures_that_are_read(service: LocalService, name: str) -> None:
    # Every photo is decoded in full before a training is accepted; the training itself is not needed here.
    answer = post(service, "/v1/trainings", training_body(photos=[accepted()[name]]))
    assert answer.status_code == 202, answer.text
    post(service, f"/v1/trainings/{answer.json()['id']}/cancel", {})


@pytest.mark.parametrize("name", refused())
def test_pictures_that_are_not_read_are_named_by_their_place(service: LocalService, name: str) -> None:
    picture, status, code = refused()[name]
    body = train_body(IMAGE_LIST=[PHOTOS[0], picture])
    assert_error(post(service, "/train", body), status, code, "IMAGE_LIST[1]")


def test_a_body_over_the_limit_is_413_and_says_the_limit(service: LocalService) -> None:
    for path, limit in (("/inference", 1_000_000), ("/train", 6_000_000), ("/v1/photos/check", 6_000_000)):
        answer = raw(service, path, b'{"prompt": "' + b"x" * limit + b'"}')
        assert "limit" in assert_error(answer, 413, "body_too_large")["message"].lower()

        def chunks(limit: int = limit) -> Iterator[bytes]:
            for _ in range(limit // 100_000 + 2):
                yield b"x" * 100_000

        answer = requests.post(
            f"{service.url}{path}", data=chunks(), headers={"Content-Type": "application/json"}, timeout=60
        )
        assert_error(answer, 413, "body_too_large")


def test_other_media_types_and_encodings_are_415(service: LocalService) -> None:
    body = json.dumps(INFERENCE)
    assert_error(raw(service, "/inference", body, **{"Content-Type": "text/plain"}), 415, "unsupported_media_type")
    assert_error(raw(service, "/inference", body, **{"Content-Encoding": "gzip"}), 415, "unsupported_media_type")


def test_unknown_routes_methods_models_and_trainings(service: LocalService) -> None:
    assert_error(get(service, "/nowhere"), 404, "not_found")
    assert_error(get(service, "/train"), 405, "method_not_allowed")
    assert_error(requests.request("TRACE", f"{service.url}/train", timeout=30), 405, "method_not_allowed")
    assert_error(post(service, "/inference", INFERENCE | {"model_id": "unknown"}), 404, "not_found")
    assert_error(get(service, "/v1/trainings/tr-unknown"), 404, "not_found")
    assert_error(get(service, "/v1/trainings/..%2f..%2fetc"), 404, "not_found")
    assert_error(get(service, "/v1/trainings/tr-unknown/events"), 404, "not_found")
    assert_error(post(service, "/v1/trainings/tr-unknown/cancel", {}), 404, "not_found")
    assert_error(get(service, "/v1/trainings?state=nonsense"), 422, "invalid_field", "state")
    assert_error(get(service, "/v1/trainings?limit=0"), 422, "invalid_field", "limit")


def test_bytes_that_are_no_http_do_not_hurt(service: LocalService) -> None:
    host, port = service.url.removeprefix("http://").split(":")
    for attack in (
        b"\0" * 1000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /train HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /train HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99999999\r\n\r\n{",
    ):
        with socket.create_connection((host, int(port))) as client:
            client.sendall(attack)
            client.settimeout(2)
            with contextlib.suppress(TimeoutError, ConnectionError):
                assert b" 500 " not in client.recv(1000)
    assert get(service, "/live").status_code == 200


def test_an_attacker_s_request_id_does_not_reach_the_log_or_the_answer(service: LocalService) -> None:
    answer = requests.get(f"{service.url}/nowhere", headers={"X-Request-ID": "a" * 1000}, timeout=30)
    assert len(answer.headers["X-Request-ID"]) < 100
