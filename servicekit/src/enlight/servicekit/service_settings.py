"""Settings that every service with a supervised worker has: where it listens, what it admits, how long it waits."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from enlight.servicekit.settings import ServiceSettings

MIB = 1024**2


class HttpSettings(ServiceSettings):
    """Where a service listens and how large a body it reads. A subclass sets the prefix and its own port."""

    host: str = Field("127.0.0.1", description="Address to listen on; in a container 0.0.0.0.")
    port: int = Field(ge=1, le=65535, description="Port to listen on.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    max_body_bytes: int = Field(40 * MIB, ge=1, description="Largest body of a request.")
    spare_threads: int = Field(
        8,
        ge=2,
        le=256,
        description="HTTP threads beyond the admitted requests: they answer health checks and refusals.",
    )

    @property
    def http_threads(self) -> int:
        """gunicorn's threads: more than the requests admitted, so that a full service still answers at once."""
        raise NotImplementedError


class ImageServiceSettings(HttpSettings):
    """Settings of a service whose one worker turns pictures into pictures."""

    max_requests: int = Field(
        16, ge=1, le=1024, description="Requests admitted at once, running and waiting; one more gets 503."
    )
    request_timeout_s: float = Field(600, gt=0, description="Limit of one request, waiting included; then 504.")
    worker_start_timeout_s: float = Field(300, gt=0, description="Limit of the worker's start.")
    worker_hang_timeout_s: float = Field(
        120, gt=0, description="A worker that is busy and silent this long is killed and started again."
    )

    @property
    def http_threads(self) -> int:
        """As many as there may be requests, and the spare ones."""
        return self.max_requests + self.spare_threads
