"""Every route, with a real worker and stand-ins for the networks; every refusal names its field."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from answers import assert_error
from bgrem_samples import base64_of, file_of, picture_of, pixels_of, red_square, running_app, stand_in_settings
from flask.testing import FlaskClient
from metric_samples import sample
from PIL import Image
from waiting import wait_until

from enlight.bgrem.weights import MODELS

MIDDLE, CORNER = (32, 48), (2, 2)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    folder = tmp_path_factory.mktemp("weights")
    with running_app(stand_in_settings(folder, max_matting_pixels=10_000)) as app:
        yield app.test_client()


def form(**fields: Any) -> dict[str, Any]:
    return {"file": (io.BytesIO(file_of(red_square())), "input.png"), **fields}


# The seed's routes


def test_remove_lays_the_subject_on_white(client: FlaskClient) -> None:
    answer = client.post("/remove", json={"input_image": base64_of(red_square())})
    assert answer.status_code == 200
    assert answer.json is not None
    assert list(answer.json) == ["output_image"]
    picture = picture_of(base64.b64decode(answer.json["output_image"]))
    assert (picture.format, picture.mode, picture.size) == ("PNG", "RGB", (96, 64))
    pixels = np.asarray(picture)
    np.testing.assert_allclose(pixels[MIDDLE], (230, 20, 30), atol=2)
    assert (pixels[CORNER] == 255).all()


def test_remove_opacity_leaves_nothing_behind_the_subject(client: FlaskClient) -> None:
    answer = client.post("/remove-opacity", json={"input_image": base64_of(red_square()), "model": "silueta"})
    assert answer.json is not None
    picture = picture_of(base64.b64decode(answer.json["output_image"]))
    assert (picture.format, picture.mode) == ("PNG", "RGBA")
    pixels = np.asarray(picture)
    np.testing.assert_array_equal(pixels[MIDDLE], (230, 20, 30, 255))
    assert not pixels[CORNER].any()


@pytest.mark.parametrize("path", ["/remove", "/remove-opacity"])
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "input_image"),
        ({"input_image": None}, "input_image"),
        ({"input_image": 3}, "input_image"),
        ({"input_image": "aGVsbG8=", "model": "isnet-general-use"}, "model"),
        ({"input_image": "aGVsbG8=", "model": "withoutbg"}, "model"),
        ({"input_image": "aGVsbG8=", "model": "atlascloud"}, "model"),
        ({"input_image": "aGVsbG8=", "model": "u2net_custom"}, "model"),
        ({"input_image": "aGVsbG8=", "model": "../u2net"}, "model"),
        ({"input_image": "aGVsbG8=", "model": None}, "model"),
        ({"input_image": "aGVsbG8=", "size": 3}, "size"),
        ({"input_image": "aGVsbG8=", "url": "http://127.0.0.1/"}, "url"),
    ],
)
def test_a_wrong_field_is_named(client: FlaskClient, path: str, body: dict[str, Any], field: str) -> None:
    assert_error(client.post(path, json=body), 422, "invalid_field", field)


@pytest.mark.parametrize("path", ["/remove", "/remove-opacity"])
def test_bad_base64_and_bad_pictures_are_the_client_s_errors(client: FlaskClient, path: str) -> None:
    def answer(text: str) -> Any:
        return client.post(path, json={"input_image": text})

    assert_error(answer("aGVs*bG8="), 400, "invalid_request")
    assert_error(answer(""), 400, "invalid_request")
    assert_error(answer("data:image/png;base64,aGVsbG8="), 400, "invalid_request")
    body = assert_error(answer("aGVsbG8="), 415, "unsupported_image")
    assert body["message"].startswith("input_image ")
    half = file_of(red_square())[:-60]
    body = assert_error(answer(base64.b64encode(half).decode()), 400, "broken_image")
    assert body["message"].startswith("input_image ")
    wide = base64.b64encode(file_of(Image.new("1", (8193, 1)))).decode()
    assert assert_error(answer(wide), 413, "image_too_large")["error"]["details"]["field"] == "input_image"
    assert_error(client.post(path, data=b"{", content_type="application/json"), 400, "invalid_request")
    assert_error(client.post(path, data=b"{}", content_type="text/plain"), 415, "unsupported_media_type")


# /v1/cutout


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream"])
def test_cutout_takes_bytes_and_gives_bytes(client: FlaskClient, kind: str) -> None:
    answer = client.post("/v1/cutout?model=u2netp", data=file_of(red_square()), content_type=kind)
    assert answer.status_code == 200
    assert (answer.mimetype, answer.headers["X-Width"], answer.headers["X-Height"]) == ("image/png", "96", "64")
    pixels = pixels_of(answer.data)
    np.testing.assert_array_equal(pixels[MIDDLE], (230, 20, 30, 255))
    assert not pixels[CORNER].any()


@pytest.mark.parametrize("name", ["file", "image"])
def test_cutout_takes_a_form(client: FlaskClient, name: str) -> None:
    fields = {name: (io.BytesIO(file_of(red_square())), "a.png"), "background": "#00ff00", "format": "webp"}
    answer = client.post("/v1/cutout?model=u2netp", data=fields)
    assert answer.mimetype == "image/webp"
    picture = picture_of(answer.data)
    assert (picture.format, picture.mode, picture.size) == ("WEBP", "RGB", (96, 64))
    np.testing.assert_allclose(np.asarray(picture)[CORNER], (0, 255, 0), atol=12)


def test_cutout_gives_webp_with_transparency(client: FlaskClient) -> None:
    answer = client.post("/v1/cutout?format=webp&quality=80", data=form())
    picture = picture_of(answer.data)
    assert (picture.format, picture.mode) == ("WEBP", "RGBA")
    assert np.asarray(picture)[CORNER][3] == 0


@pytest.mark.parametrize("kind", ["png", "webp", "jpeg"])
def test_cutout_gives_the_mask_alone(client: FlaskClient, kind: str) -> None:
    answer = client.post(f"/v1/cutout?only_mask=true&format={kind}", data=form())
    assert answer.mimetype == f"image/{kind}"
    mask = np.asarray(picture_of(answer.data).convert("L"))
    assert mask[MIDDLE] > 250
    assert mask[CORNER] < 5


@pytest.mark.parametrize(
    ("background", "mode", "corner"),
    [
        ("white", "RGB", (255, 255, 255)),
        ("black", "RGB", (0, 0, 0)),
        ("#0a141e", "RGB", (10, 20, 30)),
        ("1,2,3", "RGB", (1, 2, 3)),
        ("1,2,3,255", "RGB", (1, 2, 3)),
        ("#0a141e80", "RGBA", (10, 20, 30, 128)),
    ],
)
def test_cutout_lays_the_subject_on_a_colour(
    client: FlaskClient, background: str, mode: str, corner: tuple[int, ...]
) -> None:
    answer = client.post("/v1/cutout", query_string={"background": background}, data=form())
    picture = picture_of(answer.data)
    assert picture.mode == mode
    np.testing.assert_array_equal(np.asarray(picture)[CORNER], corner)


def test_cutout_jpeg_on_a_background(client: FlaskClient) -> None:
    answer = client.post("/v1/cutout?format=jpeg&background=white", data=form())
    assert answer.data.startswith(b"\xff\xd8")


def test_cutout_mattes(client: FlaskClient) -> None:
    answer = client.post("/v1/cutout?alpha_matting=1&alpha_matting_erode_size=3", data=form())
    pixels = pixels_of(answer.data)
    assert pixels[MIDDLE][3] > 250
    assert pixels[CORNER][3] < 5


def test_cutout_gives_three_garments_or_one(client: FlaskClient) -> None:
    answer = client.post("/v1/cutout?model=u2net_cloth_seg", data=form())
    assert picture_of(answer.data).size == (96, 192)
    answer = client.post("/v1/cutout?model=u2net_cloth_seg&cloth_category=upper", data=form())
    assert picture_of(answer.data).size == (96, 64)
    assert pixels_of(answer.data)[MIDDLE][3] == 255


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("model=sam", "model"),
        ("model=u2net&model=u2netp", "model"),
        ("format=gif", "format"),
        ("format=jpeg", "format"),
        ("format=jpeg&background=%23ffffff80", "format"),
        ("quality=0", "quality"),
        ("quality=101", "quality"),
        ("quality=1_0", "quality"),
        ("quality=%D9%A1", "quality"),
        ("quality=9.5", "quality"),
        ("only_mask=2", "only_mask"),
        ("only_mask=", "only_mask"),
        ("background=red", "background"),
        ("background=%23fff", "background"),
        ("background=256,0,0", "background"),
        ("background=1,2", "background"),
        ("alpha_matting_foreground_threshold=256", "alpha_matting_foreground_threshold"),
        ("alpha_matting_background_threshold=-1", "alpha_matting_background_threshold"),
        ("alpha_matting_erode_size=256", "alpha_matting_erode_size"),
        ("alpha_matting_erode_size=NaN", "alpha_matting_erode_size"),
        ("cloth_category=hat", "cloth_category"),
        ("url=http://127.0.0.1/a.png", "url"),
    ],
)
@pytest.mark.parametrize("in_form", [False, True])
def test_a_wrong_option_is_named(client: FlaskClient, query: str, field: str, in_form: bool) -> None:
    from urllib.parse import parse_qs

    if in_form:
        fields = parse_qs(query, keep_blank_values=True)
        answer = client.post("/v1/cutout", data=form(**fields))
    else:
        answer = client.post(f"/v1/cutout?{query}", data=form())
    assert_error(answer, 422, "invalid_field", field)


def test_an_option_in_query_and_form_is_given_twice(client: FlaskClient) -> None:
    answer = client.post("/v1/cutout?model=u2net", data=form(model="u2netp"))
    assert_error(answer, 422, "invalid_field", "model")


def test_a_form_without_a_file_or_with_two_is_refused(client: FlaskClient) -> None:
    assert_error(
        client.post("/v1/cutout", data={"model": "u2net"}, content_type="multipart/form-data"),
        422,
        "invalid_field",
        "file",
    )
    two = form(image=(io.BytesIO(b"x"), "b.png"))
    assert_error(client.post("/v1/cutout", data=two), 422, "invalid_field", "image")
    assert_error(client.post("/v1/cutout", data={"photo": (io.BytesIO(b"x"), "b")}), 422, "invalid_field", "photo")
    assert_error(client.post("/v1/cutout", data=b"", content_type="image/png"), 422, "invalid_field", "body")
    assert_error(client.post("/v1/cutout", data=b"{}", content_type="application/json"), 415, "unsupported_media_type")


def test_what_is_no_picture_is_named_by_its_field(client: FlaskClient) -> None:
    answer = client.post("/v1/cutout", data=b"hello", content_type="image/png")
    assert assert_error(answer, 415, "unsupported_image")["error"]["details"] == {"field": "body"}
    answer = client.post("/v1/cutout", data={"file": (io.BytesIO(b"hello"), "a.png")})
    assert assert_error(answer, 415, "unsupported_image")["error"]["details"] == {"field": "file"}


def test_a_picture_too_large_for_matting_is_refused(client: FlaskClient) -> None:
    data = file_of(red_square(200, 100))
    answer = client.post("/v1/cutout?alpha_matting=true", data=data, content_type="image/png")
    assert "megapixels" in assert_error(answer, 413, "image_too_large")["message"]
    assert client.post("/v1/cutout", data=data, content_type="image/png").status_code == 200


def test_an_answer_larger_than_its_format_is_refused(client: FlaskClient) -> None:
    data = file_of(Image.new("RGB", (3, 5500)))
    query = "/v1/cutout?model=u2net_cloth_seg&format="
    assert_error(client.post(query + "webp", data=data, content_type="image/png"), 413, "image_too_large")
    assert client.post(query + "png", data=data, content_type="image/png").status_code == 200


# rembg's own route


def test_rembg_s_clients_are_served(client: FlaskClient) -> None:
    answer = client.post("/api/remove", data=form())
    assert (answer.status_code, answer.mimetype) == (200, "image/png")
    assert pixels_of(answer.data).shape == (64, 96, 4)
    answer = client.post("/api/remove", data=form(model="u2netp", om="true", ppm="true"))
    assert set(np.unique(pixels_of(answer.data))) == {0, 255}
    answer = client.post("/api/remove?bgc=255,0,0,255", data=form(model="u2netp"))
    assert tuple(pixels_of(answer.data)[CORNER]) == (255, 0, 0, 255)
    answer = client.post("/api/remove", data=form(a="1", af="240", ab="10", ae="3", bgc="0, 0, 9, 255"))
    assert tuple(pixels_of(answer.data)[CORNER]) == (0, 0, 9, 255)
    answer = client.post("/api/remove", data=form(model="u2net_cloth_seg", extras='{"cc": "upper"}'))
    assert pixels_of(answer.data).shape == (64, 96, 4)
    assert client.post("/api/remove", data=form(dc="true", extras="", bgc="")).status_code == 200


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"model": "bria-rmbg"}, "model"),
        ({"model": "withoutbg"}, "model"),
        ({"model": "u2net_custom"}, "model"),
        ({"extras": '{"model_path": "/etc/passwd"}'}, "extras.model_path"),
        ({"extras": '{"api_key": "k"}'}, "extras.api_key"),
        ({"extras": '{"cc": "hat"}'}, "extras.cc"),
        ({"extras": "[1]"}, "extras"),
        ({"extras": "{"}, "extras"),
        ({"extras": "[" * 100_000}, "extras"),
        ({"af": "256"}, "af"),
        ({"ab": "x"}, "ab"),
        ({"ae": "-1"}, "ae"),
        ({"ae": "1000000"}, "ae"),
        ({"bgc": "white"}, "bgc"),
        ({"bgc": "1,2,3,256"}, "bgc"),
        ({"vm": "true"}, "vm"),
        ({"a": "maybe"}, "a"),
        ({"url": "http://127.0.0.1:1/a.png"}, "url"),
        ({"x": "1"}, "x"),
    ],
)
def test_a_wrong_option_of_rembg_s_is_named(client: FlaskClient, options: dict[str, str], field: str) -> None:
    body = client.post("/api/remove", data=form(**options))
    assert_error(body, 422, "invalid_field", field)


def test_rembg_s_route_fetches_no_address(client: FlaskClient) -> None:
    assert_error(client.get("/api/remove?url=http://127.0.0.1:1/a.png"), 422, "invalid_field", "url")
    assert_error(client.post("/api/remove?url=http://127.0.0.1:1/a.png", data=form()), 422, "invalid_field", "url")


# The rest


def test_models_are_listed(client: FlaskClient) -> None:
    answer = client.get("/v1/models")
    assert answer.json is not None
    models = answer.json["models"]
    assert [model["name"] for model in models] == list(MODELS)
    assert all(model["weights_here"] and len(model["weights_sha256"]) == 64 for model in models)
    assert [model["name"] for model in models if model["default"]] == ["u2net"]


def test_ready_and_metrics_tell_what_the_worker_did(client: FlaskClient) -> None:
    assert client.post("/v1/cutout?model=u2netp", data=form()).status_code == 200

    def told() -> dict[str, Any]:
        details: dict[str, Any] = (client.get("/ready").json or {})["details"]
        return details

    assert wait_until(lambda: "u2netp" in told()["worker"]["loaded"])  # the worker tells of itself after its answer
    assert told()["models_with_weights"] == list(MODELS)
    worker = told()["worker"]
    assert worker["engines"]["u2netp"] == "mnn"
    assert worker["providers"] == ["CPUExecutionProvider"]
    assert worker["pictures_total"] >= 1
    text = client.get("/metrics").text
    assert sample(text, "enlight_pictures_total", operation="cutout") >= 1
    for stage in ("queued", "decode", "run", "encode"):
        assert sample(text, "enlight_stage_duration_seconds_sum", operation="cutout", stage=stage) > 0
    status = client.get("/v1/status").json
    assert status is not None
    assert {"model_id": "u2netp", "version": None, "tier": "resident"} in status["models"]
    assert (status["device"], status["memory_kind"]) == ("cpu", "host")


def test_the_documentation_names_every_route_and_option(client: FlaskClient) -> None:
    document = client.get("/openapi.json").json
    assert document is not None
    paths = document["paths"]
    assert {"/remove", "/remove-opacity", "/v1/cutout", "/api/remove", "/v1/models"} <= set(paths)
    options = {parameter["name"] for parameter in paths["/v1/cutout"]["post"]["parameters"]}
    assert {"model", "format", "background", "only_mask", "alpha_matting", "cloth_category"} <= options
    assert set(paths["/v1/cutout"]["post"]["requestBody"]["content"]) == {
        "application/octet-stream",
        "multipart/form-data",
    }
