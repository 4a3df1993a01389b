"""Spans that OpenTelemetry makes, and sends by OTLP over HTTP from a thread of its own. Imported only where wanted.

What cannot be sent is dropped: its queue is bounded (``OTEL_BSP_MAX_QUEUE_SIZE``), and nobody waits for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from enlight.servicekit.logs import log_context
from enlight.servicekit.tracing import STOP_TIMEOUT_S, Attributes, Span, SpanKind, Stage, Tracer

_log = logging.getLogger(__name__)

WARN_EVERY_S = 60.0
"""A receiver that is away is said at most this often, however many spans it costs."""

_KINDS: Mapping[SpanKind, trace.SpanKind] = {
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "consumer": trace.SpanKind.CONSUMER,
    "internal": trace.SpanKind.INTERNAL,
}
_NS = 1_000_000_000
_W3C = TraceContextTextMapPropagator()


class OpenTelemetryTracer(Tracer):
    """The spans of this process.

    Args:
        service: Whose they are.
    """

    keeps = True

    def __init__(self, service: str) -> None:
        _warn_seldom()
        # Not at exit: the provider would wait there for a receiver that hangs.
        self._provider = TracerProvider(resource=Resource.create({SERVICE_NAME: service}), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("enlight")

    def begin(
        self,
        name: str,
        *,
        kind: SpanKind = "internal",
        parent: Mapping[str, str] | None = None,
        attributes: Attributes | None = None,
    ) -> Span:
        """As `Tracer.begin`."""
        of = None if parent is None else _W3C.extract(dict(parent), context=context.Context())
        return _RecordedSpan(self._tracer.start_span(name, of, kind=_KINDS[kind], attributes=dict(attributes or {})))

    def record(self, stages: Iterable[Stage]) -> None:
        """As `Tracer.record`."""
        at_zero_ns = time.time_ns() - time.monotonic_ns()
        for stage in stages:
            began_ns, ended_ns = (at_zero_ns + round(at_s * _NS) for at_s in (stage.began_s, stage.ended_s))
            self._tracer.start_span(stage.name, start_time=began_ns).end(ended_ns)

    def trace_parent(self) -> str | None:
        """As `Tracer.trace_parent`."""
        return _headers(None).get("traceparent")

    def stop(self) -> None:
        """As `Tracer.stop`."""
        # The provider's own limit is not one of an export that is under way.
        sending = threading.Thread(target=self._provider.shutdown, name="last-spans", daemon=True)
        sending.start()
        sending.join(STOP_TIMEOUT_S)


class _RecordedSpan(Span):
    def __init__(self, recorded: trace.Span) -> None:
        self._recorded = recorded
        self._context = trace.set_span_in_context(recorded)
        self._trace_id = trace.format_trace_id(recorded.get_span_context().trace_id)
        self.trace_parent = self.headers()["traceparent"]

    @contextmanager
    def active(self) -> Iterator[None]:
        token = context.attach(self._context)
        try:
            with log_context(trace_id=self._trace_id):
                yield
        finally:
            context.detach(token)

    def headers(self) -> dict[str, str]:
        return _headers(self._context)

    def note(self, attributes: Attributes) -> None:
        self._recorded.set_attributes(dict(attributes))

    def end(self, error: str | None = None) -> None:
        if error is not None:
            self._recorded.set_attribute("error.type", error)
            self._recorded.set_status(StatusCode.ERROR)
        self._recorded.end()


class _SeldomWarnings(logging.Handler):
    """Takes OpenTelemetry's own lines, and says one of them in `WARN_EVERY_S`."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._next_s = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + WARN_EVERY_S
            _log.warning("traces are lost: %s", record.getMessage())


def _warn_seldom() -> None:
    lines = logging.getLogger("opentelemetry")
    if not any(isinstance(handler, _SeldomWarnings) for handler in lines.handlers):
        lines.propagate = False
        lines.addHandler(_SeldomWarnings())


def _headers(of: context.Context | None) -> dict[str, str]:
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, context=of)
    return carrier
