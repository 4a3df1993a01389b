"""Logs as JSON, one line per event, on standard output, with the request and the job that each line belongs to.

The ids live in context variables: a request's thread sets them, and they travel with a task into a child process.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import partial
from typing import TextIO

MAX_MESSAGE_CHARS = 4_000
MAX_TRACE_CHARS = 20_000

_request_id: ContextVar[str] = ContextVar("request_id", default="")
_job_id: ContextVar[str] = ContextVar("job_id", default="")
_trace_id: ContextVar[str] = ContextVar("trace_id", default="")

_STANDARD_ATTRIBUTES = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


@dataclass(frozen=True)
class LogSettings:
    """What ``configure_logging`` was called with; child processes are configured alike."""

    service: str
    level: str


_configured: LogSettings | None = None


def current_request_id() -> str:
    """Id of the request that this code runs for; empty outside of one."""
    return _request_id.get()


def current_job_id() -> str:
    """Id of the job that this code runs for; empty outside of one."""
    return _job_id.get()


def current_trace_id() -> str:
    """Id of the trace that this code is part of; empty outside of one."""
    return _trace_id.get()


class log_context:  # noqa: N801 -- it is used like a function; as a generator it would cost each request more
    """Within it, every log line of this thread carries the ids; None leaves an id as it is."""

    def __init__(
        self, *, request_id: str | None = None, job_id: str | None = None, trace_id: str | None = None
    ) -> None:
        self._ids = ((_request_id, request_id), (_job_id, job_id), (_trace_id, trace_id))

    def __enter__(self) -> None:
        self._tokens = [(kept, kept.set(given)) for kept, given in self._ids if given is not None]

    def __exit__(self, *error: object) -> None:
        for kept, token in self._tokens:
            kept.reset(token)


def in_this_context(function: Callable[[], None]) -> Callable[[], None]:
    """``function`` for a thread of its own, whose log lines carry the ids of whoever asks for it here."""
    return partial(copy_context().run, function)


class JsonFormatter(logging.Formatter):
    """A record as one line of ASCII JSON: no field can start a new line or move a terminal's cursor.

    Keys: time (UTC), level, logger, message, service, pid, request_id, job_id and trace_id when set, ``extra`` fields,
    and exception (the trace). Long texts are cut.
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """One JSON object, without a line end."""
        seconds = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{seconds}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _cut(_message(record), MAX_MESSAGE_CHARS),
            "service": self._service,
            "pid": os.getpid(),
        }
        if request_id := _request_id.get():
            line["request_id"] = request_id
        if job_id := _job_id.get():
            line["job_id"] = job_id
        if trace_id := _trace_id.get():
            line["trace_id"] = trace_id
        for name, value in record.__dict__.items():
            if name not in _STANDARD_ATTRIBUTES and name not in line:
                line[name] = _plain(value)
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = _cut(self.formatException(record.exc_info), MAX_TRACE_CHARS)
        if record.stack_info:
            line["stack"] = _cut(record.stack_info, MAX_TRACE_CHARS)
        return json.dumps(line, default=str)


class JsonHandler(logging.StreamHandler[TextIO]):
    """Writes JSON lines to whatever ``sys.stdout`` is at that moment."""

    def __init__(self, service: str) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(JsonFormatter(service))

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        """Standard output, looked up late: a test or a daemon may have replaced it."""
        return sys.stdout


def configure_logging(service: str, level: str = "info") -> None:
    """Sends every logger's lines of this process to standard output as JSON. Safe to call again.

    Handlers that others put on the root logger stay. Raises ValueError for an unknown level.
    """
    global _configured
    root = logging.getLogger()
    root.setLevel(level.upper())
    for handler in [handler for handler in root.handlers if isinstance(handler, JsonHandler)]:
        root.removeHandler(handler)
    root.addHandler(JsonHandler(service))
    logging.captureWarnings(capture=True)
    _configured = LogSettings(service, level)


def configured_logging() -> LogSettings | None:
    """What ``configure_logging`` was called with last; None when it was not."""
    return _configured


def gunicorn_logging(service: str, level: str = "info") -> dict[str, object]:
    """A value for gunicorn's ``logconfig_dict``: its master's and workers' lines become JSON lines too."""
    propagate = {"level": level.upper(), "handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"json": {"()": "enlight.servicekit.logs.JsonHandler", "service": service}},
        "root": {"level": level.upper(), "handlers": ["json"]},
        "loggers": {"gunicorn.error": propagate, "gunicorn.access": propagate},
    }


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # a wrong format string must not lose the line
        return f"{record.msg} {record.args}"


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict | list | tuple):
        return _cut(json.dumps(value, default=str), MAX_MESSAGE_CHARS)
    return _cut(str(value), MAX_MESSAGE_CHARS)


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text)} characters)"
