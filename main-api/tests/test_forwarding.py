"""The picture and inference routes: what goes to a service, what comes back, what is computed once, what is counted."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from answers import assert_error
from embedded_servers import mongo_server
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from gateways import Surroundings, client_of, gateway, make_key, opened, surroundings
from small_models import publish, write_lora
from stand_in_service import Seen, error_http, http, json_http
from waiting import wait_until
from werkzeug.test import TestResponse

from enlight.main_api.app import create_app
from enlight.main_api.cache.kept_answers import SMALL_BYTES
from enlight.main_api.cache.response_cache import CachedResponse, ResponseCache
from enlight.main_api.settings import Settings
from enlight.servicekit.errors import NotFound

ROUTES = {
    "/remove": ("bgrem", "/remove"),
    "/remove-opacity": ("bgrem", "/remove-opacity"),
    "/upsampler": ("upsampler", "/upsampler"),
    "/realesrgan": ("realesrgan", "/upsampler"),
}
PICTURE_ROUTES = {
    "/v1/cutout": ("bgrem", "/v1/cutout"),
    "/v1/upscale": ("upsampler", "/v1/upscale"),
    "/v1/upscale/realesrgan": ("realesrgan", "/v1/upscale"),
}
PNG = b"\x89PNG\r\n" + bytes(range(256)) * 40


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("forwarding")) as running:
        yield running


@pytest.fixture
def around(servers: Surroundings) -> Surroundings:
    for service in servers.behind.values():
        service.answer = lambda seen: json_http({"path": seen.path, "got": len(seen.body)})
        service.seen.clear()
    return servers


@pytest.fixture(scope="module")
def settings(servers: Surroundings) -> Settings:
    return servers.settings()


@pytest.fixture(scope="module")
def anna(app: OpenAPI, settings: Settings) -> FlaskClient:
    return client_of(app, make_key(settings, "anna"))


@pytest.fixture(scope="module")
def berta(app: OpenAPI, settings: Settings) -> FlaskClient:
    return client_of(app, make_key(settings, "berta"))


def unique() -> dict[str, str]:
    """A body that was never sent before."""
    return {"input_image": base64.b64encode(json.dumps(id(object())).encode()).decode() + str(next(_numbers))}


_numbers = iter(range(10**6))


# What is sent on


@pytest.mark.parametrize(("rule", "behind"), ROUTES.items())
def test_a_seed_route_reaches_its_service(
    around: Surroundings, anna: FlaskClient, rule: str, behind: tuple[str, str]
) -> None:
    service, path = behind
    answer = anna.post(f"{rule}?a=1&b=2", json=unique())
    assert answer.status_code == 200, answer.text
    assert answer.json is not None
    assert answer.json["path"] == f"{path}?a=1&b=2"
    assert len(around.behind[service].seen) == 1


@pytest.mark.parametrize(("rule", "behind"), PICTURE_ROUTES.items())
def test_a_picture_route_takes_and_gives_bytes(
    around: Surroundings, anna: FlaskClient, rule: str, behind: tuple[str, str]
) -> None:
    service, path = behind
    around.behind[service].answer = lambda seen: http(PNG, content_type="image/png", headers={"X-Width": "7"})
    answer = anna.post(f"{rule}?format=png", data=PNG, content_type="image/png")
    assert (answer.status_code, answer.data, answer.mimetype) == (200, PNG, "image/png")
    assert answer.headers["X-Width"] == "7"
    (seen,) = around.behind[service].seen
    assert (seen.path, seen.body, seen.headers["Content-Type"]) == (f"{path}?format=png", PNG, "image/png")


def test_the_body_arrives_byte_by_byte_and_is_not_understood(around: Surroundings, anna: FlaskClient) -> None:
    body = b"\x00\xff not JSON at all {" * 1000
    anna.post("/remove", data=body, content_type="application/json; charset=x")
    (seen,) = around.behind["bgrem"].seen
    assert (seen.body, seen.headers["Content-Type"]) == (body, "application/json; charset=x")


def test_a_service_learns_the_request_s_id_and_no_secrets(around: Surroundings, anna: FlaskClient) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    given = {
        "X-Request-ID": "my-request",
        "traceparent": trace,
        "tracestate": "a=b",
        "X-API-Key": "enl_key",
        "Cookie": "a=b",
        "Connection": "keep-alive, X-Secret",
        "X-Secret": "x",
        "X-Forwarded-For": "10.0.0.1",
        "TE": "trailers",
        "Proxy-Authorization": "Basic abc",
    }
    answer = anna.post("/remove", json=unique(), headers=given)
    assert answer.headers["X-Request-ID"] == "my-request"
    (seen,) = around.behind["bgrem"].seen
    names = {name.lower() for name in seen.headers}
    assert names == {
        "host", "content-length", "content-type", "accept-encoding", "user-agent",
        "x-request-id", "traceparent", "tracestate",
    }  # fmt: skip
    assert (seen.headers["X-Request-ID"], seen.headers["traceparent"]) == ("my-request", trace)
    assert seen.headers["Accept-Encoding"] == "identity"


def test_the_service_s_refusal_is_the_answer(around: Surroundings, anna: FlaskClient) -> None:
    around.behind["bgrem"].answer = lambda seen: error_http(422, "invalid_field")
    answer = anna.post("/remove", json=unique())
    assert answer.status_code == 422
    assert answer.json is not None
    assert answer.json["error"]["code"] == "invalid_field"


def test_faults_of_a_service_have_names(around: Surroundings) -> None:
    settings = around.settings(keys="off", image_timeout_s=0.3)
    release = threading.Event()
    with gateway(settings) as app:
        client = app.test_client()
        around.behind["bgrem"].answer = lambda seen: http(b"<html>", content_type="text/html")
        assert_error(client.post("/remove", json=unique()), 502, "upstream_failed")
        around.behind["bgrem"].answer = lambda seen: b"" * release.wait(20)
        assert_error(client.post("/remove", json=unique()), 504, "upstream_timeout")
        release.set()
        around.behind["bgrem"].answer = lambda seen: error_http(503, "queue_full", headers={"Retry-After": "9"})
        answer = client.post("/remove", json=unique())
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "9")
    with gateway(around.settings(keys="off", bgrem_urls=["http://127.0.0.1:9"])) as app:
        answer = app.test_client().post("/remove", json=unique())
        assert_error(answer, 503, "worker_unavailable")
        assert int(answer.headers["Retry-After"]) > 0


# How much


def test_a_body_over_the_limit_is_refused(around: Surroundings) -> None:
    with gateway(around.settings(keys="off", max_body_bytes=1000, max_small_body_bytes=500)) as app:
        client = app.test_client()
        assert_error(client.post("/remove", data=b"x" * 1001), 413, "body_too_large")
        assert_error(client.post("/inference", json={"prompt": "x" * 600}), 413, "body_too_large")
        for path in ("/v1/generations", "/v1/pictures"):  # which may carry a picture to begin from
            assert_error(client.post(path, json={"image": "x" * 600}), 422, "invalid_field")
            assert_error(client.post(path, json={"image": "x" * 1001}), 413, "body_too_large")
        chunks = {"wsgi.input": io.BytesIO(b"x" * 1001), "wsgi.input_terminated": True}
        assert_error(client.post("/remove", environ_overrides=chunks), 413, "body_too_large")
    assert around.behind["bgrem"].seen == []


def test_a_body_without_a_length_arrives(around: Surroundings, anna: FlaskClient) -> None:
    body = json.dumps(unique()).encode() + b" " * 3_000_000
    chunks = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True}
    answer = anna.post("/remove", environ_overrides=chunks, content_type="application/json")
    assert answer.status_code == 200
    assert around.behind["bgrem"].seen[0].body == body


def test_bodies_that_do_not_fit_into_memory_are_refused(around: Surroundings) -> None:
    with gateway(around.settings(keys="off", max_buffered_bytes=5000)) as app:
        client = app.test_client()
        # Given a body over the budget, one without a length, and one whose answer is over it
        assert_error(client.post("/remove", data=b"x" * 5001), 503, "queue_full")
        chunks = {"wsgi.input": io.BytesIO(b"x" * 5001), "wsgi.input_terminated": True}
        assert_error(client.post("/remove", environ_overrides=chunks), 503, "queue_full")
        around.behind["bgrem"].answer = lambda seen: json_http({"a": "x" * 4000})
        assert_error(client.post("/remove", data=b"x" * 2000), 503, "queue_full")
        # Then nothing of the budget is lost by it
        around.behind["bgrem"].answer = lambda seen: json_http({})
        for _ in range(5):
            client.post("/remove", data=b"x" * 4000).close()
        answer = client.post("/remove", data=b"x" * 4000)
        assert answer.status_code == 200


def test_a_picture_to_begin_from_is_counted_while_it_is_handed_on(around: Surroundings) -> None:
    with gateway(around.settings(keys="off", max_buffered_bytes=5000)) as app:
        client = app.test_client()
        body = {"model_id": "enlight/pocket", "prompt": "a chair", "image": "x" * 4000}
        for path in ("/v1/generations", "/v1/pictures"):
            # Given a picture that fits by itself, and one that does not
            around.behind["dreambooth"].answer = lambda seen: error_http(415, "unsupported_image")
            for _ in range(3):
                with client.post(path, json=body) as answer:
                    assert answer.status_code == 415  # and gives its memory back
            assert_error(client.post(path, json=body | {"image": "x" * 5001}), 503, "queue_full")


def test_memory_is_in_use_until_the_answer_is_sent(around: Surroundings) -> None:
    with gateway(around.settings(keys="off", max_buffered_bytes=5000)) as app:
        client = app.test_client()
        # Given an answer that its client has not read to the end
        under_way = client.post("/remove", data=b"x" * 3000)
        assert_error(client.post("/remove", data=b"y" * 3000), 503, "queue_full")
        # When it has
        under_way.close()
        # Then there is room again
        assert client.post("/remove", data=b"y" * 3000).status_code == 200


def test_memory_is_in_use_until_a_large_answer_is_kept(around: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
    large = json_http({"a": "x" * SMALL_BYTES})
    around.behind["bgrem"].answer = lambda seen: large
    meanwhile = []
    with gateway(around.settings(keys="off", max_buffered_bytes=len(large) + 5000)) as app:

        def put(cache: ResponseCache, key: str, response: CachedResponse) -> bool:
            # When the answer is being written to the cache, and another request comes
            meanwhile.append(app.test_client().post("/remove", data=b"y" * 4000).status_code)
            return True

        monkeypatch.setattr(ResponseCache, "put", put)
        app.test_client().post("/remove", data=b"x" * 4000).close()
        # Then there is no room for it, and afterwards there is
        assert meanwhile == [503]
        assert app.test_client().post("/remove", data=b"y" * 4000).status_code == 200


def test_no_more_requests_are_under_way_than_allowed(around: Surroundings) -> None:
    # Given a gateway for two requests at once, and a service that waits
    release = threading.Event()
    around.behind["bgrem"].answer = lambda seen: json_http({"waited": release.wait(20)})
    with gateway(around.settings(keys="off", max_requests=2)) as app, ThreadPoolExecutor(2) as pool:
        bodies = [unique() for _ in range(2)]
        waiting = [pool.submit(app.test_client().post, "/remove", json=body) for body in bodies]
        assert wait_until(lambda: len(around.behind["bgrem"].seen) == 2)
        # When a third comes
        assert_error(app.test_client().post("/remove", json=unique()), 503, "queue_full")
        assert app.test_client().get("/live").status_code == 200
        # Then there is room again when one ends
        release.set()
        assert [each.result().status_code for each in waiting] == [200, 200]
        assert app.test_client().post("/remove", json=unique()).status_code == 200


# Computed once


def test_the_same_request_is_computed_once(around: Surroundings, anna: FlaskClient) -> None:
    body = unique()
    first = anna.post("/remove", json=body)
    first.close()  # kept once it is sent
    second = anna.post("/remove", json=body)
    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("miss", "hit")
    assert first.data == second.data
    assert len(around.behind["bgrem"].seen) == 1


def test_a_large_answer_is_kept_too(around: Surroundings, anna: FlaskClient) -> None:
    around.behind["bgrem"].answer = lambda seen: json_http({"output_image": "x" * 2_000_000})
    body = unique()
    anna.post("/remove", json=body).close()
    answer = anna.post("/remove", json=body)
    assert answer.headers["X-Cache"] == "hit"
    assert answer.json == {"output_image": "x" * 2_000_000}


@pytest.mark.parametrize("difference", ["tenant", "route", "query", "type", "accept", "body"])
def test_another_request_is_computed(
    around: Surroundings, anna: FlaskClient, berta: FlaskClient, difference: str
) -> None:
    body = json.dumps(unique())
    given: dict[str, Any] = {"data": body, "content_type": "application/json"}
    anna.post("/remove", **given).close()
    client, path = berta if difference == "tenant" else anna, "/remove"
    match difference:
        case "route":
            path = "/remove-opacity"
        case "query":
            path = "/remove?model=u2netp"
        case "type":
            given["content_type"] = "multipart/form-data; boundary=x"
        case "accept":
            given["headers"] = {"Accept": "image/webp"}
        case "body":
            given["data"] = body + " "
    assert client.post(path, **given).headers["X-Cache"] == "miss"
    assert len(around.behind["bgrem"].seen) == 2


def test_another_version_of_the_service_computes_again(around: Surroundings, app: OpenAPI, anna: FlaskClient) -> None:
    body = unique()
    anna.post("/remove", json=body).close()
    assert anna.post("/remove", json=body).headers["X-Cache"] == "hit"
    around.behind["bgrem"].version = "2"
    assert wait_until(lambda: anna.post("/remove", json=body).headers["X-Cache"] == "miss", 5)


def test_errors_are_not_kept(around: Surroundings, anna: FlaskClient) -> None:
    body = unique()
    around.behind["bgrem"].answer = lambda seen: error_http(422, "invalid_field")
    anna.post("/remove", json=body).close()
    around.behind["bgrem"].answer = lambda seen: json_http({"well": 1})
    answer = anna.post("/remove", json=body)
    assert (answer.status_code, answer.headers["X-Cache"]) == (200, "miss")


def test_equal_requests_at_once_are_computed_once(around: Surroundings) -> None:
    # Given a service that waits, and six equal requests under way, as many as may be
    release = threading.Event()
    around.behind["bgrem"].answer = lambda seen: json_http({"waited": seen.path == "/remove" and release.wait(20)})
    body = unique()
    with gateway(around.settings(keys="off", max_requests=6)) as app, ThreadPoolExecutor(6) as pool:

        def ask() -> TestResponse:
            while (answer := app.test_client().post("/remove", json=body)).status_code == 503:
                pass  # the look below had the last place
            return answer

        waiting = [pool.submit(ask) for _ in range(6)]
        assert wait_until(lambda: app.test_client().post("/remove-opacity", data=b"").status_code == 503)
        release.set()
        answers = [each.result() for each in waiting]
    # Then it was asked once, and all have its answer
    assert {answer.data for answer in answers} == {b'{"waited": true}'}
    assert [seen.path for seen in around.behind["bgrem"].seen].count("/remove") == 1
    assert sorted(answer.headers["X-Cache"] for answer in answers) == ["hit"] * 5 + ["miss"]


def test_without_a_cache_server_everything_is_computed(around: Surroundings) -> None:
    with gateway(around.settings(keys="off", cache_urls=["redis://127.0.0.1:9/0"])) as app:
        body = unique()
        for _ in range(2):
            answer = app.test_client().post("/remove", json=body)
            assert (answer.status_code, answer.headers["X-Cache"]) == (200, "miss")
            answer.close()


# Models


@pytest.fixture(scope="module")
def bucket_id(app: OpenAPI, settings: Settings) -> str:
    with opened(settings) as stores:
        return stores.names.reserve("anna", "Alex-Model")


def generation(seen: Seen) -> bytes:
    body = json.loads(seen.body)
    run = {"X-Run-Seconds": "1.5", "X-Model-Version": "v1"}
    return json_http({"images": ["aGk="], "model_id": body["model_id"], "seed": 3}, headers=run)


@pytest.mark.parametrize("path", ["/inference", "/v1/generations"])
def test_a_tenant_s_name_is_the_bucket_s_id_behind(
    around: Surroundings, anna: FlaskClient, bucket_id: str, path: str
) -> None:
    around.behind["dreambooth"].answer = generation
    answer = anna.post(path, json={"model_id": "Alex-Model", "prompt": "a sks chair"})
    assert answer.status_code == 200, answer.text
    assert answer.json == {"images": ["aGk="], "model_id": "Alex-Model", "seed": 3}
    (seen,) = around.behind["dreambooth"].seen
    assert json.loads(seen.body) == {"model_id": bucket_id, "prompt": "a sks chair"}  # defaults stay the service's
    assert seen.headers["X-Model-Id"] == bucket_id
    assert bucket_id not in answer.text + str(answer.headers)


# Pictures with a seed


@pytest.fixture
def served(around: Surroundings, settings: Settings, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """Publishes a version of anna's model ``Seeded``, which the service then makes pictures of; gives its name."""
    with opened(settings) as stores:
        try:
            bucket_id = stores.names.bucket_id("anna", "Seeded")
        except NotFound:
            bucket_id = stores.names.reserve("anna", "Seeded")

        def publish_another() -> str:
            folder = write_lora(tmp_path / str(next(_numbers)), seed=next(_numbers))
            version = publish(stores.models, bucket_id, folder, "lora").version
            around.behind["dreambooth"].answer = pictures_of(version)
            return version

        yield publish_another


def pictures_of(version: str) -> Callable[[Seen], bytes]:
    """Other pictures each time, so that one that comes again was kept."""

    def answer(seen: Seen) -> bytes:
        body = {"images": [str(next(_numbers))], "model_id": json.loads(seen.body)["model_id"]}
        return json_http(body, headers={"X-Model-Version": version, "X-Run-Seconds": "1.5", "X-Seed": "7"})

    return answer


def seeded(**changes: Any) -> dict[str, Any]:
    return {"model_id": "Seeded", "prompt": "a sks chair", "seed": 7} | changes


def test_pictures_with_a_seed_are_computed_once(anna: FlaskClient, served: Callable[[], str]) -> None:
    served()
    body = seeded(seed=next(_numbers))
    first, second = (anna.post("/v1/generations", json=body) for _ in range(2))
    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("miss", "hit")
    assert first.json == second.json
    assert first.json is not None
    assert first.json["model_id"] == "Seeded"
    # Whose they are is as true as before, how long they took is not
    assert second.headers["X-Model-Version"] == first.headers["X-Model-Version"]
    assert "X-Run-Seconds" in first.headers
    assert "X-Run-Seconds" not in second.headers


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 8},
        {"prompt": "a sks chair "},
        {"num_images": 2},
        {"format": "jpeg"},
        {"image": "AAAA"},
        {"image": "AAAA", "mask": "AAAA"},
        {"image": "AAAA", "mask": "AAAB"},
        {"image": "AAAA", "strength": 0.5},
        {"image": "AAAA", "mask": "AAAB", "keep_unmasked": False},
    ],
)
def test_other_pictures_with_a_seed_are_computed(
    anna: FlaskClient, served: Callable[[], str], change: dict[str, Any]
) -> None:
    served()
    assert anna.post("/v1/generations", json=seeded()).headers["X-Cache"] == "miss"
    assert anna.post("/v1/generations", json=seeded(**change)).headers["X-Cache"] == "miss"


def test_pictures_without_a_seed_are_computed_each_time(anna: FlaskClient, served: Callable[[], str]) -> None:
    served()
    body = {name: value for name, value in seeded().items() if name != "seed"}
    for path in ("/v1/generations", "/inference"):
        first, second = (anna.post(path, json=body) for _ in range(2))
        assert first.json != second.json
        assert "X-Cache" not in second.headers


def test_a_model_s_new_version_has_pictures_of_its_own(anna: FlaskClient, served: Callable[[], str]) -> None:
    versions, pictures = [], []
    for _ in range(2):
        versions.append(served())
        answers = [anna.post("/v1/generations", json=seeded()) for _ in range(2)]
        assert [answer.headers["X-Cache"] for answer in answers] == ["miss", "hit"]
        assert answers[1].headers["X-Model-Version"] == versions[-1]
        pictures.append(answers[1].json)
    assert pictures[0] != pictures[1]


def test_pictures_of_a_version_that_is_not_the_current_one_are_not_kept(
    around: Surroundings, anna: FlaskClient, served: Callable[[], str]
) -> None:
    # Given a service that has not heard of a model's new version
    before, _ = served(), served()
    around.behind["dreambooth"].answer = pictures_of(before)
    # Then what it makes meanwhile is not taken for pictures of the new one
    assert [anna.post("/v1/generations", json=seeded()).headers["X-Cache"] for _ in range(2)] == ["miss", "miss"]


def test_pictures_of_a_base_model_are_kept_and_a_tenant_s_own(
    around: Surroundings, anna: FlaskClient, berta: FlaskClient
) -> None:
    around.behind["dreambooth"].answer = pictures_of("enlight/pocket")
    body = seeded(model_id="enlight/pocket")
    answers = [client.post("/v1/generations", json=body) for client in (anna, anna, berta)]
    assert [answer.headers["X-Cache"] for answer in answers] == ["miss", "hit", "miss"]
    assert answers[0].json == answers[1].json


def test_a_model_whose_version_cannot_be_told_is_asked_for_each_time(
    around: Surroundings, anna: FlaskClient, bucket_id: str
) -> None:
    around.behind["dreambooth"].answer = generation
    body = seeded(model_id="Alex-Model")
    assert [anna.post("/v1/generations", json=body).headers["X-Cache"] for _ in range(2)] == ["miss", "miss"]


def test_an_error_names_the_tenant_s_name_as_well(around: Surroundings, anna: FlaskClient, bucket_id: str) -> None:
    around.behind["dreambooth"].answer = lambda seen: json_http(
        {"message": f"There is no model {bucket_id}.", "error": {"code": "not_found"}}, status=404
    )
    answer = anna.post("/inference", json={"model_id": "Alex-Model", "prompt": "a"})
    assert answer.status_code == 404
    assert answer.json is not None
    assert answer.json["message"] == "There is no model Alex-Model."


def test_another_tenant_s_model_is_not_there(around: Surroundings, berta: FlaskClient, bucket_id: str) -> None:
    for model_id in ("Alex-Model", bucket_id, "nobody", "..", ""):
        answer = berta.post("/v1/generations", json={"model_id": model_id, "prompt": "a"})
        assert answer.status_code in (404, 422), model_id
    assert_error(berta.post("/inference", json={"model_id": bucket_id, "prompt": "a"}), 404, "not_found")
    assert around.behind["dreambooth"].seen == []


@pytest.mark.parametrize("name", ["enlight/pocket", "../" + "x" * 30, "a/ü\n\0"])
def test_a_base_model_s_name_passes_through(around: Surroundings, anna: FlaskClient, name: str) -> None:
    around.behind["dreambooth"].answer = generation
    answer = anna.post("/v1/generations", json={"model_id": name, "prompt": "a"})
    assert answer.status_code == 200
    (seen,) = around.behind["dreambooth"].seen
    assert json.loads(seen.body)["model_id"] == name
    assert "X-Model-Id" not in seen.headers


def test_a_wrong_field_is_named_here(around: Surroundings, anna: FlaskClient) -> None:
    for body, field in (
        ({"model_id": "Alex-Model"}, "prompt"),
        ({"model_id": "Alex-Model", "prompt": "a", "num_image": 0}, "num_image"),
        ({"model_id": "a/b", "prompt": "a"}, "model_id"),
    ):
        assert_error(anna.post("/inference", json=body), 422, "invalid_field", field)
    assert around.behind["dreambooth"].seen == []


def test_photos_and_base_models_are_asked_of_dreambooth(around: Surroundings, anna: FlaskClient) -> None:
    checked = anna.post("/v1/photos/check", json={"photos": ["aGk="]})
    listed = anna.get("/v1/base-models")
    assert (checked.status_code, listed.status_code) == (200, 200)
    assert [seen.path for seen in around.behind["dreambooth"].seen] == ["/v1/photos/check", "/v1/base-models"]
    assert [seen.method for seen in around.behind["dreambooth"].seen] == ["POST", "GET"]
    assert anna.head("/v1/base-models").status_code == 200
    assert "X-Cache" not in checked.headers
    assert "X-Cache" not in listed.headers


# What is counted


def test_each_request_leaves_a_record(around: Surroundings, app: OpenAPI, settings: Settings, bucket_id: str) -> None:
    # Given a few requests of a tenant
    client = client_of(app, make_key(settings, "carla"))
    around.behind["dreambooth"].answer = generation
    with opened(settings) as stores:
        stores.names.reserve("carla", "Her-Model")
        client.post("/inference", json={"model_id": "Her-Model", "prompt": "a"}).close()
        client.post("/remove", data=b"x" * 100, content_type="application/json")
        client.get("/v1/models?limit=0")
        client.get("/nowhere")
        app.test_client().get("/live")
        # Then each has its record, soon
        usage = stores.database["usage"]
        assert wait_until(lambda: usage.count_documents({"tenant": "carla"}) == 4)
        rows = {row["route"]: row for row in usage.find({"tenant": "carla"})}
        # And the model was used
        assert wait_until(lambda: stores.names.get("carla", "Her-Model").last_used_at is not None)
    assert set(rows) == {"/inference", "/remove", "/v1/models", ""}
    inference = rows["/inference"]
    assert (inference["model"], inference["gpu_seconds"], inference["status"]) == ("Her-Model", 1.5, 200)
    assert (rows["/remove"]["received_bytes"], rows["/remove"]["gpu_seconds"]) == (100, 0)
    assert rows["/remove"]["sent_bytes"] > 0
    assert rows["/v1/models"]["status"] == 422
    assert inference["seconds"] > 0
    assert len({row["request_id"] for row in rows.values()}) == 4


def test_a_kept_answer_costs_no_gpu_time(around: Surroundings, app: OpenAPI, settings: Settings) -> None:
    client = client_of(app, make_key(settings, "dora"))
    around.behind["upsampler"].answer = lambda seen: json_http({"image": "x"}, headers={"X-Run-Seconds": "2"})
    body = unique()
    client.post("/upsampler", json=body).close()
    answer = client.post("/upsampler", json=body)
    assert answer.headers["X-Cache"] == "hit"
    assert "X-Run-Seconds" not in answer.headers
    with opened(settings) as stores:
        usage = stores.database["usage"]
        assert wait_until(lambda: usage.count_documents({"tenant": "dora"}) == 2)
        assert sorted(row["gpu_seconds"] for row in usage.find({"tenant": "dora"})) == [0, 2]


def test_a_tenant_has_a_number_of_requests(around: Surroundings) -> None:
    settings = around.settings(requests_per_minute=3)
    with gateway(settings) as app:
        anna, berta = (client_of(app, make_key(settings, tenant)) for tenant in ("anna", "berta"))
        assert [anna.get("/v1/keys").status_code for _ in range(3)] == [200] * 3
        answer = anna.get("/v1/keys")
        assert_error(answer, 429, "quota_exceeded")
        assert int(answer.headers["Retry-After"]) > 0
        assert berta.get("/v1/keys").status_code == 200
        assert app.test_client().get("/ready").status_code == 200


def test_a_tenant_without_gpu_seconds_waits(around: Surroundings) -> None:
    settings = around.settings(gpu_seconds_per_hour=3)
    around.behind["upsampler"].answer = lambda seen: json_http({"image": "x"}, headers={"X-Run-Seconds": "2"})
    with gateway(settings) as app:
        anna = client_of(app, make_key(settings, "anna"))
        # Given two enlargements of two seconds each: the second begins within the limit
        assert [anna.post("/upsampler", json=unique()).status_code for _ in range(2)] == [200, 200]
        # Then a third is refused, and what needs no GPU is not
        assert_error(anna.post("/upsampler", json=unique()), 429, "quota_exceeded")
        assert anna.post("/remove", json=unique()).status_code == 200


# State


def test_ready_tells_the_state_of_what_is_behind_but_no_address(around: Surroundings) -> None:
    changes = {"bgrem_urls": [around.behind["bgrem"].url, "http://127.0.0.1:9"], "cache_urls": []}
    with gateway(around.settings(keys="off", **changes)) as app:
        answer = app.test_client().get("/ready")
        assert answer.status_code == 200
        assert answer.json is not None
        told = answer.json["details"]["dependencies"]
        assert told["bgrem"] == {"ready": 1, "away": 1}
        assert told["database"] == told["queue"] == "ready"
        assert "127.0.0.1" not in answer.text


def test_the_gateway_starts_without_its_database_and_is_ready_when_it_comes(around: Surroundings) -> None:
    with mongo_server(around.folder / "late-mongo") as mongo:
        mongo.stop()
        app = create_app(around.settings(keys="off", mongo_url=mongo.url, mongo_timeout_s=0.3))
        client = app.test_client()
        try:
            assert client.get("/ready").status_code == 503
            assert_error(client.get("/v1/keys"), 503, "database_unavailable")
            mongo.start()
            assert wait_until(lambda: client.get("/ready").status_code == 200)
        finally:
            app.extensions["enlight"].stop()
        assert client.get("/ready").status_code == 503
