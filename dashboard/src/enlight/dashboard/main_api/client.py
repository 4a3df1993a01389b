"""main-api's public routes, asked with somebody's key. Its errors come out as the errors that they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, cast
from urllib.parse import urlencode

from flask import g
from urllib3 import BaseHTTPResponse, PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError, MaxRetryError, ReadTimeoutError
from urllib3.exceptions import TimeoutError as AnyTimeoutError

from enlight.servicekit.errors import (
    InternalError,
    ServiceError,
    UpstreamFailed,
    UpstreamTimeout,
    WireError,
    WorkerUnavailable,
    error_classes,
    error_from_wire,
)
from enlight.servicekit.logs import current_request_id
from enlight.servicekit.tracing import span

CONNECT_TIMEOUT_S = 3.0
MAX_JSON_BYTES = 16 << 20
MAX_ERROR_BYTES = 64 << 10
CONNECTIONS_KEPT = 32
_TRY_AGAIN = Retry(total=1, connect=1, read=0, redirect=0, status=0, other=0, backoff_factor=0.1)
"""A connection that was never made can be made again, whatever was to be asked."""

Query = Mapping[str, str | int | float | bool | None]


class MainApi:
    """One main-api.

    Args:
        url: Its address.
        read_timeout_s: Limit of what it answers from its records.
        work_timeout_s: Limit of what it computes.
    """

    def __init__(self, url: str, *, read_timeout_s: float, work_timeout_s: float) -> None:
        self.url = url
        self.read_timeout_s = read_timeout_s
        self.work_timeout_s = work_timeout_s
        self.pool = PoolManager(maxsize=CONNECTIONS_KEPT, block=False, retries=_TRY_AGAIN)

    def with_key(self, key: str | None) -> ApiOfSomebody:
        """Its routes for the owner of ``key``; None: main-api asks for no keys."""
        return ApiOfSomebody(self, key)


class ApiOfSomebody:
    """main-api's routes, with one key. Each method raises what main-api answers, as the same class of error, and

    WorkerUnavailable: it cannot be reached; UpstreamTimeout: it does not answer in time; UpstreamFailed: its answer is
    none of its own.
    """

    def __init__(self, api: MainApi, key: str | None) -> None:
        self._api = api
        self._key = key

    def get(self, path: str, query: Query | None = None) -> dict[str, Any]:
        """What a record says."""
        return self._json(self.open("GET", path, query=query))

    def post(
        self, path: str, body: Mapping[str, object] | None = None, *, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Has something done; waits for as long as work may take."""
        data = None if body is None else json.dumps(body).encode()
        return self._json(self.open("POST", path, data=data, headers=headers, timeout_s=self._api.work_timeout_s))

    def post_stream(
        self, path: str, pieces: Iterable[bytes], length_bytes: int, *, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """The same with a JSON body of ``length_bytes`` that is made as it is sent."""
        sized = {"Content-Length": str(length_bytes), **(headers or {})}
        return self._json(self.open("POST", path, data=pieces, headers=sized, timeout_s=self._api.work_timeout_s))

    def delete(self, path: str) -> dict[str, Any]:
        """Has something removed; the answer may be empty."""
        return self._json(self.open("DELETE", path, timeout_s=self._api.work_timeout_s))

    def open(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        data: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> BaseHTTPResponse:
        """An answer whose body is not read yet; whoever takes it closes it.

        Args:
            method: HTTP's.
            path: A route's, with ids in it that are quoted.
            query: What is None or empty is left out.
            data: A JSON body.
            headers: Besides those that every request has.
            timeout_s: Limit of each silence; None: of an answer from records.
        """
        url = f"{self._api.url}{path}"
        given = {name: _in_a_query(value) for name, value in (query or {}).items() if value not in (None, "")}
        if given:
            url += f"?{urlencode(given)}"
        sent = {"Accept": "*/*", "X-Request-ID": current_request_id(), **(headers or {})}
        if self._key is not None:
            sent["Authorization"] = f"Bearer {self._key}"
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        timeout = Timeout(connect=CONNECT_TIMEOUT_S, read=timeout_s or self._api.read_timeout_s)
        with span(f"{method} main-api", kind="client", attributes={"http.request.method": method}) as calling:
            sent |= calling.headers()
            try:
                answer = self._api.pool.request(
                    method, url, body=data, headers=sent, timeout=timeout, preload_content=False, redirect=False
                )
            except HTTPError as error:
                raise _unreachable(error) from error
            calling.note({"http.response.status_code": answer.status})
        if answer.status >= 300 and answer.status != 304:
            try:
                raise _error_of(answer)
            finally:
                _put_away(answer)
        return answer

    def _json(self, answer: BaseHTTPResponse) -> dict[str, Any]:
        try:
            text = answer.read(MAX_JSON_BYTES + 1)
            if answer.status == 204 and not text:
                return {}
            value = json.loads(text) if len(text) <= MAX_JSON_BYTES else None
        except HTTPError as error:
            raise _unreachable(error) from error
        except ValueError:
            value = None
        finally:
            _put_away(answer)
        if not isinstance(value, dict):
            raise UpstreamFailed("main-api's answer cannot be read. Its log says more.")
        return value


def current_api() -> ApiOfSomebody:
    """main-api for whoever looks at the page."""
    return cast(ApiOfSomebody, g.api)


def _in_a_query(value: object) -> object:
    return str(value).lower() if isinstance(value, bool) else value


def _error_of(answer: BaseHTTPResponse) -> ServiceError:
    known = {error_class.code for error_class in error_classes()}
    try:
        body = json.loads(answer.read(MAX_ERROR_BYTES))
        message, code = str(body["message"]), str(body["error"]["code"])
        details = dict(body["error"]["details"])
    except (HTTPError, ValueError, KeyError, TypeError):
        return UpstreamFailed(f"main-api answered {answer.status} without saying why. Its log says more.")
    wait = answer.headers.get("Retry-After", "")
    retry_after_s = int(wait) if wait.isdecimal() else None
    if code in known:
        error = error_from_wire(WireError(code, message, details, retry_after_s))
    else:
        error = InternalError(message, details=details, retry_after_s=retry_after_s)
        error.code = code
    error.status = answer.status
    return error


def _unreachable(error: HTTPError) -> ServiceError:
    cause = error.reason if isinstance(error, MaxRetryError) else error
    if isinstance(cause, ReadTimeoutError):
        return UpstreamTimeout("main-api did not answer in time. What was begun may still go on.")
    if isinstance(cause, AnyTimeoutError) or isinstance(error, MaxRetryError):
        return WorkerUnavailable(
            "main-api cannot be reached at the moment. Try again in a few seconds.", retry_after_s=3
        )
    return UpstreamFailed("main-api's answer broke off. Try again.")


def _put_away(answer: BaseHTTPResponse) -> None:
    with suppress(HTTPError, OSError):
        answer.drain_conn()
    answer.release_conn()
