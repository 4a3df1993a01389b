"""Webhooks as their receivers see them: the event, its signature, and the secret that it is checked with."""

from __future__ import annotations

import hashlib
import hmac
import json

from pydantic import Field

from enlight.jobkit.database import Documents
from enlight.jobkit.jobs import Job
from enlight.main_api.keys.tenant_secrets import TenantSecrets
from enlight.main_api.trainings.views import training_view
from enlight.servicekit.schemas import Answer

EVENT_ID_HEADER = "X-Enlight-Event-Id"
SIGNATURE_HEADER = "X-Enlight-Signature"


class WebhookSecretView(Answer):
    """The tenant's secret."""

    secret: str = Field(
        description="Checks `X-Enlight-Signature: t=<unix time>,v1=<hex>`: v1 is the HMAC-SHA-256 with this secret of "
        "`<t>.<body>`. Refuse an old t, and an `X-Enlight-Event-Id` that you have seen."
    )


def event_id(job_id: str) -> str:
    """A training has one event, its end; deliveries of it, however many, carry one id."""
    return f"evt-{job_id}"


def event_type(job: Job) -> str:
    """What the event of an ended job says in a word."""
    return f"training.{job.state}"


def event_body(job: Job) -> str:
    """The event of an ended job: the JSON text of every delivery."""
    event = {
        "id": event_id(job.id),
        "type": event_type(job),
        "created_at": (job.finished_at or job.created_at).isoformat(timespec="milliseconds"),
        "data": training_view(job, None),
    }
    return json.dumps(event, ensure_ascii=False, allow_nan=False)


def sign(secret: str, body: bytes, unix_s: int) -> str:
    """Value of the signature's header for a delivery at ``unix_s``."""
    digest = hmac.new(secret.encode(), f"{unix_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={unix_s},v1={digest}"


class WebhookSecrets(TenantSecrets):
    """The collection ``webhook_secrets``."""

    def __init__(self, database: Documents) -> None:
        super().__init__(database, "webhook_secrets", prefix="whsec_")
