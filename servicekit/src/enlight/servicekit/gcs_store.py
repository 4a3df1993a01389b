"""A bucket in Google Cloud Storage: what ``gs://`` means.

Left alone, Google's client repeats a failing call for 120 s and waits a minute for each answer. Every call
here passes its own limits. Uploads are repeated only under a precondition, so that a late repeat cannot
undo somebody else's newer write. Downloads are repeated here rather than in the client, because the client
counts its limit from the start of the call: a large model whose connection breaks late would get no second
try.

The endpoint is the public one, or what the client's own ``STORAGE_EMULATOR_HOST`` names, or ``endpoint``
(both without credentials). The time that resolving a host name takes is the operating system's and not
limited here.
"""

from __future__ import annotations

import base64
import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import google_crc32c
import requests
import urllib3
from google.api_core import exceptions as api_errors
from google.auth import exceptions as auth_errors
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Blob, Bucket, Client
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse
from google.cloud.storage.retry import DEFAULT_RETRY

from enlight.servicekit.errors import Conflict, CorruptModel, NotFound, ServiceError, StorageUnavailable
from enlight.servicekit.object_store import (
    CHUNK_BYTES,
    SMALL_OBJECT_BYTES,
    ObjectInfo,
    check_key,
    check_prefix,
)

_Result = TypeVar("_Result")

_logger = logging.getLogger(__name__)

_CONNECTIONS = 32
"""Kept-open connections per process; a call beyond them opens its own."""

_UPLOAD_CHUNK_BYTES = 16 << 20
"""A large upload goes in chunks of this size, each held in memory and repeated on its own when it fails."""

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
_TRANSIENT_STATUSES = (408, 429, 500, 502, 503, 504)
_BROKEN_REPLY = (
    ValueError,  # a damaged header or body
    ConnectionError,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    auth_errors.TransportError,
    api_errors.RetryError,
    DataCorruption,
)


class GcsStore:
    """``ObjectStore`` over one bucket; ``prefix`` (no slash at its end) goes before every key.

    ``timeout_s`` limits connecting and each wait for bytes, ``retry_total_s`` the time in which failures are
    repeated. Nothing is sent before the first call.
    """

    def __init__(
        self,
        bucket: str,
        *,
        prefix: str = "",
        timeout_s: float,
        retry_total_s: float,
        endpoint: str | None = None,
    ) -> None:
        self._bucket_name = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._timeout_s = timeout_s
        self._retry_total_s = retry_total_s
        self._endpoint = endpoint
        self._client_lock = threading.Lock()
        self._client: Client | None = None

    def put_file(self, key: str, path: Path, *, if_absent: bool = False) -> None:
        """See ``ObjectStore.put_file``."""
        blob = self._blob(key, chunk_size=_UPLOAD_CHUNK_BYTES)
        with self._errors(f"write {key}", missing_is_failure=True):
            blob.upload_from_filename(
                str(path),
                content_type="application/octet-stream",
                checksum="crc32c",
                **self._upload_options(0 if if_absent else None),
            )

    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False, if_generation: int | None = None) -> int:
        """See ``ObjectStore.put_bytes``."""
        if len(data) > SMALL_OBJECT_BYTES:
            raise ValueError(f"{key} has {len(data)} bytes: put_file is for large objects")
        blob = self._blob(key)
        with self._errors(f"write {key}", missing_is_failure=True):
            blob.upload_from_string(
                data,
                content_type="application/octet-stream",
                checksum="crc32c",
                **self._upload_options(0 if if_absent else if_generation),
            )
            if blob.crc32c != _crc32c(data):
                raise StorageUnavailable(f"The bucket received other bytes for {key} than were sent.")
            return int(blob.generation)

    def get_bytes(self, key: str, *, max_bytes: int = SMALL_OBJECT_BYTES) -> tuple[bytes, int]:
        """See ``ObjectStore.get_bytes``."""

        def attempt() -> tuple[bytes, int]:
            blob = self._blob(key)
            data = bytearray()

            def add(chunk: bytes) -> None:
                data.extend(chunk)
                if len(data) > max_bytes:
                    raise CorruptModel(f"The object {key} is larger than {max_bytes} bytes, more than it can be.")

            self._stream(blob, add, start=0, checksum="crc32c")
            return bytes(data), int(blob.generation or "none")

        with self._errors(f"read {key}"):
            return self._repeat(attempt)

    def download(self, key: str, sink: Callable[[bytes], object]) -> int:
        """See ``ObjectStore.download``. The object must not change meanwhile."""
        done = 0

        def count(chunk: bytes) -> None:
            nonlocal done
            sink(chunk)
            done += len(chunk)

        with self._errors(f"read {key}"):
            self._repeat(lambda: self._stream(self._blob(key), count, start=done, checksum=None), progress=lambda: done)
        return done

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """See ``ObjectStore.list``."""
        full_prefix = self._prefix + check_prefix(prefix)
        with self._errors(f"list {prefix!r}", missing_is_failure=True):
            blobs = self._bucket().list_blobs(
                prefix=full_prefix,
                fields="items(name,size,updated),nextPageToken",
                timeout=self._timeout_s,
                retry=self._retry,
            )
            for blob in blobs:
                yield ObjectInfo(blob.name.removeprefix(self._prefix), blob.size, blob.updated.timestamp())

    def delete(self, key: str) -> None:
        """See ``ObjectStore.delete``."""
        blob = self._blob(key)
        try:
            with self._errors(f"delete {key}"):
                blob.delete(timeout=self._timeout_s, retry=self._retry)
        except NotFound:
            return

    @property
    def _retry(self) -> Any:  # noqa: ANN401 - google.api_core has no types
        pauses = DEFAULT_RETRY.with_delay(initial=_FIRST_PAUSE_S, maximum=_LONGEST_PAUSE_S)
        return pauses.with_timeout(self._retry_total_s)

    def _upload_options(self, if_generation: int | None) -> dict[str, Any]:
        return {
            "timeout": self._timeout_s,
            "if_generation_match": if_generation,
            "retry": self._retry if if_generation is not None else None,
        }

    def _stream(self, blob: Blob, sink: Callable[[bytes], None], *, start: int, checksum: str | None) -> None:
        stream = _SinkStream(sink)
        try:
            blob.download_to_file(
                stream,
                start=start or None,
                raw_download=True,  # as stored: a compressed object is never inflated
                checksum=checksum,
                timeout=self._timeout_s,
                retry=None,
            )
        except Exception:
            stream.flush()  # what arrived before the break counts: the next try goes on behind it
            raise
        stream.flush()

    def _repeat(self, attempt: Callable[[], _Result], *, progress: Callable[[], int] = lambda: 0) -> _Result:
        done = progress()
        pause_s = _FIRST_PAUSE_S
        deadline = time.monotonic() + self._retry_total_s
        while True:
            try:
                return attempt()
            except Exception as error:
                if not _is_transient(error):
                    raise
                if progress() > done:
                    done, pause_s = progress(), _FIRST_PAUSE_S
                    deadline = time.monotonic() + self._retry_total_s
                wait_s = random.uniform(0.0, pause_s)  # full jitter: many callers do not come back as one
                if time.monotonic() + wait_s >= deadline:
                    raise
            time.sleep(wait_s)
            pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)

    def _blob(self, key: str, *, chunk_size: int | None = None) -> Blob:
        check_key(key)
        return self._bucket().blob(self._prefix + key, chunk_size=chunk_size)

    def _bucket(self) -> Bucket:
        with self._client_lock:
            if self._client is None:
                with self._errors("log in"):
                    self._client = _make_client(self._endpoint, self._timeout_s)
            return self._client.bucket(self._bucket_name)

    @contextmanager
    def _errors(self, action: str, *, missing_is_failure: bool = False) -> Iterator[None]:
        try:
            yield
        except _SinkFailed as failure:
            raise failure.error from None
        except ServiceError:
            raise
        except Exception as error:  # a reply damaged on its way makes the client raise anything
            _logger.info("The bucket failed to %s: %s: %.500s", action, type(error).__name__, error)
            raise self._translate(error, action, missing_is_failure) from error

    def _translate(self, error: Exception, action: str, missing_is_failure: bool) -> ServiceError:
        status = _status(error)
        if status == 412:
            return Conflict(f"The bucket did not {action}: it was made or changed by somebody else.")
        if status == 404 and not missing_is_failure:
            return NotFound(f"The bucket has no such object: it could not {action}.")
        if status == 404:
            return StorageUnavailable(f"There is no bucket {self._bucket_name}.")
        if status in (401, 403):
            return StorageUnavailable(f"The bucket refused to {action}: these credentials do not allow it.")
        reason = f"status {status}" if status else type(error).__name__
        return StorageUnavailable(f"The bucket failed to {action}: {reason}.")


class _SinkFailed(BaseException):
    """Carries the sink's exception through the client, which must neither repeat nor wrap it."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(error)
        self.error = error


class _SinkStream:
    """What the client writes its pieces of 8 KiB to; the sink gets chunks of CHUNK_BYTES."""

    def __init__(self, sink: Callable[[bytes], None]) -> None:
        self._sink = sink
        self._buffer = bytearray()

    def write(self, piece: bytes) -> int:
        self._buffer += piece
        if len(self._buffer) >= CHUNK_BYTES:
            self.flush()
        return len(piece)

    def flush(self) -> None:
        if self._buffer:
            chunk = bytes(self._buffer)
            self._buffer.clear()
            try:
                self._sink(chunk)
            except BaseException as error:
                raise _SinkFailed(error) from error


def _make_client(endpoint: str | None, timeout_s: float) -> Client:
    if endpoint is None:
        # The client finds its credentials, or STORAGE_EMULATOR_HOST, itself; then they move to a session of
        # ours.
        client = Client()
        credentials, project = client._credentials, client.project or "none"
    else:
        credentials, project = AnonymousCredentials(), "none"  # type: ignore[no-untyped-call]
    # Google's own session waits up to 300 s for a new token after a 401, and keeps 10 connections.
    session = AuthorizedSession(credentials, refresh_timeout=timeout_s)  # type: ignore[no-untyped-call]
    for scheme in ("https://", "http://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS))
    options = None if endpoint is None else {"api_endpoint": endpoint}
    client = Client(project=project, credentials=credentials, _http=session, client_options=options)
    # With OpenTelemetry installed this cache asks for the bucket's metadata from a thread of its own, for 120 s.
    client._bucket_metadata_cache = None
    return client


def _status(error: Exception) -> int | None:
    if isinstance(error, api_errors.RetryError):
        return _status(error.cause) if isinstance(error.cause, Exception) else None
    if isinstance(error, api_errors.GoogleAPICallError):
        return int(error.code) if error.code else None
    if isinstance(error, InvalidResponse):
        return int(error.response.status_code)
    return None


def _is_transient(error: Exception) -> bool:
    status = _status(error)
    if status is not None:
        return status in _TRANSIENT_STATUSES
    if isinstance(error, auth_errors.GoogleAuthError) and not isinstance(error, auth_errors.TransportError):
        return False
    return isinstance(error, _BROKEN_REPLY)


def _crc32c(data: bytes) -> str:
    return base64.b64encode(google_crc32c.value(data).to_bytes(4, "big")).decode("ascii")
