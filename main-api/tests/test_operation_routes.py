"""`/v1/stats` and `/v1/errors`: whose they are, what they hold, page by page; a whole gateway."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from answers import assert_error
from flask.testing import FlaskClient
from flask_openapi import OpenAPI
from gateways import Surroundings, client_of, gateway, make_key, opened, surroundings
from job_samples import new_job
from stand_in_service import error_http, http
from waiting import wait_until

from enlight.main_api.settings import Settings
from enlight.main_api.usage import records, traffic
from enlight.main_api.usage.error_log import ErrorLog
from enlight.main_api.usage.records import MAX_MESSAGE_CHARS, UsageRecord, UsageRecorder

SECRET = "hidden-in-the-body"


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("operation")) as servers:
        yield servers


@pytest.fixture(scope="module")
def settings(around: Surroundings) -> Settings:
    return around.settings()


@pytest.fixture(scope="module")
def app(settings: Settings) -> Iterator[OpenAPI]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traffic, "WRITE_EVERY_S", 0.1)
        patch.setattr(records, "WRITE_EVERY_S", 0.05)
        with gateway(settings) as running:
            yield running


@pytest.fixture(scope="module")
def admin(app: OpenAPI, settings: Settings) -> FlaskClient:
    return client_of(app, make_key(settings, "house", "admin"))


@pytest.fixture
def anna(app: OpenAPI, settings: Settings, request: pytest.FixtureRequest) -> FlaskClient:
    """Of a tenant of this test's own."""
    return client_of(app, make_key(settings, tenant_of(request)))


def tenant_of(request: pytest.FixtureRequest) -> str:
    return f"anna-{abs(hash(request.node.name)) % 10**8}"


@pytest.fixture
def tenant(request: pytest.FixtureRequest) -> str:
    return tenant_of(request)


def shown(client: FlaskClient, path: str) -> dict[str, Any]:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert isinstance(answer.json, dict)
    return answer.json


def route_of(client: FlaskClient, rule: str, query: str = "") -> dict[str, Any]:
    routes = {row["route"]: row for row in shown(client, f"/v1/stats{query}")["routes"]}
    found: dict[str, Any] = routes.get(rule, {})
    return found


def errors_of(client: FlaskClient, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shown(client, f"/v1/errors{query}")["errors"]
    return found


# Statistics


def test_cache_hits_and_misses_outlive_the_gateway(
    anna: FlaskClient, around: Surroundings, settings: Settings, tenant: str
) -> None:
    # Given a picture that is cut out once, and asked for twice more
    around.behind["bgrem"].answer = lambda seen: http(b"a picture", content_type="image/png")
    for told in ("miss", "hit", "hit"):
        answer = anna.post("/v1/cutout", data=b"photo", content_type="image/png")
        assert answer.headers["X-Cache"] == told
    assert wait_until(lambda: route_of(anna, "/v1/cutout").get("cache_hits") == 2)
    row = route_of(anna, "/v1/cutout")
    assert (row["requests"], row["errors"], row["cache_hits"], row["cache_misses"]) == (3, 0, 2, 1)
    assert 0 < row["p50_s"] <= row["p95_s"] < 30
    # Then another gateway knows it, and so do the usage records
    with gateway(settings) as other:
        assert route_of(client_of(other, make_key(settings, tenant)), "/v1/cutout")["cache_hits"] == 2
    with opened(settings) as stores:
        kept = stores.database["usage"].find({"tenant": tenant, "route": "/v1/cutout"})
        assert sorted((document["cache"], document["requests"]) for document in kept) == [("hit", 2), ("miss", 1)]


def test_the_series_has_the_requests_where_they_were(anna: FlaskClient) -> None:
    for _ in range(4):
        anna.get("/v1/trainings/none")
    assert wait_until(lambda: route_of(anna, "/v1/trainings/<training_id>").get("requests") == 4)
    stats = shown(anna, "/v1/stats?hours=1")
    assert stats["step_s"] == 60
    assert sum(span["errors"] for span in stats["series"]) == 4
    assert all(span["p50_s"] is None for span in stats["series"][:50])
    busy = [span for span in stats["series"] if span["requests"]]
    assert all(span["p50_s"] <= span["p95_s"] for span in busy)
    first, last = datetime.fromisoformat(stats["from"]), datetime.fromisoformat(stats["to"])
    assert timedelta(hours=1) <= last - first < timedelta(hours=1, seconds=60)


def test_trainings_are_counted_by_state(anna: FlaskClient, admin: FlaskClient, settings: Settings, tenant: str) -> None:
    with opened(settings) as stores:
        jobs = [stores.jobs.create(new_job(tenant=tenant))[0] for _ in range(4)]
        for job in jobs[:3]:
            stores.jobs.claim(job.id, "one:1")
        stores.jobs.succeed(jobs[0].id, 1, {})
        stores.jobs.fail(jobs[1].id, 1, {"code": "job_failed", "message": "", "details": {}})
        two_hours_ago = datetime.now(UTC) - timedelta(hours=2)
        stores.database["jobs"].update_one({"_id": jobs[1].id}, {"$set": {"finished_at": two_hours_ago}})
    counts = {"queued": 1, "running": 1, "succeeded": 1, "failed": 1, "cancelled": 0}
    assert shown(anna, "/v1/stats")["trainings"] == counts
    assert shown(anna, "/v1/stats?hours=1")["trainings"] == {**counts, "failed": 0}
    everybodys = shown(admin, "/v1/stats?all_tenants=true")["trainings"]
    assert all(everybodys[state] >= count for state, count in counts.items())


# Errors


def test_an_error_is_told_as_its_client_was_told(anna: FlaskClient, admin: FlaskClient, tenant: str) -> None:
    answer = anna.get("/v1/trainings/none", headers={"X-Request-ID": "my-request"})
    assert_error(answer, 404, "not_found")
    assert wait_until(lambda: bool(errors_of(anna)))
    (error,) = errors_of(anna)
    at = datetime.fromisoformat(error.pop("at"))
    assert timedelta(0) <= datetime.now(UTC) - at < timedelta(minutes=1)
    body = answer.json or {}
    assert error == {
        "request_id": "my-request",
        "method": "GET",
        "route": "/v1/trainings/<training_id>",
        "status": 404,
        "code": "not_found",
        "message": body["message"],
        "requests": 1,
        "tenant": None,
    }
    # An admin sees whose it is
    (theirs,) = errors_of(admin, f"?tenant={tenant}")
    assert theirs["tenant"] == tenant


def test_an_error_of_a_service_behind_is_one_too(anna: FlaskClient, around: Surroundings) -> None:
    around.behind["bgrem"].answer = lambda seen: error_http(415, "unsupported_image")
    assert anna.post("/v1/cutout", data=SECRET.encode(), content_type="image/png").status_code == 415
    assert wait_until(lambda: bool(errors_of(anna)))
    (error,) = errors_of(anna)
    assert (error["status"], error["code"], error["message"]) == (415, "unsupported_image", "No.")
    assert SECRET not in str(error)


def test_good_answers_are_no_errors_and_a_key_is_in_none(anna: FlaskClient, settings: Settings) -> None:
    assert anna.get("/v1/trainings").status_code == 200
    key = anna.environ_base["HTTP_AUTHORIZATION"].removeprefix("Bearer ")
    assert anna.get(f"/v1/trainings?state={key}").status_code == 422
    assert wait_until(lambda: bool(errors_of(anna)))
    (error,) = errors_of(anna)
    assert (error["route"], error["status"]) == ("/v1/trainings", 422)
    assert key not in str(error)


def test_equal_errors_that_came_together_are_one_row(settings: Settings, app: OpenAPI, tenant: str) -> None:
    logged(settings, tenant, *([{"code": "quota_exceeded", "status": 429}] * 7), {"code": "not_found"})
    client = client_of(app, make_key(settings, tenant))
    assert [(error["code"], error["requests"]) for error in errors_of(client)] == [
        ("not_found", 1),
        ("quota_exceeded", 7),
    ]


def test_pages_follow_each_other_without_gap_or_repetition(settings: Settings, app: OpenAPI, tenant: str) -> None:
    # Given more errors than a page has, several of them of the same moment
    logged(settings, tenant, *({"message": f"number {number}", "at": at(number // 3)} for number in range(20)))
    logged(settings, "another", {"message": "of another", "at": at(3)})
    client = client_of(app, make_key(settings, tenant))
    # When they are read page by page
    seen: list[str] = []
    before = ""
    while True:
        page = shown(client, f"/v1/errors?limit=4{before}")
        assert len(page["errors"]) <= 4
        seen += [error["message"] for error in page["errors"]]
        if page["next"] is None:
            break
        before = f"&before={page['next']}"
    # Then each is there once, the newest first
    assert sorted(seen) == sorted(f"number {number}" for number in range(20))
    moments = [int(message.removeprefix("number ")) // 3 for message in seen]
    assert moments == sorted(moments, reverse=True)


def at(number: int) -> datetime:
    return datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(milliseconds=number)


def logged(settings: Settings, tenant: str, *values: dict[str, Any]) -> None:
    """Writes errors down as a gateway does."""
    with opened(settings) as stores:
        recorder = UsageRecorder(stores.database, max_waiting=1000)
        ErrorLog(stores.database).make_indexes()
        given = {"status": 404, "code": "not_found", "message": "No.", "at": at(0)}
        for each in values:
            recorder.record(
                UsageRecord(
                    tenant=tenant, key_id="k", method="GET", route="/v1/models/<model_id>", seconds=0.1,
                    received_bytes=0, sent_bytes=0, **{**given, **each},
                )
            )  # fmt: skip
        recorder.write_waiting()


def test_a_long_message_is_cut(app: OpenAPI, settings: Settings, anna: FlaskClient, around: Surroundings) -> None:
    long = error_http(415, "unsupported_image").replace(b'"No."', b'"' + b"x" * 3000 + b'"')
    length = b"Content-Length: "
    head, _, rest = long.partition(length)
    body = rest.partition(b"\r\n\r\n")[2]
    _, _, more = rest.partition(b"\r\n")
    around.behind["bgrem"].answer = lambda seen: head + length + str(len(body)).encode() + b"\r\n" + more
    assert anna.post("/v1/cutout", data=b"photo", content_type="image/png").status_code == 415
    assert wait_until(lambda: bool(errors_of(anna)))
    assert errors_of(anna)[0]["message"] == "x" * MAX_MESSAGE_CHARS


def test_an_error_without_the_suite_s_body_has_no_code(settings: Settings, anna: FlaskClient, tenant: str) -> None:
    logged(settings, tenant, {"code": None, "message": None})
    (error,) = errors_of(anna)
    assert (error["code"], error["message"], error["requests"]) == (None, None, 1)


# Both


@pytest.mark.parametrize("path", ["/v1/stats", "/v1/errors"])
def test_others_are_for_admins(app: OpenAPI, anna: FlaskClient, admin: FlaskClient, tenant: str, path: str) -> None:
    for query in ("tenant=another", "tenant=nobody", "all_tenants=true", "all_tenants=true&tenant=another"):
        assert_error(anna.get(f"{path}?{query}"), 403, "forbidden")
    assert anna.get(f"{path}?tenant={tenant}").status_code == 200
    for query in ("tenant=another", "tenant=nobody", "all_tenants=true"):
        assert admin.get(f"{path}?{query}").status_code == 200
    assert_error(admin.get(f"{path}?tenant=another&all_tenants=true"), 422, "invalid_field", "tenant")
    assert_error(app.test_client().get(path), 401, "unauthorized")


def test_what_is_another_tenant_s_is_in_neither(anna: FlaskClient, admin: FlaskClient) -> None:
    assert admin.get("/v1/trainings/none-of-the-admin").status_code == 404
    assert wait_until(lambda: any("none-of-the-admin" in str(error) for error in errors_of(admin)))
    assert errors_of(anna) == []
    assert "none-of-the-admin" in str(errors_of(admin, "?all_tenants=true"))
    assert wait_until(lambda: bool(route_of(admin, "/v1/trainings/<training_id>", "?all_tenants=true")))
    assert not route_of(anna, "/v1/trainings/<training_id>")


@pytest.mark.parametrize(
    "query",
    [
        "stats?hours=0", "stats?hours=169", "stats?hours=x", "stats?hours=1.5", "stats?all_tenants=perhaps",
        "stats?tenant=UPPER", "stats?days=1", "errors?limit=0", "errors?limit=201", "errors?before=",
        "errors?before=1795771812345-0123456789abcdef0123456", "errors?before=1795771812345", "errors?before=x%00",
        "errors?before=1795771812345-0123456789abcdef01234567%0a", "errors?tenant=", "errors?hours=1",
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused(anna: FlaskClient, query: str) -> None:
    assert_error(anna.get(f"/v1/{query}"), 422, "invalid_field")


def test_the_edges_of_what_can_be_asked(anna: FlaskClient) -> None:
    assert shown(anna, "/v1/stats?hours=1")["step_s"] == 60
    assert len(shown(anna, "/v1/stats?hours=168")["series"]) in (168, 169)
    for moment in ("0" * 13, "9" * 13):
        assert isinstance(errors_of(anna, f"?before={moment}-{'f' * 24}"), list)
