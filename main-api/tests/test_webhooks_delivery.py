"""From a training's end to its receiver, over the deaths of everything in between."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from embedded_servers import EmbeddedServer, mongo_server
from training_gateway import Gateway, OpenGateway, training_body
from training_receivers import Receiver, http_receiver
from waiting import wait_until
from webhook_rounds import LEASE_S, deliver, due_deliveries, make_due_now

from enlight.jobkit.database import Documents, open_database
from enlight.main_api.webhooks.deliveries import Delivery, WebhookDeliveries, retry_delay_s
from enlight.main_api.webhooks.post import WebhookPoster
from enlight.main_api.webhooks.sender import WebhookSender
from enlight.main_api.webhooks.webhooks import WebhookSecrets, sign
from enlight.servicekit.errors import DatabaseUnavailable

pytest_plugins = ["training_fixtures", "webhook_fixtures"]


@pytest.fixture
def database(mongo: EmbeddedServer) -> Iterator[Documents]:
    opened = open_database(mongo.url, f"t{uuid.uuid4().hex[:12]}", timeout_s=2)
    yield opened
    opened.client.close()


@pytest.fixture
def deliveries(database: Documents) -> WebhookDeliveries:
    made = WebhookDeliveries(database, lease_s=LEASE_S, max_attempts=3)
    made.make_indexes()
    return made


def row(database: Documents) -> dict[str, Any]:
    found = database["webhook_deliveries"].find_one()
    assert found is not None
    return found


def check(receiver: Receiver, gate: Gateway) -> dict[str, Any]:
    """What a careful receiver does with its only request; gives the event."""
    [(path, headers, body)] = receiver.received
    assert path == "/hook"
    secret = gate.get("/v1/webhook-secret").json
    assert isinstance(secret, dict)
    signature = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", headers["x-enlight-signature"])
    assert signature is not None
    assert abs(int(signature[1]) - time.time()) < 60
    digest = hmac.new(secret["secret"].encode(), f"{signature[1]}.".encode() + body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(signature[2], digest)
    assert headers["content-type"] == "application/json"
    event = json.loads(body)
    assert isinstance(event, dict)
    assert headers["x-enlight-event-id"] == event["id"]
    return event


def test_the_end_of_a_training_is_told_once_and_signed(gate: Gateway) -> None:
    with http_receiver(204) as receiver:
        # Given a training whose end is to be told
        job_id = gate.start("Alex", X_Webhook_URL=f"{receiver.url}hook")
        assert deliver(gate) == 0
        job = gate.claim(job_id)
        assert deliver(gate) == 0
        # When it ends
        gate.store.commit(job_id, job.attempt, "v5")
        gate.store.succeed(job_id, job.attempt, {"version": "v5"})
        outcomes: list[str] = []
        assert (deliver(gate, tried=outcomes.append), deliver(gate)) == (1, 0)
        assert outcomes == ["delivered"]
        # Then the receiver has its event
        event = check(receiver, gate)
        assert event["type"] == "training.succeeded"
        assert (event["data"]["id"], event["data"]["model_id"], event["data"]["model_version"]) == (
            job_id,
            "Alex",
            "v5",
        )
        assert event["created_at"] == event["data"]["finished_at"]
        assert job.model_id not in json.dumps(event)
    assert row(gate.database)["state"] == "delivered"


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_other_ends_are_told_too(gate: Gateway, state: str) -> None:
    with http_receiver(200) as receiver:
        job_id = gate.start(X_Webhook_URL=f"{receiver.url}hook")
        if state == "failed":
            gate.fail(job_id, "job_failed", "It diverged — ✗ \ud7ff")
        else:
            gate.post(f"/v1/trainings/{job_id}/cancel", {})
        assert deliver(gate) == 1
        event = check(receiver, gate)
        assert (event["type"], event["data"]["state"]) == (f"training.{state}", state)


def test_a_gateway_delivers_by_itself(open_gateway: OpenGateway) -> None:
    with http_receiver(200) as receiver, open_gateway(webhook_private_addresses=True) as gate:
        gate.succeed(gate.start(X_Webhook_URL=f"{receiver.url}hook"))
        assert wait_until(lambda: len(receiver.received) == 1)
        assert wait_until(lambda: row(gate.database)["state"] == "delivered")


@pytest.mark.parametrize("status", [301, 400, 404, 500, 503])
def test_what_is_not_taken_is_tried_again_with_the_same_body(gate: Gateway, status: int) -> None:
    with http_receiver(status, 200) as receiver:
        gate.succeed(gate.start(X_Webhook_URL=receiver.url))
        assert deliver(gate) == 1
        waiting = row(gate.database)
        assert (waiting["state"], waiting["last_error"]) == ("due", f"it answered {status}")
        # Not at once, but after a while
        assert deliver(gate) == 0
        due_in = waiting["next_attempt_at"] - datetime.now(UTC)
        assert timedelta(seconds=5) < due_in < timedelta(seconds=20)
        make_due_now(gate.database)
        assert deliver(gate) == 1
        first, second = receiver.received
        assert first[2] == second[2]
        assert first[1]["x-enlight-event-id"] == second[1]["x-enlight-event-id"]
    assert row(gate.database)["state"] == "delivered"


def test_a_delivery_is_given_up_after_its_last_try(gate: Gateway) -> None:
    outcomes: list[str] = []
    with http_receiver(500) as receiver:
        gate.succeed(gate.start(X_Webhook_URL=receiver.url))
        for _ in range(5):
            deliver(gate, tried=outcomes.append)
            make_due_now(gate.database)
        assert len(receiver.received) == 3
    ended = row(gate.database)
    assert (ended["state"], ended["last_error"], ended["attempts"]) == ("given_up", "it answered 500", 3)
    assert ended["finished_at"] is not None
    assert outcomes == ["failed", "failed", "given_up"]


def test_the_tries_are_spread_over_about_a_day() -> None:
    delays_s = [retry_delay_s(attempts, 0) for attempts in range(1, 8)]
    assert delays_s[0] == 15
    assert 20 * 3600 < sum(delays_s) < 26 * 3600
    assert (retry_delay_s(1, -1), retry_delay_s(1, 1)) == (12, 18)


def test_a_url_that_became_private_is_not_called(gate: Gateway) -> None:
    with http_receiver(200) as receiver:
        gate.succeed(gate.start(X_Webhook_URL=receiver.url))
        strict = WebhookSender(
            due_deliveries(gate),
            WebhookSecrets(gate.database),
            WebhookPoster(timeout_s=2, allow_private=False),
            gate.store.find_many,
        )
        strict.collect()
        delivery = due_deliveries(gate).claim()
        assert delivery is not None
        strict.send(delivery)
        assert receiver.received == []
    assert row(gate.database)["last_error"] == "localhost has no public address"


def test_many_gateways_share_the_deliveries(gate: Gateway) -> None:
    with http_receiver(200) as receiver:
        ids = [gate.start(f"m{n}", X_Webhook_URL=receiver.url) for n in range(8)]
        for job_id in ids:
            gate.succeed(job_id)
        with ThreadPoolExecutor(8) as pool:
            tries = list(pool.map(lambda _: deliver(gate), range(8)))
        assert sum(tries) == 8
        told = [headers["x-enlight-event-id"] for _, headers, _ in receiver.received]
        assert sorted(told) == sorted(f"evt-{job_id}" for job_id in ids)


def claimed(deliveries: WebhookDeliveries) -> Delivery:
    """The next delivery, as soon as there is one to claim."""
    found: list[Delivery] = []

    def claim() -> bool:
        delivery = deliveries.claim()
        found.extend([delivery] if delivery else [])
        return bool(found)

    assert wait_until(claim)
    return found[0]


def test_a_try_whose_gateway_died_is_made_by_another(deliveries: WebhookDeliveries, database: Documents) -> None:
    deliveries.expect("tr-1", "acme", "http://example.com/")
    deliveries.make_due("tr-1", "training.failed", "{}")
    # Given a gateway that claimed the delivery and was never heard of again
    first = claimed(deliveries)
    assert deliveries.claim() is None
    # Then another one takes it when the lease has run out
    second = claimed(deliveries)
    assert (second.id, second.attempts) == (first.id, 2)
    # And what the first one says after all counts for nothing
    deliveries.failed(first, "late")
    assert row(database)["last_error"] is None
    deliveries.delivered(first, 200)
    assert row(database)["state"] == "due"
    deliveries.delivered(second, 200)
    assert row(database)["state"] == "delivered"


def test_a_body_is_kept_as_it_is(deliveries: WebhookDeliveries) -> None:
    deliveries.expect("tr-1", "acme", "http://example.com/$url")
    deliveries.make_due("tr-1", "$state", "$state")
    deliveries.make_due("tr-1", "another", "another")
    assert claimed(deliveries).body == "$state"


def test_what_belongs_to_no_training_is_dropped_after_a_while(gate: Gateway) -> None:
    deliveries = due_deliveries(gate)
    deliveries.expect("tr-never", "acme", "http://example.com/")
    deliver(gate)
    # A request may be on its way
    assert len(deliveries.waiting()) == 1
    rows = gate.database["webhook_deliveries"]
    rows.update_one({}, {"$set": {"created_at": datetime.now(UTC) - timedelta(hours=1)}})
    deliver(gate)
    assert deliveries.waiting() == []


def test_a_repeated_request_leaves_one_delivery(gate: Gateway) -> None:
    headers = {"Idempotency_Key": "k", "X_Webhook_URL": "http://example.com/"}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: gate.post("/v1/trainings", training_body(), **headers), range(8)))
    assert len(due_deliveries(gate).waiting()) == 1


def test_each_tenant_has_one_secret_of_its_own(gate: Gateway) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: gate.get("/v1/webhook-secret"), range(8)))
    secrets = {answer.json["secret"] for answer in answers if answer.json}
    assert len(secrets) == 1
    other = gate.get("/v1/webhook-secret", tenant="other").json
    assert isinstance(other, dict)
    assert other["secret"] not in secrets
    assert len(other["secret"]) > 40


def test_a_signature_is_that_of_the_time_and_the_body() -> None:
    known = hmac.new(b"secret", b"1700000000.{}", hashlib.sha256).hexdigest()
    assert sign("secret", b"{}", 1_700_000_000) == f"t=1700000000,v1={known}"


def test_a_database_that_is_away_loses_no_delivery(tmp_path: Path) -> None:
    with (
        mongo_server(tmp_path / "mongo") as mongo,
        closing(open_database(mongo.url, "t", timeout_s=2).client) as client,
    ):
        database = client["t"]
        deliveries = WebhookDeliveries(database, lease_s=LEASE_S, max_attempts=3)
        deliveries.expect("tr-1", "acme", "http://example.com/")
        deliveries.make_due("tr-1", "training.failed", "{}")
        mongo.kill()
        with pytest.raises(DatabaseUnavailable):
            deliveries.claim()
        mongo.start()
        assert claimed(deliveries).job_id == "tr-1"


def test_a_gateway_with_nothing_to_deliver_hardly_asks_and_begins_soon(
    database: Documents, deliveries: WebhookDeliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = []
    monkeypatch.setattr(deliveries, "claim", lambda: claims.append(time.monotonic()))
    poster = WebhookPoster(timeout_s=1, allow_private=True)
    sender = WebhookSender(deliveries, WebhookSecrets(database), poster, lambda _ids: {}, poll_s=0.05)
    sender.start()
    try:
        time.sleep(0.5)
        assert claims == []
        deliveries.expect("tr-1", "ann", "http://127.0.0.1:9/hook")
        deliveries.make_due("tr-1", "training.succeeded", "{}")
        assert wait_until(lambda: len(claims) > 0)
    finally:
        sender.stop()
