"""From a request to the service that answers it, and back: what is received, sent on, kept and counted."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from urllib.parse import urlencode

from flask import Request, Response, request

from enlight.main_api.cache.kept_answers import Found, KeptAnswers, Question, computed_only
from enlight.main_api.keys.authentication import current_caller
from enlight.main_api.limits.admission import BudgetShare, ByteBudget, Places
from enlight.main_api.models.served_versions import ServedVersion
from enlight.main_api.upstreams.answers import Promise, UpstreamAnswer
from enlight.main_api.upstreams.received_bodies import ReceivedBody, receive_body
from enlight.main_api.upstreams.upstream import Upstream, UpstreamRequest
from enlight.main_api.usage.records import usage_notes
from enlight.servicekit.errors import ClientGone
from enlight.servicekit.http import client_gone
from enlight.servicekit.logs import current_request_id
from enlight.servicekit.tracing import TRACE_HEADERS

RUN_SECONDS = "X-Run-Seconds"
MODEL_VERSION = "X-Model-Version"
HASHING_THREADS = 2
"""As many cores as a gateway that passes bodies on can use besides; a full pool only makes a body wait its turn."""
SENT_BYTES = 1024 * 1024
"""Of an answer that has to be copied to be sent, at a time."""
_SENT_ON = ("Content-Type", "Accept", *TRACE_HEADERS)
"""The request's headers that a service behind gets. No other: no key, no cookie, nothing about the connection."""


class Forwarder:
    """Sends requests on to the services behind.

    Args:
        places: Requests under way at once.
        budget: Memory for bodies and answers.
        kept: Answers that need not be computed again; None: all are computed.
        code_version: The version of a service by its name, empty while it is not known.
    """

    def __init__(
        self, *, places: Places, budget: ByteBudget, kept: KeptAnswers | None, code_version: Callable[[str], str]
    ) -> None:
        self._places = places
        self._budget = budget
        self._kept = kept
        self._code_version = code_version
        self._hashing = ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="hashing")

    def send_on(self, upstream: Upstream, path: str, promise: Promise, *, keep: bool = True) -> Response:
        """The current request as it is, to ``path`` of a service. Nothing of its body is parsed.

        Args:
            upstream: Who answers.
            path: Without the query.
            promise: What a good answer is.
            keep: Whether the same request always has the same answer.

        Raises: as `Upstream.ask` and `receive_body`.
        """
        gone = partial(client_gone, request.environ)
        with ExitStack() as held:
            share = held.enter_context(self._budget.share())
            with self._places.place():
                body = receive_body(request, share, self._hashing) if request.method == "POST" else None
                asked = UpstreamRequest(
                    "POST" if body else "GET",  # of a HEAD the server drops the body
                    _with_query(path),
                    promise,
                    upstream_headers(request),
                    body.data if body else None,
                )
                ask = partial(_ask, upstream, asked, gone, share)
                if keep and self._kept is not None and body is not None:
                    found = self._kept.find(self._question(body, upstream.name), ask, gone)
                    if not found.computed:
                        share.take(len(found.answer.body))
                else:
                    found = computed_only(ask())
            # The memory is in use until the last byte is on its way.
            return found_response(found, held.pop_all(), tell=keep)

    def ask(
        self, upstream: Upstream, path: str, *, body: bytes, model_id: str | None, version: ServedVersion | None = None
    ) -> tuple[Found, ExitStack]:
        """A service's answer to a JSON body, in JSON; `found_response` closes the stack when it is sent.

        Args:
            upstream: Who answers.
            path: Without a query.
            body: What is asked.
            model_id: Requests with the same one go to the same address, which has that model at hand.
            version: With it the same body always has the same answer, which is kept; None: it is computed.
        """
        gone = partial(client_gone, request.environ)
        with ExitStack() as held:
            share = held.enter_context(self._budget.share())
            share.take(len(body))
            headers = {**upstream_headers(request), "Content-Type": "application/json"}
            if model_id is not None:
                headers["X-Model-Id"] = model_id
            asked = UpstreamRequest("POST", path, "json", headers, body)
            ask = partial(_ask, upstream, asked, gone, share, affinity=model_id)
            with self._places.place():
                if version is None or self._kept is None:
                    found = computed_only(ask())
                else:
                    question = self._question_of_model(path, body, version, upstream.name)
                    # The model may have got another version meanwhile, or the service not have heard of it yet.
                    is_of_version = partial(_is_of, version)
                    found = self._kept.find(question, ask, gone, is_to_question=is_of_version)
                    if not found.computed:
                        share.take(len(found.answer.body))
            return found, held.pop_all()

    def change(
        self, upstream: Upstream, path: str, picture: bytes, *, content_type: str, options: Mapping[str, str]
    ) -> tuple[Found, ExitStack]:
        """A service's picture of a picture; `send_with` closes the stack when it is sent. Equal ones are computed once.

        Args:
            upstream: Who answers.
            path: Without the query.
            picture: The file.
            content_type: Of the file.
            options: The query.
        """
        gone = partial(client_gone, request.environ)
        with ExitStack() as held:
            share = held.enter_context(self._budget.share())
            headers = {**upstream_headers(request), "Content-Type": content_type, "Accept": "*/*"}
            asked = UpstreamRequest("POST", f"{path}?{urlencode(options)}", "picture", headers, picture)
            ask = partial(_ask, upstream, asked, gone, share)
            question = Question(
                tenant=current_caller().tenant,
                route=f"{upstream.name}{path}",
                query=tuple(options.items()),
                content_type=content_type,
                accept="*/*",
                body_sha256=sha256(picture).hexdigest(),
                code_version=self._code_version(upstream.name),
            )
            with self._places.place():
                found = computed_only(ask()) if self._kept is None else self._kept.find(question, ask, gone)
                if not found.computed:
                    share.take(len(found.answer.body))
            return found, held.pop_all()

    def _question_of_model(self, path: str, body: bytes, version: ServedVersion, service: str) -> Question:
        return Question(
            tenant=current_caller().tenant,
            route=path,
            query=(),
            content_type="application/json",
            accept="",
            body_sha256=sha256(body).hexdigest(),
            code_version=self._code_version(service),
            model_version=version.weights,
        )

    def _question(self, body: ReceivedBody, service: str) -> Question:
        return Question(
            tenant=current_caller().tenant,
            route=request.path,
            query=tuple(request.args.items(multi=True)),
            content_type=body.content_type,
            accept=request.headers.get("Accept", ""),
            body_sha256=body.sha256,
            code_version=self._code_version(service),
        )


def upstream_headers(request: Request) -> dict[str, str]:
    """What a service behind is told of the request besides its body."""
    headers = {name: request.headers[name] for name in _SENT_ON if name in request.headers}
    headers["X-Request-ID"] = current_request_id()
    return headers


def found_response(found: Found, held: ExitStack, *, tell: bool) -> Response:
    """The answer as the client gets it; the GPU time of a computed one is noted.

    Args:
        found: The answer, kept when it is sent if it is to be.
        held: Closed when it is sent.
        tell: Whether ``X-Cache`` says how it came.
    """
    answer = found.answer
    body = bytes(answer.body) if len(answer.body) <= SENT_BYTES else _pieces(answer.body)
    response = Response(body, status=answer.status, content_type=answer.content_type)
    response.content_length = len(answer.body)
    response.headers.extend(answer.headers.items())
    send_with(response, found, held, tell=tell)
    return response


def send_with(response: Response, found: Found, held: ExitStack, *, tell: bool) -> None:
    """Sends what was found as part of a response; as `found_response` for the rest."""
    if found.computed:
        usage_notes().gpu_seconds += seconds_of(found.answer.headers.get(RUN_SECONDS, ""))
        held.callback(found.keep)  # before the memory is given back
    response.call_on_close(held.close)
    if tell:
        response.headers["X-Cache"] = "miss" if found.computed else "hit"


def _is_of(version: ServedVersion, answer: UpstreamAnswer) -> bool:
    return answer.headers.get(MODEL_VERSION) == version.told


def _pieces(body: bytes | bytearray) -> Iterator[bytes]:
    """The body as the server takes it, in `bytes`: itself, or copies that lie in the processor's cache when they are
    sent."""
    if isinstance(body, bytes):
        yield body
        return
    with memoryview(body) as view:
        for start in range(0, len(body), SENT_BYTES):
            yield bytes(view[start : start + SENT_BYTES])


def _ask(
    upstream: Upstream,
    asked: UpstreamRequest,
    gone: Callable[[], bool],
    share: BudgetShare,
    *,
    affinity: str | None = None,
) -> UpstreamAnswer:
    began_s = time.monotonic()
    try:
        return upstream.ask(asked, client_gone=gone, take_bytes=share.take, affinity=affinity)
    except ClientGone:
        # How long the GPU was at it nobody says any more. Were it nothing, a tenant could leave each time just before
        # the end and never come to its limit.
        usage_notes().gpu_seconds += time.monotonic() - began_s
        raise


def _with_query(path: str) -> str:
    query = request.query_string.decode("latin-1")
    return f"{path}?{query}" if query else path


def seconds_of(text: str) -> float:
    """What a service says of its time; 0 where that is no time."""
    try:
        seconds = float(text)
    except ValueError:
        return 0.0
    return seconds if 0 <= seconds < float("inf") else 0.0
