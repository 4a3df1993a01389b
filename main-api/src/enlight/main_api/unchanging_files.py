"""Files of buckets that never change under their address, as answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from flask import Response, request

from enlight.main_api.limits.admission import ByteBudget

_FOREVER = "private, max-age=31536000, immutable"


def unchanging_file(
    budget: ByteBudget, *, etag: str, size_bytes: int, media_type: str, read: Callable[[], bytes]
) -> Response:
    """The file, for browsers to keep; a 304 without a look at it where its ``ETag`` is known already.

    Raises: QueueFull when the budget has no room for it; whatever ``read`` raises.
    """
    with ExitStack() as held:
        share = held.enter_context(budget.share())
        response = Response(content_type=media_type)
        response.set_etag(etag)
        response.headers["Cache-Control"] = _FOREVER
        response.make_conditional(request)
        if response.status_code == 200:
            share.take(size_bytes)
            response.set_data(read())
        response.call_on_close(held.pop_all().close)
        return response
