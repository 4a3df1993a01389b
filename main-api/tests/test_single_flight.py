"""SingleFlight: one computes, the others get its result; none waits for ever, none gets another's private end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from waiting import wait_until

from enlight.main_api.cache.single_flight import SingleFlight
from enlight.servicekit.errors import ClientGone, ServiceError, UpstreamFailed

Outcome = tuple[str, bool]


class Work:
    """A computation that ends when it is told to, and counts how often it began."""

    def __init__(self, end: Callable[[int], str]) -> None:
        self._end = end
        self._lock = threading.Lock()
        self.may_end = threading.Event()
        self.began = 0

    def __call__(self) -> str:
        with self._lock:
            self.began += 1
            number = self.began
        assert self.may_end.wait(30)
        return self._end(number)


def start(
    threads: ThreadPoolExecutor, flights: SingleFlight[str], work: Work, *, wait_s: float = 30, key: str = "key"
) -> Future[Outcome]:
    return threads.submit(flights.run, key, work, wait_s=wait_s)


def start_waiters(
    threads: ThreadPoolExecutor, flights: SingleFlight[str], work: Work, count: int
) -> list[Future[Outcome]]:
    """The first computes; the others are known to wait for it when this returns."""
    first = start(threads, flights, work)
    assert wait_until(lambda: work.began == 1)
    waiting = threading.Semaphore(0)

    def look() -> bool:
        waiting.release()
        return False

    others = [threads.submit(flights.run, "key", work, wait_s=30, gone=look) for _ in range(count)]
    for _ in range(count):
        assert waiting.acquire(timeout=30)
    return [first, *others]


def test_one_computes_and_all_get_the_result() -> None:
    flights, work = SingleFlight[str](), Work(lambda number: f"result {number}")
    with ThreadPoolExecutor(20) as threads:
        futures = start_waiters(threads, flights, work, 19)
        work.may_end.set()
        results = [future.result() for future in futures]
    # Then exactly one is told that it computed the result, and keeps it
    assert results == [("result 1", True)] + [("result 1", False)] * 19
    # And later callers compute anew
    assert flights.run("key", work, wait_s=1) == ("result 2", True)


def test_different_keys_do_not_wait_for_each_other() -> None:
    flights, work = SingleFlight[str](), Work(lambda number: "slow")
    with ThreadPoolExecutor(1) as threads:
        slow = start(threads, flights, work)
        assert wait_until(lambda: work.began == 1)
        assert flights.run("other", lambda: "quick", wait_s=30) == ("quick", True)
        work.may_end.set()
        assert slow.result() == ("slow", True)


def test_a_service_that_fails_is_asked_once_and_each_gets_an_error_of_its_own() -> None:
    def fail(number: int) -> str:
        raise UpstreamFailed("down", details={"number": number}, retry_after_s=7)

    flights, work = SingleFlight[str](), Work(fail)
    with ThreadPoolExecutor(5) as threads:
        futures = start_waiters(threads, flights, work, 4)
        work.may_end.set()
        errors = [future.exception() for future in futures]
    assert work.began == 1
    assert len({id(error) for error in errors}) == 5
    for error in errors:
        assert isinstance(error, UpstreamFailed)
        assert (error.message, error.details, error.retry_after_s) == ("down", {"number": 1}, 7)


@pytest.mark.parametrize("error", [ClientGone("left"), ValueError("a bug"), KeyboardInterrupt()])
def test_when_the_first_ends_for_its_own_reason_another_computes(error: BaseException) -> None:
    def fail_once(number: int) -> str:
        if number == 1:
            raise error
        return "result"

    flights, work = SingleFlight[str](), Work(fail_once)
    with ThreadPoolExecutor(5) as threads:
        first, *others = start_waiters(threads, flights, work, 4)
        work.may_end.set()
        assert first.exception() is error
        results = sorted(future.result() for future in others)
    # One of the four computed; whoever came to it late may have computed once more
    assert {result for result, _ in results} == {"result"}
    assert 2 <= work.began <= 5


def test_who_waited_long_enough_computes_beside_the_first() -> None:
    flights, work = SingleFlight[str](), Work(lambda number: f"result {number}")
    with ThreadPoolExecutor(1) as threads:
        first = start(threads, flights, work)
        assert wait_until(lambda: work.began == 1)
        assert flights.run("key", lambda: "own", wait_s=0.05) == ("own", True)
        # And that does not end the first one's flight
        assert flights.run("key", lambda: "own", wait_s=0) == ("own", True)
        work.may_end.set()
        assert first.result() == ("result 1", True)


def test_a_waiting_caller_whose_client_leaves_stops_waiting() -> None:
    flights, work = SingleFlight[str](), Work(lambda number: "result")
    with ThreadPoolExecutor(1) as threads:
        first = start(threads, flights, work)
        assert wait_until(lambda: work.began == 1)
        began_s = time.monotonic()
        with pytest.raises(ClientGone):
            flights.run("key", work, wait_s=30, gone=lambda: True)
        assert time.monotonic() - began_s < 5
        work.may_end.set()
        assert first.result() == ("result", True)


def test_nothing_is_kept_afterwards() -> None:
    flights = SingleFlight[str]()

    def fail() -> str:
        raise ServiceError("no")

    for number in range(100):
        flights.run(f"key {number}", lambda: "result", wait_s=1)
        with pytest.raises(ServiceError):
            flights.run(f"key {number}", fail, wait_s=1)
    assert flights.in_progress == 0
