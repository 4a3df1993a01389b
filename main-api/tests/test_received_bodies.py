"""A body that is passed on: every byte, its SHA-256, and memory asked for before it is used."""

from __future__ import annotations

import hashlib
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest
from werkzeug.test import EnvironBuilder

from enlight.main_api.limits.admission import BudgetShare, ByteBudget
from enlight.main_api.upstreams.received_bodies import HASHED_BESIDE_BYTES, receive_body
from enlight.servicekit.errors import BodyTooLarge, ClientGone, QueueFull
from enlight.servicekit.http_bodies import READ_BYTES, ServiceRequest

LIMIT_BYTES = 8 << 20


class LateExecutor(Executor):
    """Begins what it is given a while later, or never, as one whose threads are all taken."""

    def __init__(self, *, begins: bool) -> None:
        self._begins = begins

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Runs it in a thread of its own."""
        future: Future[Any] = Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                time.sleep(0.05)
                future.set_result(fn(*args, **kwargs))

        if self._begins:
            threading.Thread(target=run).start()
        return future


@pytest.fixture(params=["pool", "late", "never"])
def hashing(request: pytest.FixtureRequest) -> Iterator[Executor]:
    kinds: dict[str, Callable[[], Executor]] = {
        "pool": lambda: ThreadPoolExecutor(2),
        "late": lambda: LateExecutor(begins=True),
        "never": lambda: LateExecutor(begins=False),
    }
    with kinds[request.param]() as executor:
        yield executor


@pytest.fixture
def share() -> Iterator[BudgetShare]:
    with ByteBudget(LIMIT_BYTES).share() as share:
        yield share


def request_with(body: bytes, *, chunked: bool = False) -> ServiceRequest:
    builder = EnvironBuilder(method="POST", input_stream=io.BytesIO(body), content_type="image/png")
    environ = builder.get_environ()
    if chunked:
        environ.pop("CONTENT_LENGTH", None)
        environ["wsgi.input_terminated"] = True
    else:
        environ["CONTENT_LENGTH"] = str(len(body))
    request = ServiceRequest(environ)
    request.max_content_length = LIMIT_BYTES
    return request


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize(
    "size", [0, 1, HASHED_BESIDE_BYTES - 1, HASHED_BESIDE_BYTES, READ_BYTES, 3 * READ_BYTES + 5, 5 * READ_BYTES - 1]
)
def test_every_byte_and_its_hash(size: int, chunked: bool, share: BudgetShare, hashing: Executor) -> None:
    content = os.urandom(size)
    body = receive_body(request_with(content, chunked=chunked), share, hashing)
    assert body.data == content
    assert body.sha256 == hashlib.sha256(content).hexdigest()
    assert body.content_type == "image/png"
    assert share.taken_bytes == size


def test_what_finds_no_room_is_refused_before_it_is_read(hashing: Executor) -> None:
    request = request_with(b"x" * 1000)
    with ByteBudget(999).share() as share, pytest.raises(QueueFull):
        receive_body(request, share, hashing)
    assert request.environ["wsgi.input"].tell() == 0


def test_a_chunked_body_over_the_limit_is_refused(hashing: Executor) -> None:
    with ByteBudget(10 * LIMIT_BYTES).share() as share, pytest.raises(BodyTooLarge):
        receive_body(request_with(b"x" * (LIMIT_BYTES + 1), chunked=True), share, hashing)


def test_a_body_that_breaks_off_leaves_no_thread_behind() -> None:
    with ThreadPoolExecutor(1) as hashing, ByteBudget(LIMIT_BYTES).share() as share:
        request = request_with(b"x" * READ_BYTES)
        request.environ["CONTENT_LENGTH"] = str(2 * READ_BYTES)
        with pytest.raises(ClientGone):
            receive_body(request, share, hashing)
        assert hashing.submit(lambda: "free").result(20) == "free"
