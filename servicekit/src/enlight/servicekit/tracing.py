"""Traces of requests and jobs over all processes, in OpenTelemetry's form. Off unless asked for, and not imported then.

Where traces go, which of them and how much is kept of them on the way stands in OpenTelemetry's own variables
(``OTEL_EXPORTER_OTLP_ENDPOINT``, ``OTEL_TRACES_SAMPLER`` ...), which its packages read themselves. No attribute holds a
prompt, a picture, a key or a tenant.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from typing import Literal, NamedTuple

from enlight.servicekit.settings import SettingsError, traces_wanted

Attributes = Mapping[str, str | int | float | bool]
SpanKind = Literal["server", "client", "consumer", "internal"]

TRACE_HEADERS = ("traceparent", "tracestate")
"""W3C's, in which one process tells another what it works for."""
STOP_TIMEOUT_S = 3.0
"""What a process that ends waits for its last spans to be sent."""

_PACKAGES = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
_HERE = nullcontext()


class Stage(NamedTuple):
    """A part of some work that is over, by the machine's monotonic clock: it may have been another process's."""

    name: str
    began_s: float
    ended_s: float


class Span:
    """Something that takes its time. This one is of a process without traces: it takes all and keeps nothing."""

    trace_parent: str | None = None
    """Names it to whoever goes on with its work, in W3C's form."""

    def active(self) -> AbstractContextManager[object]:
        """Within it, what this thread begins belongs to this span, and its log lines carry the trace's id."""
        return _HERE

    def headers(self) -> dict[str, str]:
        """What tells a service that it works for this span."""
        return {}

    def note(self, attributes: Attributes) -> None:
        """Says more about it."""

    def end(self, error: str | None = None) -> None:
        """It is over; ``error``: the code of what went wrong."""


class Tracer:
    """Makes spans; this one makes none."""

    keeps = False
    """Whether spans are kept: what only they need is not made without."""

    def begin(
        self,
        name: str,
        *,
        kind: SpanKind = "internal",
        parent: Mapping[str, str] | None = None,
        attributes: Attributes | None = None,
    ) -> Span:
        """A span that has begun, and is not active yet.

        Args:
            name: Few different ones: no id in it.
            kind: Its part in a call.
            parent: The `TRACE_HEADERS` of whom it works for, which may be none; None: it is a part of the active span.
            attributes: What is known of it.
        """
        return _NO_SPAN

    def record(self, stages: Iterable[Stage]) -> None:
        """Spans that are over, of the active one."""

    def trace_parent(self) -> str | None:
        """Names the active span; None: there is none."""
        return None

    def stop(self) -> None:
        """Sends what there is, for `STOP_TIMEOUT_S` at most."""


_NO_SPAN = Span()
_tracer = Tracer()


def require_packages() -> None:
    """Raises SettingsError: traces are asked for, and what makes them is not installed."""
    if traces_wanted() and not all(_is_installed(package) for package in _PACKAGES):
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, and OpenTelemetry is not installed: "
            "pip install 'enlight-servicekit[tracing]', or unset it."
        )


def start_tracing(service: str) -> None:
    """Begins to trace this process, if the environment asks for it. After a fork, not before: a thread sends.

    Raises: SettingsError, see `require_packages`.
    """
    global _tracer
    if traces_wanted():
        require_packages()
        from enlight.servicekit.opentelemetry_tracer import OpenTelemetryTracer

        _tracer = OpenTelemetryTracer(service)


def stop_tracing() -> None:
    """The process ends: what was traced is sent, as far as that goes quickly."""
    global _tracer
    stopped, _tracer = _tracer, Tracer()
    stopped.stop()


def tracer() -> Tracer:
    """Of this process."""
    return _tracer


@contextmanager
def span(
    name: str,
    *,
    kind: SpanKind = "internal",
    parent: Mapping[str, str] | None = None,
    attributes: Attributes | None = None,
) -> Iterator[Span]:
    """A span as long as the block, active in it; see `Tracer.begin`. An error that leaves the block is its error."""
    begun = _tracer.begin(name, kind=kind, parent=parent, attributes=attributes)
    error: str | None = None
    try:
        with begun.active():
            yield begun
    except BaseException as raised:
        error = type(raised).__name__
        raise
    finally:
        begun.end(error)


def _is_installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
