"""What a tenant reads of its usage: its own, added up, over a bounded time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from answers import assert_error
from embedded_servers import mongo_server
from gateways import Surroundings, client_of, make_key, surroundings
from gateways import gateway as whole_gateway
from training_gateway import SCOPE_HEADER, Connections, Gateway, gateway
from waiting import wait_until

from enlight.main_api.usage.records import UsageRecord, UsageRecorder
from enlight.main_api.usage.routes import DAYS, MAX_DAYS
from enlight.main_api.usage.training_time import TrainingTime

pytest_plugins = ["training_fixtures"]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def used(gate: Gateway, *records: UsageRecord) -> None:
    """Writes these records."""
    recorder = UsageRecorder(gate.database, max_waiting=1000)
    recorder.make_indexes()
    for record in records:
        recorder.record(record)
    recorder.write_waiting()


def request_record(at: datetime, *, tenant: str = "acme", route: str = "/inference", **values: Any) -> UsageRecord:
    given = {
        "key_id": "k", "method": "POST", "status": 200, "seconds": 9.0,
        "gpu_seconds": 1.5, "received_bytes": 100, "sent_bytes": 7,
    }  # fmt: skip
    return UsageRecord(tenant=tenant, route=route, at=at, **{**given, **values})


def shown(gate: Gateway, query: str = "?first_day=2026-02-01&last_day=2026-03-31", **headers: str) -> dict[str, Any]:
    answer = gate.get(f"/v1/usage{query}", **headers)
    assert answer.status_code == 200, answer.text
    assert isinstance(answer.json, dict)
    return answer.json


def test_usage_is_added_up_by_day_and_route(gate: Gateway) -> None:
    used(
        gate,
        request_record(NOON),
        request_record(NOON + timedelta(hours=3), gpu_seconds=0.25, status=429),
        request_record(NOON, route="/remove", gpu_seconds=0),
        request_record(NOON, route="/remove", gpu_seconds=0),
        request_record(NOON - timedelta(days=1)),
        request_record(NOON, route=""),
        request_record(NOON, tenant="other", gpu_seconds=1000),
    )
    answer = shown(gate)
    assert (answer["tenant"], answer["first_day"], answer["last_day"]) == ("acme", "2026-02-01", "2026-03-31")

    def row(day: str, route: str, requests: int, gpu_seconds: float) -> dict[str, Any]:
        amounts = {"received_bytes": 100 * requests, "sent_bytes": 7 * requests}
        return {"day": day, "route": route, "requests": requests, "gpu_seconds": gpu_seconds, **amounts}

    assert answer["usage"] == [
        row("2026-03-01", "", 1, 1.5),
        row("2026-03-01", "/inference", 2, 1.75),
        row("2026-03-01", "/remove", 2, 0),
        row("2026-02-28", "/inference", 1, 1.5),
    ]
    assert answer["total"] == {"requests": 6, "gpu_seconds": 4.75, "received_bytes": 600, "sent_bytes": 42}


def test_a_document_from_before_it_could_be_of_several_requests_is_one(gate: Gateway) -> None:
    gate.database["usage"].insert_one({**request_record(NOON)._asdict(), "_id": "old"})
    assert shown(gate)["total"]["requests"] == 1


def test_a_tenant_without_usage_sees_none(gate: Gateway) -> None:
    answer = shown(gate)
    assert answer["usage"] == []
    assert answer["total"] == {"requests": 0, "gpu_seconds": 0, "received_bytes": 0, "sent_bytes": 0}


def test_workers_time_stands_beside_the_requests(gate: Gateway) -> None:
    job = gate.claim(gate.start())
    gate.store.succeed(job.id, 1, {})
    TrainingTime(gate.database, gate.limiter).take_over()
    [row] = shown(gate, "")["usage"]
    ended = gate.store.get("acme", job.id)
    assert ended.finished_at is not None
    assert row == {
        "day": ended.finished_at.date().isoformat(),
        "route": "training",
        "requests": 0,
        "gpu_seconds": row["gpu_seconds"],
        "received_bytes": 0,
        "sent_bytes": 0,
    }
    assert row["gpu_seconds"] == pytest.approx(ended.gpu_seconds, abs=0.01)


def test_both_days_count_from_their_first_to_their_last_moment(gate: Gateway) -> None:
    first, last = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, 23, 59, 59, 999_000, tzinfo=UTC)
    a_moment = timedelta(milliseconds=1)
    used(gate, *(request_record(at) for at in (first - a_moment, first, last, last + a_moment)))
    days = [row["day"] for row in shown(gate, "?first_day=2026-03-01&last_day=2026-03-02")["usage"]]
    assert days == ["2026-03-02", "2026-03-01"]
    assert shown(gate, "?first_day=2026-03-01&last_day=2026-03-01")["total"]["requests"] == 1


def test_without_days_it_is_the_last_thirty(gate: Gateway) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    used(gate, *(request_record(today - timedelta(days=ago)) for ago in (0, DAYS - 1, DAYS)))
    answer = shown(gate, "")
    assert date.fromisoformat(answer["last_day"]) - date.fromisoformat(answer["first_day"]) == timedelta(days=29)
    assert answer["total"]["requests"] == 2
    # With one of them the other follows
    assert shown(gate, "?last_day=2026-03-30")["first_day"] == "2026-03-01"
    assert shown(gate, f"?first_day={answer['first_day']}")["last_day"] == answer["last_day"]


@pytest.mark.parametrize(
    "query",
    [
        "first_day=2026-03-02&last_day=2026-03-01",
        "first_day=2026-01-01&last_day=2026-04-03",  # 93 days
        "first_day=2000-01-01",
        "first_day=2099-12-31",
        "first_day=1999-12-31&last_day=2000-01-01",
        "last_day=0001-01-01",
        "last_day=9999-12-31",
        "first_day=2026-02-30",
        "first_day=1767225600&last_day=2026-01-02",
        "first_day=2026-01-01T00:00:00Z&last_day=2026-01-02",
        "first_day=2026-1-1",
        "first_day=",
        "first_day=%00",
        "tenant=",
        "tenant=UPPER",
        "day=2026-01-01",
    ],
)
def test_what_is_no_span_of_days_is_refused(gate: Gateway, query: str) -> None:
    assert_error(gate.get(f"/v1/usage?{query}"), 422, "invalid_field")


def test_the_edges_of_what_may_be_asked(gate: Gateway) -> None:
    last = date(2026, 4, 2)
    first = last - timedelta(days=MAX_DAYS - 1)
    assert shown(gate, f"?first_day={first}&last_day={last}")["usage"] == []
    assert shown(gate, "?last_day=2000-01-01")["first_day"] == "1999-12-03"
    assert shown(gate, "?last_day=2099-12-31")["usage"] == []


def test_another_tenant_s_usage_is_for_admins(gate: Gateway) -> None:
    used(gate, request_record(NOON, tenant="other"), request_record(NOON))
    days = "&first_day=2026-02-01&last_day=2026-03-31"
    # Whether the other one is there or not is the same refusal
    for tenant in ("other", "nobody"):
        assert_error(gate.get(f"/v1/usage?tenant={tenant}{days}"), 403, "forbidden")
    assert shown(gate, f"?tenant=acme{days}")["total"]["requests"] == 1
    admin = {SCOPE_HEADER.replace("-", "_"): "admin"}
    assert shown(gate, f"?tenant=other{days}", **admin)["tenant"] == "other"
    assert shown(gate, f"?tenant=other{days}", **admin)["total"]["requests"] == 1
    assert shown(gate, f"?tenant=nobody{days}", **admin)["usage"] == []
    # Without a name an admin sees its own tenant's
    assert shown(gate, f"?{days[1:]}", **admin)["tenant"] == "acme"


def test_a_database_that_is_away_is_said(connections: Connections, tmp_path: Path) -> None:
    with mongo_server(tmp_path / "mongo") as mongo:
        away = Connections(mongo.url, connections.queue_url, tmp_path)
        with gateway(away, started=False) as gate:
            mongo.kill()
            assert_error(gate.get("/v1/usage"), 503, "database_unavailable")


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("usage")) as servers:
        yield servers


def test_a_whole_gateway_shows_its_own_requests(around: Surroundings) -> None:
    settings = around.settings()
    with whole_gateway(settings) as app:
        anna = client_of(app, make_key(settings, "anna"))

        def requests_of(route: str) -> int:
            answer = anna.get("/v1/usage").json or {}
            return sum(row["requests"] for row in answer["usage"] if row["route"] == route)

        for _ in range(3):
            anna.get("/v1/trainings")
        assert wait_until(lambda: requests_of("/v1/trainings") == 3)
        assert requests_of("/v1/usage") >= 1
        bob = client_of(app, make_key(settings, "bob"))
        assert (bob.get("/v1/usage").json or {})["usage"] == []
        assert bob.get("/v1/usage?tenant=anna").status_code == 403
        assert_error(app.test_client().get("/v1/usage"), 401, "unauthorized")
