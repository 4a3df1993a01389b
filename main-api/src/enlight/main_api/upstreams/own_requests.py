"""Requests that the gateway makes of the services itself, to keep what comes back."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from flask import request

from enlight.main_api.limits.admission import BudgetShare, ByteBudget, Places
from enlight.main_api.upstreams.answers import Promise, UpstreamAnswer, raise_error_of, renamed
from enlight.main_api.upstreams.forwarding import RUN_SECONDS, seconds_of, upstream_headers
from enlight.main_api.upstreams.upstream import Upstream, UpstreamRequest
from enlight.main_api.usage.records import UsageNotes, usage_notes
from enlight.servicekit.errors import ClientGone
from enlight.servicekit.http import client_gone


@dataclass(frozen=True)
class NamedBucketId:
    """A tenant's model."""

    bucket_id: str
    name: str


class OwnRequests:
    """Opens work on behalf of the current request.

    Args:
        places: Requests under way at once, shared with those that are handed on.
        budget: Memory for bodies and answers, likewise.
    """

    def __init__(self, *, places: Places, budget: ByteBudget) -> None:
        self._places = places
        self._budget = budget

    @contextmanager
    def open(self) -> Iterator[Work]:
        """One place for as many requests as are needed, one after the other; they may outlive the view, in a stream.

        Raises: QueueFull.
        """
        with self._places.place(), self._budget.share() as share:
            yield Work(share, usage_notes(), upstream_headers(request), request.environ)


class Work:
    """Asks on behalf of one request of a client, until that leaves."""

    def __init__(
        self, share: BudgetShare, notes: UsageNotes, headers: dict[str, str], environ: dict[str, object]
    ) -> None:
        self._share = share
        self._notes = notes
        self._headers = headers
        self._client_gone = partial(client_gone, environ)

    def ask(
        self,
        upstream: Upstream,
        path: str,
        promise: Promise,
        body: bytes,
        *,
        content_type: str = "application/json",
        model: NamedBucketId | None = None,
    ) -> UpstreamAnswer:
        """A service's good answer. The memory of the one before is given back. The GPU's time is noted.

        Args:
            upstream: Who answers.
            path: With the query.
            promise: What a good answer is.
            body: What is asked.
            content_type: Of the body.
            model: Whose picture it is: requests of the same one go to the same address, and its id does not come back.

        Raises: as `Upstream.ask`; the service's own error, as it is.
        """
        self._share.give_back()
        self._share.take(len(body))
        headers = {**self._headers, "Content-Type": content_type, "Accept": "*/*"}
        if model is not None:
            headers["X-Model-Id"] = model.bucket_id
        asked = UpstreamRequest("POST", path, promise, headers, body)
        began_s = time.monotonic()
        try:
            answer = upstream.ask(
                asked,
                client_gone=self._client_gone,
                take_bytes=self._share.take,
                affinity=model.bucket_id if model else None,
            )
        except ClientGone:
            self._notes.gpu_seconds += time.monotonic() - began_s  # as of a request that is handed on
            raise
        if model is not None:
            answer = renamed(answer, model.bucket_id, model.name)
        raise_error_of(answer)
        self._notes.gpu_seconds += seconds_of(answer.headers.get(RUN_SECONDS, ""))
        return answer
