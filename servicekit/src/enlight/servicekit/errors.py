# ruff: noqa: N818 — named for what happened, as the contract's codes are: NotFound, not NotFoundError
"""Every error that leaves a service, as one tree; one function builds the body that a client sees.

::

    ServiceError                      status  code                    retryable
      ClientError
        InvalidRequest                400     invalid_request
        BrokenImage                   400     broken_image
        Unauthorized                  401     unauthorized
        Forbidden                     403     forbidden
        NotFound                      404     not_found
        MethodNotAllowed              405     method_not_allowed
        Conflict                      409     conflict
        JobCancelled                  409     job_cancelled
        BodyTooLarge                  413     body_too_large
        ImageTooLarge                 413     image_too_large
        UnsupportedMediaType          415     unsupported_media_type
        UnsupportedImage              415     unsupported_image
        InvalidField                  422     invalid_field
        QuotaExceeded                 429     quota_exceeded          retryable
        ClientGone                    499     client_gone
      CapacityError
        QueueFull                     503     queue_full              retryable
        WorkerUnavailable             503     worker_unavailable      retryable
        OutOfGpuMemory                503     out_of_gpu_memory       retryable
        StorageFull                   503     storage_full            retryable
      DependencyError
        UpstreamFailed                502     upstream_failed         retryable
        UpstreamTimeout               504     upstream_timeout        retryable
        StorageUnavailable            503     storage_unavailable     retryable
        DatabaseUnavailable           503     database_unavailable    retryable
        CorruptModel                  503     corrupt_model           retryable
        WeightsUnavailable            503     weights_unavailable     retryable
      InternalError                   500     internal_error
        JobFailed                     500     job_failed

Codes are stable and meant for programs; messages are for people and may change. Traces go to the log only.
``Cancelled`` stands outside of the tree: it derives from ``BaseException``, so that no ``except Exception`` on the
way out of a running job swallows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Self

RETRY_AFTER_S = 5
"""``Retry-After`` of an error that clears up by itself, unless whoever raises it knows better."""


class ServiceError(Exception):
    """An error with a place in the HTTP contract. ``message`` is shown to the client, ``details`` is JSON."""

    status: int = 500
    code: str = "internal_error"
    retryable: bool = False

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, object] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, object] = dict(details or {})
        if retry_after_s is None and self.retryable:
            retry_after_s = RETRY_AFTER_S
        self.retry_after_s = retry_after_s

    def __str__(self) -> str:
        return self.message


class ClientError(ServiceError):
    """The request cannot be served as it is; sending it again unchanged gives the same answer."""

    status = 400
    code = "invalid_request"


class InvalidRequest(ClientError):
    """Not JSON, broken base64, a malformed request."""


class BrokenImage(ClientError):
    """A picture of a known format that cannot be decoded: truncated, corrupt."""

    code = "broken_image"


class Unauthorized(ClientError):
    """No key, or an unknown one."""

    status = 401
    code = "unauthorized"


class Forbidden(ClientError):
    """A valid key that may not do this."""

    status = 403
    code = "forbidden"


class NotFound(ClientError):
    """No such route, model, job."""

    status = 404
    code = "not_found"


class MethodNotAllowed(ClientError):
    """The route exists, not for this method."""

    status = 405
    code = "method_not_allowed"


class Conflict(ClientError):
    """The state of the thing does not allow this now."""

    status = 409
    code = "conflict"


class JobCancelled(ClientError):
    """The job was cancelled before it ended."""

    status = 409
    code = "job_cancelled"


class BodyTooLarge(ClientError):
    """The body is over the route's limit, which the message states."""

    status = 413
    code = "body_too_large"


class ImageTooLarge(ClientError):
    """A picture with more pixels, or a longer side, than is accepted."""

    status = 413
    code = "image_too_large"


class UnsupportedMediaType(ClientError):
    """The body has a content type or a content encoding that is not read."""

    status = 415
    code = "unsupported_media_type"


class UnsupportedImage(ClientError):
    """Not a picture of a format that is read."""

    status = 415
    code = "unsupported_image"


class InvalidField(ClientError):
    """A field's value is out of range, of the wrong type, missing or unknown. ``details.fields`` names each."""

    status = 422
    code = "invalid_field"

    @classmethod
    def of(cls, name: str, message: str) -> Self:
        """The error of one field: ``InvalidField.of("LR", "must be above 0")``."""
        return cls.of_fields([(name, message)])

    @classmethod
    def of_fields(cls, problems: list[tuple[str, str]]) -> Self:
        """The error of several fields, given as (name, message); the message names the first."""
        name, message = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        fields = [{"field": name, "message": message} for name, message in problems]
        return cls(f"{name}: {message}{more}", details={"fields": fields})


class QuotaExceeded(ClientError):
    """Too many requests of this client for now."""

    status = 429
    code = "quota_exceeded"
    retryable = True


class ClientGone(ClientError):
    """The client hung up; nobody reads this answer, the status is for the log."""

    status = 499
    code = "client_gone"


class CapacityError(ServiceError):
    """The service is healthy but cannot take this now; the same request may pass later or elsewhere."""

    status = 503
    code = "worker_unavailable"
    retryable = True


class QueueFull(CapacityError):
    """As many requests as may wait are waiting."""

    code = "queue_full"


class WorkerUnavailable(CapacityError):
    """The worker process died, hung, or does not start."""


class OutOfGpuMemory(CapacityError):
    """The request does not fit into the GPU's memory, alone or beside what runs now."""

    code = "out_of_gpu_memory"


class StorageFull(CapacityError):
    """No room on a disk or within a quota."""

    code = "storage_full"


class DependencyError(ServiceError):
    """Something that the service depends on failed."""

    status = 502
    code = "upstream_failed"
    retryable = True


class UpstreamFailed(DependencyError):
    """Another service answered wrongly or not at all."""


class UpstreamTimeout(DependencyError):
    """Another service did not answer in time."""

    status = 504
    code = "upstream_timeout"


class StorageUnavailable(DependencyError):
    """The object store cannot be reached."""

    status = 503
    code = "storage_unavailable"


class DatabaseUnavailable(DependencyError):
    """The database cannot be reached, or did not confirm a write."""

    status = 503
    code = "database_unavailable"


class CorruptModel(DependencyError):
    """A stored model whose bytes are not those of its manifest."""

    status = 503
    code = "corrupt_model"


class WeightsUnavailable(DependencyError):
    """A base model's weights are not on this machine; the message says what to do."""

    status = 503
    code = "weights_unavailable"


class InternalError(ServiceError):
    """Anything unforeseen: a bug. The cause is in the log under the request id."""


class JobFailed(InternalError):
    """A job ended without a result, for a reason that is not the client's."""

    code = "job_failed"


class Cancelled(BaseException):
    """Raised inside a worker when the request that it works on was cancelled."""


UNFORESEEN = "Something went wrong inside the service. Its log holds the cause under this request id."
"""The message of an error that was not foreseen: no type, no trace, no path leaves the service."""


def error_body(error: ServiceError, request_id: str) -> dict[str, object]:
    """The one error body of every service."""
    return {
        "message": error.message,
        "error": {"code": error.code, "details": _to_json(error.details), "request_id": request_id},
    }


@dataclass(frozen=True)
class WireError:
    """An error on its way through a process pipe: plain values only, so that it always unpickles."""

    code: str
    message: str
    details: Mapping[str, object] = field(default_factory=dict)
    retry_after_s: int | None = None


def error_to_wire(error: BaseException) -> WireError:
    """Any exception as plain values: ``Cancelled`` becomes JobCancelled, an unknown one InternalError."""
    if isinstance(error, Cancelled):
        error = JobCancelled("The job was cancelled.")
    if not isinstance(error, ServiceError):
        error = InternalError(UNFORESEEN)
    details = _to_json(error.details)
    assert isinstance(details, dict)
    return WireError(error.code, error.message, details, error.retry_after_s)


def error_from_wire(wire: WireError) -> ServiceError:
    """The error that ``error_to_wire`` took apart, of the same class."""
    error_class = next((known for known in error_classes() if known.code == wire.code), InternalError)
    return error_class(wire.message, details=wire.details, retry_after_s=wire.retry_after_s)


def error_classes() -> Iterator[type[ServiceError]]:
    """Every class that may leave a service (the leaves of the tree and InternalError)."""
    for branch in (ClientError, CapacityError, DependencyError):
        yield from branch.__subclasses__()
    yield from (InternalError, JobFailed)


def _to_json(value: object) -> object:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if value - value == 0.0 else str(value)  # NaN and infinity are not JSON
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_to_json(item) for item in value]
    return str(value)
