"""A tenant's limits, asked before the body is read: requests in a minute, GPU seconds in an hour."""

from __future__ import annotations

from flask import Flask, Response, g, request

from enlight.main_api.adapters.a1111.routes import GPU_RULES as A1111_GPU_RULES
from enlight.main_api.keys.authentication import current_caller
from enlight.main_api.keys.tenants import Caller
from enlight.main_api.limits.rate_limits import RateLimit, RateLimiter
from enlight.main_api.usage.records import usage_notes

REQUESTS, GPU_SECONDS = "requests", "gpu_seconds"
GPU_RULES = frozenset(
    {
        "/inference",
        "/v1/generations",
        "/upsampler",
        "/realesrgan",
        "/v1/upscale",
        "/v1/upscale/realesrgan",
        "/v1/images/generations",
        "/v1/images/edits",
        "/v1/pictures",
        "/v1/pictures/<picture_id>/upscale",
        *A1111_GPU_RULES,
    }
)
"""Routes that are refused while the tenant has no GPU seconds left. Trainings are refused where they start: who sends a
request again must find the training that it made."""


def tenant_limits(*, requests_per_minute: int, gpu_seconds_per_hour: int) -> dict[str, RateLimit]:
    """The limits that are set; 0: none."""
    limits = {REQUESTS: RateLimit(requests_per_minute, 60), GPU_SECONDS: RateLimit(gpu_seconds_per_hour, 3600)}
    return {what: limit for what, limit in limits.items() if limit.amount > 0}


def install(app: Flask, limiter: RateLimiter) -> None:
    """Limits every route that needs a key, if there is a limit; to be called after authentication and usage were
    installed."""
    if not limiter.limits_any:
        return

    @app.before_request
    def take() -> None:
        if "caller" not in g:
            return
        tenant = current_caller().tenant
        limiter.take(tenant, REQUESTS)
        if request.url_rule is not None and request.url_rule.rule in GPU_RULES:
            limiter.take(tenant, GPU_SECONDS, 0)

    @app.after_request
    def count(response: Response) -> Response:
        caller: Caller | None = g.get("caller")
        if caller is None:
            return response
        notes = usage_notes()

        def record() -> None:
            if notes.gpu_seconds > 0:
                limiter.record(caller.tenant, GPU_SECONDS, notes.gpu_seconds)

        if response.is_streamed:  # it may be computed while it is sent
            response.call_on_close(record)
        else:
            record()
        return response
