"""The skeleton of every service's HTTP application: what all of them answer, check, log and count alike."""

from __future__ import annotations

import logging
import random
import re
import select
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from json import JSONEncoder
from typing import TYPE_CHECKING, Any, Self

from flask import Flask, Request, Response, jsonify
from flask.json.provider import DefaultJSONProvider
from flask.sessions import NullSession, SessionInterface, SessionMixin
from flask_openapi.models.info import Info
from flask_openapi.models.tag import Tag
from flask_openapi.openapi import OpenAPI
from pydantic import ValidationError
from werkzeug.datastructures import MultiDict
from werkzeug.routing import MapAdapter

from enlight.servicekit import strict_json
from enlight.servicekit.errors import InvalidField, UnsupportedMediaType
from enlight.servicekit.http_bodies import ServiceRequest, body_too_large, this_request
from enlight.servicekit.http_docs import Document, add_documentation
from enlight.servicekit.http_errors import answer_error, invalid_field
from enlight.servicekit.logs import log_context
from enlight.servicekit.metrics import ServiceMetrics
from enlight.servicekit.process import WorkerState
from enlight.servicekit.schemas import ErrorBody, LiveBody, ReadyBody, ServiceInfo
from enlight.servicekit.tracing import TRACE_HEADERS, Span, tracer

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger(__name__)

MIB = 1 << 20
QUIET_RULES = frozenset({"/live", "/ready", "/metrics", "/v1/status"})
"""Asked every few seconds by machines: not logged at level info."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)
"""Of every answer that does not say otherwise."""


@dataclass(frozen=True)
class Readiness:
    """What ``/ready`` answers: 200 for ``ready`` and ``busy``, 503 for ``starting`` and ``defunct``."""

    state: str
    details: Mapping[str, object] = field(default_factory=dict)


def create_service_app(
    *,
    service: str,
    version: str,
    description: str,
    readiness: Callable[[], Readiness],
    default_body_limit_bytes: int,
    body_limits: Mapping[str, int] | None = None,
    metrics: ServiceMetrics | None = None,
    error_fields: Mapping[str, object] | None = None,
    authenticate: Callable[[], None] = lambda: None,
    finish_document: Callable[[Document], None] = lambda document: None,
    front_page: bool = True,
) -> OpenAPI:
    """An application with the common routes; a service adds its own with ``@app.post("/train", ...)``.

    ``body_limits`` maps a route's rule to its limit in bytes. ``error_fields`` is put into every error body besides
    the common fields. ``authenticate`` is called before anything else of a request is looked at, its size included,
    and raises for one that may not be here. ``finish_document`` adds to ``/openapi.json`` what holds for all routes.
    ``front_page``: False for a service that has one of its own at ``/``.
    Views contain no ``try``: they raise ServiceErrors, anything else is answered with 500.
    """
    app = _Application(
        "enlight.servicekit",
        info=Info(title=service, version=version, description=description),
        doc_ui=False,
        validation_error_callback=_refuse_fields,
        validation_error_model=ErrorBody,
        static_folder=None,
        template_folder=None,
    )
    app.openapi_version = "3.1.0"  # nothing newer is used, and more tools read it than 3.2.0
    app.request_class = ServiceRequest
    app.json = ServiceJson(app)
    app.wsgi_app = _WithHeaders(app.wsgi_app)  # type: ignore[method-assign]  # Flask's own way to wrap it
    app.url_map.merge_slashes = False  # one URL per thing, and no redirect built from a Host header
    app.extensions["metrics"] = metrics or ServiceMetrics()
    _add_request_checks(app, authenticate, default_body_limit_bytes, body_limits or {})
    _add_observation(app, app.extensions["metrics"])
    app.register_error_handler(Exception, lambda error: answer_error(error, error_fields or {}))
    common: list[Tag | dict[str, Any]] = [Tag(name="service", description="What every service of the suite answers.")]
    if front_page:
        _add_front_page(app, common, service, version)
    _add_common_routes(app, common, readiness)
    add_documentation(app, common, error_fields=error_fields or {}, finish=finish_document)
    return app


def client_gone(environ: Mapping[str, Any]) -> bool:
    """True when the client closed its side of the connection; for work that is dropped when nobody waits for it.

    ``environ`` is ``flask.request.environ``. Under another server than gunicorn the answer is always False.
    """
    client = environ.get("gunicorn.socket")
    if not isinstance(client, socket.socket):
        return False
    if client.fileno() < 0:
        return True
    poll = select.poll()
    # POLLRDHUP sees a close behind data that nobody read, and through TLS, where peeking at the socket cannot.
    poll.register(client, select.POLLRDHUP)
    return bool(poll.poll(0))


class _NoSessions(SessionInterface):
    """Flask's cookie, which nobody here uses, is not looked for."""

    _none = NullSession()

    def open_session(self, app: Flask, request: Request) -> SessionMixin:
        """An empty one that refuses to be changed."""
        return self._none


class _Application(OpenAPI):
    session_interface = _NoSessions()

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Which routes there are for a request, whatever host it asks: no route depends on it, no URL is made of it."""
        if request is None:
            return None
        return self.url_map.bind("", path_info=request.path, default_method=request.method)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself: none here is a coroutine, which Flask looks for at every call of every one."""
        return func


class _WithHeaders:
    """A WSGI application whose answers have `_HEADERS`, but for those that they have of their own."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *error: Any) -> Callable[[bytes], object]:  # noqa: ANN401
            given = {name.lower() for name, _ in headers}
            return start_response(status, headers + [each for each in _HEADERS if each[0].lower() not in given], *error)

        return self._app(environ, start)


class ServiceJson(DefaultJSONProvider):
    """Strict JSON in, and out: NaN is a bug here, not a token."""

    compact = True
    _to_text = JSONEncoder(allow_nan=False, separators=(",", ":"), default=DefaultJSONProvider.default).encode
    """Made once; `json.dumps` makes one for each answer."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:  # noqa: ANN401 — any JSON; always in the same form
        """JSON text."""
        return self._to_text(obj)

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:  # noqa: ANN401 — any JSON
        """The value of a JSON text. Raises InvalidRequest."""
        return strict_json.loads(s)


def new_request_id() -> str:
    """32 hex digits that no other request has; no secret."""
    return f"{random.getrandbits(128):032x}"  # without the system call that uuid4 makes


def _refuse_fields(error: ValidationError) -> None:
    raise invalid_field(error)


def _add_request_checks(
    app: OpenAPI, authenticate: Callable[[], None], default_limit_bytes: int, limits: Mapping[str, int]
) -> None:
    @app.before_request
    def check_request() -> None:
        request = this_request()
        given_id = request.environ.get("HTTP_X_REQUEST_ID", "")
        request.request_id = given_id if _REQUEST_ID.fullmatch(given_id) else new_request_id()
        request.rule = request.url_rule.rule if request.url_rule else None
        request.started_s = time.monotonic()
        request.span = _begin_span(request)
        request.entered = ExitStack()
        request.entered.enter_context(log_context(request_id=request.request_id))
        request.entered.enter_context(request.span.active())
        authenticate()
        limit_bytes = limits.get(request.rule or "", default_limit_bytes)
        request.max_content_length = limit_bytes
        if request.content_length is not None and request.content_length > limit_bytes:
            raise body_too_large(limit_bytes)
        encoding = request.environ.get("HTTP_CONTENT_ENCODING", "").strip().lower()
        if encoding not in ("", "identity"):
            raise UnsupportedMediaType("Send the body without a Content-Encoding.")
        if request.query_string:
            _refuse_repeated(request.args)

    @app.teardown_request
    def leave_contexts(error: BaseException | None) -> None:
        if (entered := this_request().entered) is not None:
            entered.close()


def _begin_span(request: ServiceRequest) -> Span:
    if not tracer().keeps or request.rule in QUIET_RULES:
        return Span()
    known = {"http.request.method": request.method[:20], "enlight.request_id": request.request_id}
    if request.rule is not None:
        known["http.route"] = request.rule
    name = f"{request.method[:20]} {request.rule or '(no route)'}"
    parent = {header: request.headers[header] for header in TRACE_HEADERS if header in request.headers}
    return tracer().begin(name, kind="server", parent=parent, attributes=known)


def _refuse_repeated(query: MultiDict[str, str]) -> None:
    # One of them would be taken, and nobody told which.
    for name, values in query.lists():
        if len(values) > 1:
            raise InvalidField.of(name[:100], "must be given once")


def _add_observation(app: OpenAPI, metrics: ServiceMetrics) -> None:
    @app.after_request
    def finish(response: Response) -> Response:
        request = this_request()
        response.headers["X-Request-ID"] = request.request_id
        if response.is_streamed:
            response.response = _PiecesWithin(request.span, request.request_id, response.response)
            response.call_on_close(partial(_observe, metrics, request, response))
        else:
            _observe(metrics, request, response)
        return response


def _observe(metrics: ServiceMetrics, request: ServiceRequest, response: Response) -> None:
    """Counts, logs and traces a request at the end of its answer."""
    duration_s, status = time.monotonic() - request.started_s, response.status_code
    metrics.observe_request(request.method, request.rule, status, duration_s)
    level = logging.DEBUG if request.rule in QUIET_RULES else logging.INFO
    if logger.isEnabledFor(level):
        observed = {
            "method": request.method[:20],
            "rule": request.rule or request.path[:200],
            "status": status,
            "request_bytes": request.content_length,
            "request_id": request.request_id,
            "duration_s": round(duration_s, 4),
            "bytes": response.content_length,
        }
        if request.told_error is not None:
            observed["error_code"] = request.told_error.code
        with request.span.active():
            logger.log(level, "%s %s %d", observed["method"], observed["rule"], status, extra=observed)
    request.span.note({"http.response.status_code": status})
    code = str(status) if request.told_error is None else request.told_error.code
    request.span.end(code if status >= 500 else None)


class _PiecesWithin:
    """The pieces of a streamed answer, each made under the request's id and span: the request is over by then."""

    def __init__(self, span: Span, request_id: str, pieces: Iterable[Any]) -> None:
        self._span = span
        self._request_id = request_id
        self._pieces = iter(pieces)
        self.close: Callable[[], None] = getattr(pieces, "close", lambda: None)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:  # noqa: ANN401 — what Flask makes bytes of
        with log_context(request_id=self._request_id), self._span.active():
            return next(self._pieces)


def _add_front_page(app: OpenAPI, common: list[Tag | dict[str, Any]], service: str, version: str) -> None:
    hostname = socket.gethostname()

    @app.get("/", tags=common, summary="Which service this is", responses={200: ServiceInfo})
    def index() -> Response:
        return jsonify(
            {
                "message": f"{service} is running.",
                "service": service,
                "version": version,
                "hostname": hostname,
                "docs": "/docs",
            }
        )


def _add_common_routes(app: OpenAPI, common: list[Tag | dict[str, Any]], readiness: Callable[[], Readiness]) -> None:
    metrics: ServiceMetrics = app.extensions["metrics"]

    @app.get("/live", tags=common, summary="The process answers", responses={200: LiveBody})
    def live() -> Response:
        return jsonify({"status": "live"})

    @app.get("/ready", tags=common, summary="Whether requests are welcome", responses={200: ReadyBody, 503: ReadyBody})
    def ready() -> Response:
        now = readiness()
        response = jsonify({"state": now.state, "details": dict(now.details)})
        response.status_code = 200 if now.state in (WorkerState.READY, WorkerState.BUSY) else 503
        return response

    text = {"description": "OK", "content": {"text/plain": {"schema": {"type": "string"}}}}

    @app.get("/metrics", tags=common, summary="Prometheus metrics", responses={200: text})
    def prometheus() -> Response:
        return Response(metrics.text(), content_type=metrics.content_type)
