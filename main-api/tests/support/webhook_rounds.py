"""Deliveries of webhooks in rounds that a test makes itself, instead of the gateway's threads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from training_gateway import Gateway

from enlight.jobkit.database import Documents
from enlight.main_api.webhooks.deliveries import WebhookDeliveries
from enlight.main_api.webhooks.post import WebhookPoster
from enlight.main_api.webhooks.sender import WebhookSender
from enlight.main_api.webhooks.webhooks import WebhookSecrets

LEASE_S = 0.3


def sender(
    gate: Gateway,
    deliveries: WebhookDeliveries | None = None,
    *,
    tried: Callable[[str], object] = lambda outcome: None,
) -> WebhookSender:
    return WebhookSender(
        deliveries or due_deliveries(gate),
        WebhookSecrets(gate.database),
        WebhookPoster(timeout_s=2, allow_private=True),
        gate.store.find_many,
        poll_s=0.02,
        allow_private=True,
        tried=tried,
    )


def due_deliveries(gate: Gateway) -> WebhookDeliveries:
    return WebhookDeliveries(gate.database, lease_s=LEASE_S, max_attempts=3)


def deliver(gate: Gateway, *, tried: Callable[[str], object] = lambda outcome: None) -> int:
    """One round: what ended is found, what is due is tried once. The number of tries."""
    deliveries = due_deliveries(gate)
    worker = sender(gate, deliveries, tried=tried)
    worker.collect()
    tries = 0
    while delivery := deliveries.claim():
        worker.send(delivery)
        tries += 1
    return tries


def make_due_now(database: Documents) -> None:
    """As if the time until the next try had passed."""
    database["webhook_deliveries"].update_many(
        {"state": "due"}, {"$set": {"next_attempt_at": datetime(2020, 1, 1, tzinfo=UTC)}}
    )
