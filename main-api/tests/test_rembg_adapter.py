"""``/api/remove`` as rembg's clients know it: the curl lines of rembg's own documentation, and what it does not do."""

from __future__ import annotations

import io
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import quick_services
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from gateways import Surroundings, client_of, gateway, make_key, opened, surroundings
from PIL import Image
from stand_in_service import error_http
from waiting import wait_until
from werkzeug.test import TestResponse

from enlight.main_api.settings import Settings

CURL = ["curl", "-sS", "-w", "%{http_code} %{content_type}", "-o"]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("rembg")) as running:
        yield running


@pytest.fixture(scope="module")
def settings(servers: Surroundings) -> Iterator[Settings]:
    with quick_services.served(quick_services.bgrem()) as bgrem:
        yield servers.settings(bgrem_urls=[bgrem], max_body_bytes=1 << 20)


@pytest.fixture(scope="module")
def url(app: OpenAPI) -> Iterator[str]:
    with quick_services.served(app) as url:
        yield f"{url}/api/remove"


@pytest.fixture(scope="module")
def key(settings: Settings) -> str:
    return make_key(settings, "anna")


@pytest.fixture
def client(app: OpenAPI, key: str) -> FlaskClient:
    return client_of(app, key)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "input.jpg"
    path.write_bytes(jpeg())
    return path


def jpeg(side_px: int = 24) -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").resize((side_px, side_px)).convert("RGB").save(file, "JPEG")
    return file.getvalue()


def form(**fields: str) -> dict[str, Any]:
    return {"file": (io.BytesIO(jpeg()), "input.jpg"), **fields}


def detail(response: TestResponse, status: int) -> Any:
    """What an error says, in FastAPI's shape: a message, or each field that is wrong."""
    assert response.status_code == status, response.text
    body = response.json
    assert isinstance(body, dict)
    assert set(body) == {"detail"}
    return body["detail"]


def test_rembg_s_documented_curl_gives_a_png(url: str, key: str, photo: Path, tmp_path: Path) -> None:
    # Given the line of rembg's documentation, with a key
    output = tmp_path / "output.png"
    line = [*CURL, str(output), "-F", f"file=@{photo}", "-u", f"anybody:{key}", url]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "200 image/png"
    with Image.open(output) as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize(
    "options",
    [
        {"model": "u2netp"},
        {"a": "true", "af": "240", "ab": "10", "ae": "10"},
        {"om": "true", "ppm": "true"},
        {"dc": "true", "vm": "false"},
        {"bgc": "255,255,255,255", "extras": '{"cc": "upper"}', "model": "u2net_cloth_seg"},
        {"extras": ""},
    ],
)
def test_rembg_s_options_are_read_from_form_and_query(client: FlaskClient, options: dict[str, str]) -> None:
    for asked in ({"data": form(**options)}, {"data": form(), "query_string": options}):
        answer = client.post("/api/remove", **asked)
        assert (answer.status_code, answer.mimetype) == (200, "image/png"), answer.text


@pytest.mark.parametrize(
    ("fields", "query", "named"),
    [
        ({"url": "http://169.254.169.254/"}, {}, "url"),
        ({}, {"url": "http://example.com/input.png"}, "url"),
        ({"model": "bria-rmbg"}, {}, "model"),
        ({"model": "../u2net"}, {}, "model"),
        ({"vm": "true"}, {}, "vm"),
        ({"af": "256"}, {}, "af"),
        ({"a": "perhaps"}, {}, "a"),
        ({"bgc": "red"}, {}, "bgc"),
        ({"extras": '{"model_path": "/etc/passwd"}'}, {}, "extras.model_path"),
        ({"unheard_of": "1"}, {}, "unheard_of"),
        ({"om": "true"}, {"om": "true"}, "om"),
    ],
)
def test_an_option_that_cannot_be_done_is_refused_by_its_name(
    client: FlaskClient, fields: dict[str, str], query: dict[str, str], named: str
) -> None:
    (problem, *_) = detail(client.post("/api/remove", data=form(**fields), query_string=query), 422)
    assert problem["loc"] == ["body", named]
    assert set(problem) == {"loc", "msg", "type"}


def test_a_form_without_its_file_is_refused_by_name(client: FlaskClient) -> None:
    for data in ({"model": "u2net"}, {"picture": (io.BytesIO(jpeg()), "input.jpg")}):
        (problem, *_) = detail(client.post("/api/remove", data=data, content_type="multipart/form-data"), 422)
        assert problem["loc"][1] in ("file", "picture")
    assert "multipart/form-data" in detail(client.post("/api/remove", json={"file": "AAAA"}), 415)
    nothing = {"file": (io.BytesIO(b"not a picture"), "input.jpg")}
    assert "is not a PNG" in detail(client.post("/api/remove", data=nothing), 415)


def test_nothing_is_fetched_from_an_address(url: str, key: str, client: FlaskClient) -> None:
    # The other line of rembg's documentation
    line = [*CURL, "/dev/stdout", "-u", f"anybody:{key}", f"{url}?url=http://input.png"]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=60)
    body, status, media_type = done.stdout.rpartition("405")
    assert (status, media_type) == ("405", " application/json")
    assert "`url` is not taken" in json.loads(body)["detail"]
    assert "nothing is fetched" in detail(client.get("/api/remove?url=http://input.png"), 405)


def test_equal_requests_are_computed_once(client: FlaskClient) -> None:
    body = {"data": jpeg(20), "content_type": "application/octet-stream"}
    answers = [client.post("/api/remove?model=silueta", **body) for _ in range(2)]
    assert [answer.headers["X-Cache"] for answer in answers] == ["miss", "hit"]
    assert answers[0].data == answers[1].data


def test_a_key_is_asked_for_and_bodies_end_somewhere(app: OpenAPI, client: FlaskClient) -> None:
    refused = app.test_client().post("/api/remove", data=form())
    assert "Send a valid API key" in detail(refused, 401)
    assert "Basic" in refused.headers["WWW-Authenticate"]
    head: dict[str, Any] = {"CONTENT_LENGTH": str((1 << 20) + 1)}
    too_large = client.post("/api/remove", content_type="multipart/form-data", environ_overrides=head)
    assert "1 MiB" in detail(too_large, 413)


def test_a_service_that_is_away_is_told_in_rembg_s_shape(servers: Surroundings) -> None:
    # Given a bgrem that refuses, or answers what is no picture
    settings = servers.settings()
    with gateway(settings) as app:
        client = client_of(app, make_key(settings, "berta"))
        servers.behind["bgrem"].answer = lambda seen: error_http(503, "queue_full")
        refused = client.post("/api/remove", data=form())
        # Then rembg's clients are told in their own words, and whoever runs the suite in the log of errors
        assert detail(refused, 503) == "No."
        assert refused.headers["Retry-After"] == "5"
        servers.behind["bgrem"].answer = lambda seen: b""
        assert "bgrem gave" in detail(client.post("/api/remove", data=form()), 502)
        with opened(settings) as stores:
            rows = stores.database["usage"]
            assert wait_until(lambda: rows.count_documents({"route": "/api/remove"}) == 2)
            assert {row["code"] for row in rows.find()} == {"queue_full", "upstream_failed"}
