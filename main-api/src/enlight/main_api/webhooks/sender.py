"""Delivers webhooks beside the requests: finds the trainings that ended, and tries what is due."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from enlight.main_api.background import Repeating
from enlight.main_api.trainings.watch import FindMany
from enlight.main_api.webhooks.addresses import parse_webhook_url
from enlight.main_api.webhooks.deliveries import Delivery, Expected, WebhookDeliveries
from enlight.main_api.webhooks.post import PostFailedError, WebhookPoster
from enlight.main_api.webhooks.webhooks import (
    EVENT_ID_HEADER,
    SIGNATURE_HEADER,
    WebhookSecrets,
    event_body,
    event_type,
    sign,
)
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.logs import log_context

_log = logging.getLogger(__name__)

SENDERS = 4
"""Deliveries tried at once by one gateway; of one tenant fewer, see `TRIED_AT_ONCE`."""
POLL_S = 1.0
BETWEEN_S = 0.05
"""Pause of a sender between having found nothing more and waiting to be woken."""
NEVER_CREATED_S = 600.0
"""A delivery whose job is not there after this long belongs to a request that failed on its way."""
_JOBS_AT_ONCE = 200


class WebhookSender:
    """The threads that deliver webhooks.

    Args:
        deliveries: What is to be delivered.
        secrets: What it is signed with.
        poster: The way out.
        find_many: The jobs with these ids, as far as there are any; `JobStore.find_many`.
        poll_s: Pause between two looks for something to do.
        allow_private: Whether addresses of one's own network are allowed.
        tried: Is told ``delivered``, ``failed`` or ``given_up`` of each try.
    """

    def __init__(
        self,
        deliveries: WebhookDeliveries,
        secrets: WebhookSecrets,
        poster: WebhookPoster,
        find_many: FindMany,
        *,
        poll_s: float = POLL_S,
        allow_private: bool = False,
        tried: Callable[[str], object] = lambda outcome: None,
    ) -> None:
        self._deliveries = deliveries
        self._secrets = secrets
        self._poster = poster
        self._find_many = find_many
        self._allow_private = allow_private
        self._poll_s = poll_s
        self._tried = tried
        self._due = threading.Event()
        """One thread looks whether anything is due, and wakes the others: while there is nothing to deliver, as most of
        the time, the database is hardly asked."""
        self._collector = Repeating(self._look, every_s=poll_s, name="webhook-collector")
        self._senders = [Repeating(self._send_due, every_s=BETWEEN_S, name=f"webhook-{n}") for n in range(SENDERS)]

    def start(self) -> None:
        """Begins to look and to deliver."""
        self._collector.start()
        for sender in self._senders:
            sender.start()

    def stop(self) -> None:
        """Begins no more deliveries; one that is under way ends by itself, or its lease does."""
        for thread in (self._collector, *self._senders):
            thread.ask_to_stop()
        self._collector.stop()

    def collect(self) -> None:
        """Makes the events of trainings that ended, and drops what belongs to no training.

        Raises:
            DatabaseUnavailable: the rest comes with the next call.
        """
        waiting = self._deliveries.waiting()
        for start in range(0, len(waiting), _JOBS_AT_ONCE):
            self._collect(waiting[start : start + _JOBS_AT_ONCE])

    def _collect(self, waiting: list[Expected]) -> None:
        jobs = self._find_many([expected.job_id for expected in waiting])
        never_created = datetime.now(UTC) - timedelta(seconds=NEVER_CREATED_S)
        for expected in waiting:
            job = jobs.get(expected.job_id)
            if job is not None and job.ended:
                self._deliveries.make_due(job.id, event_type(job), event_body(job), request_id=job.request_id)
            elif job is None and expected.created_at < never_created:
                self._deliveries.forget(expected.job_id)

    def _look(self) -> None:
        self.collect()
        if self._deliveries.any_due():
            self._due.set()

    def _send_due(self) -> None:
        if not self._due.wait(self._poll_s):
            return
        try:
            while not self._collector.stopping and (delivery := self._deliveries.claim()):
                self.send(delivery)
        finally:
            self._due.clear()

    def send(self, delivery: Delivery) -> None:
        """Tries one claimed delivery and notes how it went.

        Raises:
            DatabaseUnavailable: it could not be noted; the delivery's lease will run out.
        """
        with log_context(request_id=delivery.request_id, job_id=delivery.job_id):
            self._send(delivery)

    def _send(self, delivery: Delivery) -> None:
        status = None
        try:
            status = self._post(delivery)
        except (PostFailedError, InvalidField) as error:
            problem = str(error)
        else:
            if 200 <= status < 300:
                self._deliveries.delivered(delivery, status)
                self._tried("delivered")
                return
            problem = f"it answered {status}"
        _log.info("webhook %s, try %d: %s", delivery.id, delivery.attempts, problem)
        self._tried("failed" if self._deliveries.failed(delivery, problem, status) else "given_up")

    def _post(self, delivery: Delivery) -> int:
        # Checked again: what may be named can have been set otherwise since the URL was accepted.
        target = parse_webhook_url(delivery.url, field="url", allow_private=self._allow_private)
        body = delivery.body.encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "enlight-webhooks/1",
            EVENT_ID_HEADER: delivery.id,
            SIGNATURE_HEADER: sign(self._secrets.secret_of(delivery.tenant), body, int(time.time())),
        }
        if delivery.request_id is not None:
            headers["X-Request-ID"] = delivery.request_id
        return self._poster.post(target, body, headers)
