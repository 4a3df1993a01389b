"""What a tenant sees of its webhooks, and has tried again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from answers import assert_error
from embedded_servers import mongo_server
from training_gateway import Connections, Gateway, gateway
from training_receivers import http_receiver
from webhook_rounds import deliver, due_deliveries, make_due_now, sender

from enlight.main_api.webhooks.deliveries import WebhookDeliveries

pytest_plugins = ["training_fixtures", "webhook_fixtures"]


def listed(gate: Gateway, query: str = "", tenant: str = "acme") -> dict[str, Any]:
    answer = gate.get(f"/v1/webhook-deliveries{query}", tenant=tenant)
    assert answer.status_code == 200, answer.text
    assert isinstance(answer.json, dict)
    return answer.json


def only(gate: Gateway) -> dict[str, Any]:
    [delivery] = listed(gate)["deliveries"]
    assert isinstance(delivery, dict)
    return delivery


def give_up(gate: Gateway, url: str) -> str:
    """Id of a delivery that was given up."""
    gate.succeed(gate.start(X_Webhook_URL=url))
    for _ in range(3):
        deliver(gate)
        make_due_now(gate.database)
    delivery = only(gate)
    assert delivery["state"] == "given_up"
    return str(delivery["id"])


def test_a_delivery_is_seen_from_the_training_s_start_to_its_end(gate: Gateway) -> None:
    with http_receiver(503, 200) as receiver:
        # Given a training that is to be told of
        job_id = gate.start(X_Webhook_URL=f"{receiver.url}hook?token=1")
        waiting = only(gate)
        assert (waiting["id"], waiting["training_id"], waiting["url"]) == (
            f"evt-{job_id}",
            job_id,
            f"{receiver.url}hook?token=1",
        )
        assert (waiting["state"], waiting["type"], waiting["attempts"]) == ("waiting", None, 0)
        assert waiting["next_attempt_at"] is waiting["last_status"] is waiting["last_error"] is None
        # When its first try fails
        gate.fail(job_id, "job_failed", "x")
        deliver(gate)
        due = only(gate)
        assert (due["state"], due["type"], due["attempts"]) == ("due", "training.failed", 1)
        assert (due["last_status"], due["last_error"]) == (503, "it answered 503")
        assert datetime.fromisoformat(due["next_attempt_at"]) > datetime.fromisoformat(due["created_at"])
        assert due["finished_at"] is None
        # And the second succeeds
        make_due_now(gate.database)
        deliver(gate)
        done = only(gate)
        assert (done["state"], done["attempts"], done["last_status"], done["last_error"]) == ("delivered", 2, 200, None)
        assert (done["next_attempt_at"], done["finished_at"] is not None) == (None, True)


def test_a_receiver_that_gives_no_answer_has_no_status(gate: Gateway) -> None:
    with http_receiver(500) as receiver:
        gate.succeed(gate.start(X_Webhook_URL=receiver.url))
        deliver(gate)
        assert only(gate)["last_status"] == 500
    make_due_now(gate.database)
    deliver(gate)
    gone = only(gate)
    assert (gone["last_status"], gone["attempts"]) == (None, 2)
    assert "ConnectionRefusedError" in gone["last_error"]


def test_deliveries_are_listed_page_by_page(gate: Gateway) -> None:
    started = [gate.start(f"m{number}", X_Webhook_URL="http://example.com/") for number in range(5)]
    gate.start("untold")
    theirs = gate.start(tenant="other", X_Webhook_URL="http://example.com/")
    seen: list[str] = []
    before = ""
    for expected in (2, 2, 1):
        page = listed(gate, f"?limit=2{before}")
        assert len(page["deliveries"]) == expected
        seen += [delivery["training_id"] for delivery in page["deliveries"]]
        before = f"&before={page['next']}"
    assert before == "&before=None"
    assert seen == started[::-1]
    # A page that is just full is the last one
    assert listed(gate, "?limit=5")["next"] is None
    # Those of one training; of nobody else's
    [one] = listed(gate, f"?training_id={started[2]}")["deliveries"]
    assert one["training_id"] == started[2]
    assert listed(gate, f"?training_id={theirs}")["deliveries"] == []
    assert listed(gate, f"?before={started[0]}&training_id=none") == {"deliveries": [], "next": None}
    for wrong in ("limit=0", "limit=201", "limit=x", "before=" + "x" * 81, "training_id=" + "x" * 81, "state=due"):
        assert_error(gate.get(f"/v1/webhook-deliveries?{wrong}"), 422, "invalid_field")


def test_a_delivery_that_was_given_up_is_tried_once_more(gate: Gateway) -> None:
    with http_receiver(500) as receiver:
        delivery_id = give_up(gate, receiver.url)
        # When its tenant asks for another try
        answer = gate.post(f"/v1/webhook-deliveries/{delivery_id}/retry", {})
        assert answer.status_code == 202
        assert answer.json is not None
        assert (answer.json["id"], answer.json["state"], answer.json["attempts"]) == (delivery_id, "due", 3)
        assert answer.json["next_attempt_at"] is not None
        assert answer.json["finished_at"] is None
        # Then it is tried at once, once
        assert (deliver(gate), deliver(gate)) == (1, 0)
        again = only(gate)
        assert (again["state"], again["attempts"]) == ("given_up", 4)
        # And the event is the same
        assert len({(headers["x-enlight-event-id"], body) for _, headers, body in receiver.received}) == 1
        # And a receiver that is well again has it
        receiver.statuses[:] = [200]
        gate.post(f"/v1/webhook-deliveries/{delivery_id}/retry", {})
        deliver(gate)
        assert only(gate)["state"] == "delivered"


def test_only_what_was_given_up_is_tried_again(gate: Gateway) -> None:
    with http_receiver(500, 200) as receiver:
        job_id = gate.start(X_Webhook_URL=receiver.url)
        retry = f"/v1/webhook-deliveries/evt-{job_id}/retry"
        states = []
        acts: list[Callable[[], None]] = [
            lambda: None,
            lambda: gate.succeed(job_id),
            lambda: make_due_now(gate.database),
        ]
        for act in acts:
            act()
            deliver(gate)
            body = assert_error(gate.post(retry, {}), 409, "conflict")
            states.append(body["error"]["details"]["state"])
        assert states == ["waiting", "due", "delivered"]
        assert len(receiver.received) == 2


def test_another_tenant_s_delivery_is_not_there(gate: Gateway) -> None:
    with http_receiver(500) as receiver:
        delivery_id = give_up(gate, receiver.url)
    assert listed(gate, tenant="other")["deliveries"] == []
    for tenant, wanted in (("other", delivery_id), ("acme", "evt-none"), ("acme", "x" * 80)):
        answer = gate.post(f"/v1/webhook-deliveries/{wanted}/retry", {}, tenant=tenant)
        assert_error(answer, 404, "not_found")
    assert only(gate)["state"] == "given_up"
    assert_error(gate.post(f"/v1/webhook-deliveries/{'x' * 81}/retry", {}), 422, "invalid_field")


def test_a_claim_from_before_another_try_counts_for_nothing(gate: Gateway) -> None:
    deliveries = due_deliveries(gate)
    with http_receiver(500) as receiver:
        gate.succeed(gate.start(X_Webhook_URL=receiver.url))
        deliver(gate)
        make_due_now(gate.database)
        # Given a gateway that claimed the second try, and slept while another one gave the delivery up
        sleeper = deliveries.claim()
        assert sleeper is not None
        deliveries.failed(sleeper, "its lease ran out")
        make_due_now(gate.database)
        deliver(gate)
        delivery_id = only(gate)["id"]
        gate.post(f"/v1/webhook-deliveries/{delivery_id}/retry", {})
        # When it wakes up, then the try that was asked for is still to be made
        deliveries.delivered(sleeper, 200)
        assert only(gate)["state"] == "due"


def test_a_deleted_training_takes_its_delivery_along(gate: Gateway) -> None:
    with http_receiver(500) as receiver:
        delivery_id = give_up(gate, receiver.url)
    gate.delete(f"/v1/trainings/{delivery_id.removeprefix('evt-')}")
    assert listed(gate)["deliveries"] == []
    assert_error(gate.post(f"/v1/webhook-deliveries/{delivery_id}/retry", {}), 404, "not_found")


def test_one_tenant_s_silent_receivers_do_not_hold_up_the_others(gate: Gateway) -> None:
    deliveries = WebhookDeliveries(gate.database, lease_s=600, max_attempts=3)
    with http_receiver(200) as receiver:
        # Given a tenant with more deliveries under way than senders
        for number in range(6):
            gate.succeed(gate.start(f"m{number}", tenant="loud", X_Webhook_URL="http://example.com/"))
        job_id = gate.start(tenant="quiet", X_Webhook_URL=receiver.url)
        gate.succeed(job_id)
        sender(gate).collect()
        claims = [deliveries.claim() for _ in range(4)]
        # Then two are its own, and the next one is the other tenant's, which came last
        assert [claim and claim.tenant for claim in claims] == ["loud", "loud", "quiet", None]
        # And when one of its tries is over, it is its turn again
        assert claims[0] is not None
        deliveries.delivered(claims[0], 200)
        following = deliveries.claim()
        assert following is not None
        assert following.tenant == "loud"


def test_a_database_that_is_away_is_said(connections: Connections, tmp_path: Path) -> None:
    with mongo_server(tmp_path / "mongo") as mongo:
        away = Connections(mongo.url, connections.queue_url, tmp_path)
        with gateway(away, started=False) as gate:
            mongo.kill()
            assert_error(gate.get("/v1/webhook-deliveries"), 503, "database_unavailable")
            assert_error(gate.post("/v1/webhook-deliveries/evt-1/retry", {}), 503, "database_unavailable")
