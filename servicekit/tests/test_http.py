"""The skeleton of every service, in this process."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import pytest
from answers import assert_error
from example_service import SMALL_BYTES, create_app
from flask.testing import FlaskClient

from enlight.servicekit.http import Readiness, client_gone

DRAW = {"prompt": "a dog"}


@pytest.fixture
def client() -> FlaskClient:
    return create_app().test_client()


class TestCommonRoutes:
    def test_index_says_which_service_this_is(self, client: FlaskClient) -> None:
        assert client.get("/").json == {
            "message": "example is running.",
            "service": "example",
            "version": "1.2.3",
            "hostname": socket.gethostname(),
            "docs": "/docs",
        }

    @pytest.mark.parametrize(("state", "status"), [("starting", 503), ("ready", 200), ("busy", 200), ("defunct", 503)])
    def test_ready_shows_the_state_and_live_does_not_care(self, state: str, status: int) -> None:
        client = create_app(Readiness(state, {"restarts": 3})).test_client()
        response = client.get("/ready")
        assert (response.status_code, response.json) == (status, {"state": state, "details": {"restarts": 3}})
        assert client.get("/live").status_code == 200

    def test_metrics_count_by_rule(self, client: FlaskClient) -> None:
        client.get("/jobs/1")
        client.get("/jobs/2")
        client.get("/made-up-1")
        client.open("/made-up-2", method="BREW")
        text = client.get("/metrics").text
        assert 'enlight_http_requests_total{method="GET",rule="/jobs/<job_id>",status="200"} 2.0' in text
        assert 'enlight_http_requests_total{method="GET",rule="unmatched",status="404"} 1.0' in text
        assert 'enlight_http_requests_total{method="other",rule="unmatched",status="404"} 1.0' in text
        assert "made-up" not in text
        assert "process_resident_memory_bytes" in text

    def test_two_apps_do_not_share_their_metrics(self, client: FlaskClient) -> None:
        client.get("/jobs/1")
        assert "/jobs/" not in create_app().test_client().get("/metrics").text


class TestRequestId:
    def test_a_good_one_is_kept(self, client: FlaskClient) -> None:
        assert client.get("/live", headers={"X-Request-ID": "a.B_c-9"}).headers["X-Request-ID"] == "a.B_c-9"

    @pytest.mark.parametrize("given", ["", "a b", "a\u00e9", "x" * 65, "<script>", "a;b"])
    def test_any_other_is_replaced(self, client: FlaskClient, given: str) -> None:
        answered = client.get("/live", headers={"X-Request-ID": given}).headers["X-Request-ID"]
        assert answered != given
        assert len(answered) == 32

    def test_each_request_has_its_own(self, client: FlaskClient) -> None:
        ids = {client.get("/live").headers["X-Request-ID"] for _ in range(5)}
        assert len(ids) == 5


class TestErrors:
    @pytest.mark.parametrize(
        ("method", "path", "status", "code"),
        [
            ("GET", "/nowhere", 404, "not_found"),
            ("GET", "/docs//page.css", 404, "not_found"),
            ("GET", "/live/", 404, "not_found"),
            ("GET", "/static/x", 404, "not_found"),
            ("GET", "/draw", 405, "method_not_allowed"),
            ("DELETE", "/draw", 405, "method_not_allowed"),
            ("TRACE", "/draw", 405, "method_not_allowed"),
            ("BREW", "/draw", 405, "method_not_allowed"),
            ("GET", "/fails/service-error", 503, "queue_full"),
            ("GET", "/fails/not-found", 404, "not_found"),
            ("GET", "/fails/unknown", 500, "internal_error"),
            ("GET", "/fails/nan", 500, "internal_error"),
        ],
    )
    def test_there_is_one_body(self, client: FlaskClient, method: str, path: str, status: int, code: str) -> None:
        assert_error(client.open(path, method=method), status, code)

    def test_head_has_the_status_and_no_body(self, client: FlaskClient) -> None:
        response = client.head("/nowhere")
        assert (response.status_code, response.data) == (404, b"")
        assert client.head("/live").status_code == 200

    def test_options_and_405_name_the_methods(self, client: FlaskClient) -> None:
        assert "POST" in client.options("/draw").headers["Allow"]
        assert client.options("/draw").status_code == 200
        assert "POST" in client.get("/draw").headers["Allow"]

    def test_retry_after(self, client: FlaskClient) -> None:
        assert client.get("/fails/service-error").headers["Retry-After"] == "7"

    def test_details_pass(self, client: FlaskClient) -> None:
        body = assert_error(client.get("/fails/not-found"), 404, "not_found")
        assert body["error"]["details"] == {"model_id": "dog"}
        assert_error(client.get("/fails/field"), 422, "invalid_field", "size")

    def test_an_unforeseen_error_is_logged_once_with_its_trace_and_told_without(
        self, client: FlaskClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        response = client.get("/fails/unknown")
        assert "secret" not in response.text
        assert [record.exc_info is not None for record in caplog.records if record.levelno >= logging.ERROR] == [True]
        assert "ZeroDivisionError: secret" in caplog.text

    def test_an_expected_error_has_no_trace_in_the_log(
        self, client: FlaskClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        client.get("/fails/service-error")
        client.post("/draw", json={})
        assert all(record.levelno < logging.ERROR and not record.exc_info for record in caplog.records)

    def test_a_contract_may_ask_for_more(self) -> None:
        client = create_app(error_fields={"status": "false"}).test_client()
        assert assert_error(client.get("/nowhere"), 404, "not_found")["status"] == "false"


class TestJsonBodies:
    def test_a_good_one(self, client: FlaskClient) -> None:
        response = client.post("/draw", json={**DRAW, "size": 64, "LR": 1e-4})
        assert (response.status_code, response.json) == (200, {"size": 64, "LR": 1e-4})
        assert client.post("/draw", json={**DRAW, "size": None, "LR": 1}).status_code == 200
        body = json.dumps(DRAW)
        assert client.post("/draw", data=body, content_type="application/json; charset=utf-8").status_code == 200

    @pytest.mark.parametrize(
        ("change", "field", "message"),
        [
            ({"size": True}, "size", "must be a valid integer"),
            ({"size": "64"}, "size", "must be a valid integer"),
            ({"size": 64.0}, "size", "must be a valid integer"),
            ({"size": 63}, "size", "must be a multiple of 8"),
            ({"size": 0}, "size", "must be greater than or equal to 8"),
            ({"size": 2048}, "size", "must be less than or equal to 1024"),
            ({"size": 2**64}, "size", "must be"),
            ({"size": [64]}, "size", "must be a valid integer"),
            ({"LR": "0.1"}, "LR", "must be a valid number"),
            ({"LR": True}, "LR", "must be a valid number"),
            ({"LR": None}, "LR", "must be a valid number"),
            ({"LR": 0}, "LR", "must be greater than 0"),
            ({"LR": 10**90}, "LR", "must be"),
            ({"prompt": 1}, "prompt", "must be a valid string"),
            ({"prompt": None}, "prompt", "must be a valid string"),
            ({"prompt": "x" * 101}, "prompt", "must have at most 100 characters"),
            ({"scheduler": "cosine"}, "scheduler", "must be 'constant' or 'linear'"),
            ({"face_enhance": "true"}, "face_enhance", "must be a valid boolean"),
            ({"face_enhance": 1}, "face_enhance", "must be a valid boolean"),
            ({"IMAGE_LIST": "abc"}, "IMAGE_LIST", "must be a valid list"),
            ({"IMAGE_LIST": {"0": "abc"}}, "IMAGE_LIST", "must be a valid list"),
            ({"IMAGE_LIST": ["a", 1]}, "IMAGE_LIST[1]", "must be a valid string"),
            ({"IMAGE_LIST": ["a"] * 51}, "IMAGE_LIST", "must have at most 50 items"),
            ({"LR_": 1}, "LR_", "is not a known field"),
            ({"Prompt": "a"}, "Prompt", "is not a known field"),
        ],
    )
    def test_a_wrong_field_is_named(
        self, client: FlaskClient, change: dict[str, Any], field: str, message: str
    ) -> None:
        body = assert_error(client.post("/draw", json={**DRAW, **change}), 422, "invalid_field", field)
        assert body["error"]["details"]["fields"][0]["message"].startswith(message)

    def test_every_wrong_field_is_named(self, client: FlaskClient) -> None:
        response = client.post("/draw", json={"LR": -1, "size": "a", "x": 1})
        body = assert_error(response, 422, "invalid_field", "prompt", "LR", "size", "x")
        assert body["message"] == "prompt: is required (and 3 more)"

    def test_many_wrong_fields_make_a_short_answer(self, client: FlaskClient) -> None:
        response = client.post("/draw", json={**DRAW, **{f"f{number}": 1 for number in range(100)}})
        assert len(assert_error(response, 422, "invalid_field")["error"]["details"]["fields"]) == 20
        assert len(client.post("/draw", json={**DRAW, "f" * 1500: 1}).data) < 1000

    @pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"text"', b'"{\\"prompt\\": \\"a dog\\"}"', b"[[]]"])
    def test_anything_but_an_object_is_refused(self, client: FlaskClient, body: bytes) -> None:
        assert_error(client.post("/draw", data=body, content_type="application/json"), 422, "invalid_field", "body")

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"hello",
            b'{"prompt": "a", "LR": NaN}',
            b'{"prompt": "a", "LR": 1e999}',
            b'{"prompt": "a", "prompt": "b"}',
            b'{"prompt": "\\ud800"}',
            b'{"prompt": "\xff"}',
            b"[" * 1500,
        ],
    )
    def test_what_is_not_json_is_refused(self, client: FlaskClient, body: bytes) -> None:
        assert_error(client.post("/draw", data=body, content_type="application/json"), 400, "invalid_request")

    @pytest.mark.parametrize(
        "content_type", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp", "text/json"]
    )
    def test_another_content_type_is_refused(self, client: FlaskClient, content_type: str | None) -> None:
        response = client.post("/draw", data=json.dumps(DRAW), content_type=content_type)
        assert "application/json" in assert_error(response, 415, "unsupported_media_type")["message"]

    @pytest.mark.parametrize("encoding", ["gzip", "br", "x", "gzip, identity"])
    def test_an_encoded_body_is_refused(self, client: FlaskClient, encoding: str) -> None:
        response = client.post("/draw", json=DRAW, headers={"Content-Encoding": encoding})
        assert_error(response, 415, "unsupported_media_type")
        assert client.post("/draw", json=DRAW, headers={"Content-Encoding": "Identity"}).status_code == 200

    def test_path_and_query_are_checked(self, client: FlaskClient) -> None:
        assert client.get("/jobs/7?limit=5").json == {"job": "7", "limit": 5}
        assert_error(client.get("/jobs/7?limit=500"), 422, "invalid_field", "limit")

    @pytest.mark.parametrize("query", ["limit=1&limit=2", "limit=1&limit=1", "limit=1&limit=x"])
    def test_a_parameter_that_is_given_twice_is_named(self, client: FlaskClient, query: str) -> None:
        assert_error(client.get(f"/jobs/7?{query}"), 422, "invalid_field", "limit")


class TestLimits:
    def test_a_body_over_the_limit_is_refused_before_it_is_read(self, client: FlaskClient) -> None:
        response = client.post("/draw", data=b"x" * (SMALL_BYTES + 1), content_type="application/json")
        body = assert_error(response, 413, "body_too_large")
        assert "2000 bytes" in body["message"]
        assert body["error"]["details"] == {"limit_bytes": SMALL_BYTES}

    def test_a_route_may_have_another_limit(self, client: FlaskClient) -> None:
        body = {**DRAW, "IMAGE_LIST": ["x" * 5000]}
        assert client.post("/large", json=body).json == {"characters": 5000}
        assert_error(client.post("/draw", json=body), 413, "body_too_large")

    @pytest.mark.parametrize(("size", "status"), [(SMALL_BYTES, 200), (SMALL_BYTES + 1, 413), (10**6, 413)])
    def test_a_chunked_body_has_the_same_limit(self, client: FlaskClient, size: int, status: int) -> None:
        response = client.post(
            "/raw",
            data=b"x" * size,
            headers={"Transfer-Encoding": "chunked"},
            environ_overrides={"wsgi.input_terminated": True},
        )
        assert response.status_code == status
        if status == 413:
            assert_error(response, 413, "body_too_large")

    def test_a_body_that_ends_early_is_not_taken_for_whole(self, client: FlaskClient) -> None:
        response = client.post("/raw", data=b"x" * 10, environ_overrides={"CONTENT_LENGTH": "20"})
        assert_error(response, 499, "client_gone")


class TestHeaders:
    @pytest.mark.parametrize("path", ["/", "/nowhere", "/fails/unknown", "/openapi.json", "/docs", "/metrics"])
    def test_every_answer_is_closed_to_browsers_tricks(self, client: FlaskClient, path: str) -> None:
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy


class TestLog:
    @pytest.fixture(autouse=True)
    def every_level(self, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
        with caplog.at_level(logging.DEBUG):
            yield

    def test_a_request_is_one_line(self, client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
        response = client.post("/draw", json={**DRAW, "size": 1}, headers={"X-Request-ID": "r1"})
        (record,) = [record for record in caplog.records if record.name == "enlight.servicekit.http"]
        seen = vars(record)
        assert {key: seen[key] for key in ("method", "rule", "status", "error_code", "request_id", "bytes")} == {
            "method": "POST",
            "rule": "/draw",
            "status": 422,
            "error_code": "invalid_field",
            "request_id": "r1",
            "bytes": len(response.data),
        }
        assert 0 <= seen["duration_s"] < 5
        assert record.levelno == logging.INFO

    @pytest.mark.parametrize("path", ["/live", "/ready", "/metrics"])
    def test_what_machines_ask_all_the_time_is_quiet(
        self, client: FlaskClient, caplog: pytest.LogCaptureFixture, path: str
    ) -> None:
        client.get(path)
        assert [record.levelno for record in caplog.records] == [logging.DEBUG]

    def test_a_streamed_answer_is_logged_at_its_end(
        self, client: FlaskClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        response = client.get("/stream")
        assert not caplog.records
        assert response.data == b"xxx"
        response.close()
        assert [vars(record)["rule"] for record in caplog.records] == ["/stream"]


class TestDocumentation:
    def test_the_document_describes_the_routes(self, client: FlaskClient) -> None:
        document = json.loads(client.get("/openapi.json").text)
        assert document["openapi"].startswith("3.1")
        assert set(document["paths"]) >= {"/", "/live", "/ready", "/metrics", "/draw", "/jobs/{job_id}"}
        draw = document["paths"]["/draw"]["post"]
        assert list(draw["responses"]) == ["200", "400", "413", "415", "422"]
        assert list(document["paths"]["/jobs/{job_id}"]["get"]["responses"]) == ["414", "422"]
        assert list(document["paths"]["/live"]["get"]["responses"]) == ["200"]
        schema = document["components"]["schemas"]["Body"]
        assert schema["additionalProperties"] is False
        assert schema["properties"]["LR"]["exclusiveMinimum"] == 0

    def test_every_reference_leads_somewhere(self, client: FlaskClient) -> None:
        text = client.get("/openapi.json").text
        document = json.loads(text)
        for kind in ("schemas", "responses", "headers"):
            names = {part.split('"')[0] for part in text.split(f"#/components/{kind}/")[1:]}
            assert names
            assert names <= set(document["components"][kind])

    def test_the_page_is_made_of_own_files_only(self, client: FlaskClient) -> None:
        page = client.get("/docs")
        assert page.content_type == "text/html; charset=utf-8"
        assert "http://" not in page.text
        assert "https://" not in page.text
        for path, content_type in [("/docs/page.css", "text/css"), ("/docs/page.js", "text/javascript")]:
            file = client.get(path)
            assert file.status_code == 200
            assert file.mimetype == content_type
            assert path.removeprefix("/") in page.text
            assert "http" not in file.text.replace("`HTTP", "")
        assert "script-src 'self'" in page.headers["Content-Security-Policy"]
        assert len(page.headers.getlist("Content-Security-Policy")) == 1, "its own instead of the one of all"
        assert "style=" not in page.text

    def test_text_never_becomes_markup(self, client: FlaskClient) -> None:
        script = client.get("/docs/page.js").text
        assert not any(
            sink in script for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(")
        )


class TestClientGone:
    def test_without_gunicorn_nobody_is_gone(self) -> None:
        assert not client_gone({})
        assert not client_gone({"gunicorn.socket": None})
        assert not client_gone({"gunicorn.socket": object()})

    def test_a_client_that_waits_is_there(self) -> None:
        server, client = socket.socketpair()
        with server, client:
            assert not client_gone({"gunicorn.socket": server})
            client.send(b"pipelined")
            assert not client_gone({"gunicorn.socket": server})

    @pytest.mark.parametrize("unread", [b"", b"unread"])
    def test_a_client_that_closed_is_gone_even_behind_unread_data(self, unread: bytes) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with listener, server:
            client.sendall(unread)
            client.close()
            deadline_s = time.monotonic() + 2.0
            while not client_gone({"gunicorn.socket": server}) and time.monotonic() < deadline_s:
                time.sleep(0.01)
            assert client_gone({"gunicorn.socket": server})

    def test_a_closed_socket_is_gone(self) -> None:
        server, client = socket.socketpair()
        client.close()
        server.close()
        assert client_gone({"gunicorn.socket": server})

    def test_through_tls(self) -> None:
        ours, theirs = socket.socketpair()
        wrapped = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_socket(
            ours, server_side=True, do_handshake_on_connect=False
        )
        with wrapped:
            assert not client_gone({"gunicorn.socket": wrapped})
            theirs.close()
            assert client_gone({"gunicorn.socket": wrapped})
