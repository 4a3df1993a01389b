"""Reads that come together share a question, and nobody an older answer than his own question would have given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from enlight.main_api.trainings.shared_reads import SharedReads
from enlight.servicekit.errors import DatabaseUnavailable, InternalError

WAIT_S = 20


class Database:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.values: dict[str, int] = {"a": 1, "b": 2, "c": 3}
        self.asked: list[list[str]] = []
        self.begun = threading.Semaphore(0)
        self.may_answer = threading.Semaphore(0)
        self.error: BaseException | None = None

    def find_many(self, ids: Sequence[str]) -> Mapping[str, int]:
        """Those that are there, as they are when the question arrives."""
        self.asked.append(list(ids))
        found = {name: self.values[name] for name in ids if name in self.values}
        self.begun.release()
        assert self.may_answer.acquire(timeout=WAIT_S)
        if self.error is not None:
            raise self.error
        return found


def gathered(reads: SharedReads[int]) -> set[str]:
    with reads._lock:
        return set(reads._gathering.ids) if reads._gathering else set()


def until(condition: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(WAIT_S * 1000):
        if condition():
            return
        done.wait(0.001)
    raise AssertionError("it did not come to that")


def test_whoever_comes_while_a_question_is_under_way_shares_the_next() -> None:
    database = Database()
    reads = SharedReads(database.find_many)
    with ThreadPoolExecutor(8) as pool:
        # Given a question that has reached the database
        first = pool.submit(reads.find, "a")
        assert database.begun.acquire(timeout=WAIT_S)
        # When others come, one of them for the same record, and it changes
        others = [pool.submit(reads.find, name) for name in ("a", "b", "c", "d")]
        until(lambda: gathered(reads) == {"a", "b", "c", "d"})
        database.values["a"] = 10
        database.may_answer.release(2)
        # Then they are asked for together, by a question that sees the change
        assert first.result(WAIT_S) == 1
        assert [other.result(WAIT_S) for other in others] == [10, 2, 3, None]
    assert database.asked == [["a"], ["a", "b", "c", "d"]]


def test_after_a_shared_question_others_may_gather_before_the_next() -> None:
    database = Database()
    reads = SharedReads(database.find_many, pause_s=1)
    with ThreadPoolExecutor(8) as pool:
        # Given two who share a question
        first = pool.submit(reads.find, "a")
        assert database.begun.acquire(timeout=WAIT_S)
        shared = [pool.submit(reads.find, name) for name in ("a", "b")]
        until(lambda: gathered(reads) == {"a", "b"})
        database.may_answer.release(2)
        assert [first.result(WAIT_S), *(future.result(WAIT_S) for future in shared)] == [1, 1, 2]
        # When two come after it, one after the other
        later = [pool.submit(reads.find, "a")]
        until(lambda: gathered(reads) == {"a"})
        later.append(pool.submit(reads.find, "c"))
        # Then they share the next
        until(lambda: gathered(reads) == {"a", "c"})
        database.may_answer.release()
        assert [future.result(WAIT_S) for future in later] == [1, 3]
    assert database.asked == [["a"], ["a", "b"], ["a", "c"]]


def test_one_who_comes_alone_is_answered_at_once() -> None:
    database = Database()
    reads = SharedReads(database.find_many)
    database.may_answer.release(3)
    assert [reads.find("a"), reads.find("b"), reads.find("x")] == [1, 2, None]
    assert database.asked == [["a"], ["b"], ["x"]]


def failed(futures: Sequence[Future[int | None]]) -> list[type]:
    errors = [future.exception(WAIT_S) for future in futures]
    assert len({id(error) for error in errors}) == len(errors), "each has an error of its own"
    return [type(error) for error in errors]


def test_a_database_that_is_away_is_waited_for_once() -> None:
    database = Database()
    database.error = DatabaseUnavailable("away")
    reads = SharedReads(database.find_many)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(reads.find, "a")
        assert database.begun.acquire(timeout=WAIT_S)
        others = [pool.submit(reads.find, name) for name in ("a", "b")]
        until(lambda: gathered(reads) == {"a", "b"})
        database.may_answer.release()
        # Then those who came meanwhile hear it without a question of theirs
        assert failed([first, *others]) == [DatabaseUnavailable] * 3
    assert database.asked == [["a"]]
    # And the next one asks
    database.error = None
    database.may_answer.release()
    assert reads.find("b") == 2


def test_a_bug_fails_those_who_shared_the_question_and_no_others() -> None:
    database = Database()
    reads = SharedReads(database.find_many)
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(reads.find, "a")
        assert database.begun.acquire(timeout=WAIT_S)
        second = [pool.submit(reads.find, "b")]
        until(lambda: gathered(reads) == {"b"})
        second.append(pool.submit(reads.find, "c"))
        until(lambda: gathered(reads) == {"b", "c"})
        database.may_answer.release()
        assert first.result(WAIT_S) == 1
        assert database.begun.acquire(timeout=WAIT_S)
        database.error = KeyError("a bug")
        third = pool.submit(reads.find, "a")
        until(lambda: gathered(reads) == {"a"})
        database.may_answer.release()
        assert failed(second) == [KeyError, InternalError]
        database.error = None
        database.may_answer.release()
        assert third.result(WAIT_S) == 1


def test_reads_of_one_thread_share_a_question_that_begins_with_the_first() -> None:
    database = Database()
    reads = SharedReads(database.find_many)
    database.may_answer.release(3)
    with reads.together(["a", "b", "x"]):
        assert database.asked == [], "it may be that nobody may read"
        database.values["a"] = 10
        assert [reads.find("b"), reads.find("a"), reads.find("x")] == [2, 10, None]
        assert reads.find("c") == 3, "nobody said that it would be read"
    database.values["a"] = 11
    assert reads.find("a") == 11, "what was read together is not kept"
    assert [sorted(ids) for ids in database.asked] == [["a", "b", "x"], ["c"], ["a"]]


def test_reads_of_one_thread_are_no_other_thread_s() -> None:
    database = Database()
    reads = SharedReads(database.find_many)
    database.may_answer.release(2)
    with ThreadPoolExecutor(1) as pool, reads.together(["a", "b"]):
        assert reads.find("a") == 1
        database.values["b"] = 20
        assert pool.submit(reads.find, "b").result(WAIT_S) == 20
        assert reads.find("b") == 2


def test_a_thread_that_reads_together_waits_once_for_a_database_that_is_away() -> None:
    database = Database()
    database.error = DatabaseUnavailable("away")
    reads = SharedReads(database.find_many)
    database.may_answer.release()
    errors = []
    with reads.together(["a", "b"]):
        for name in ("a", "b"):
            with pytest.raises(DatabaseUnavailable) as failed:
                reads.find(name)
            errors.append(failed.value)
    assert errors[0] is not errors[1]
    assert len(database.asked) == 1


@pytest.mark.parametrize("readers", [32])
def test_many_readers_get_each_their_own(readers: int) -> None:
    values = {f"record-{number}": number for number in range(readers)}
    reads = SharedReads(lambda ids: {name: values[name] for name in ids})

    def read(number: int) -> None:
        for _ in range(200):
            assert reads.find(f"record-{number}") == number

    with ThreadPoolExecutor(readers) as pool:
        for future in [pool.submit(read, number) for number in range(readers)]:
            future.result(WAIT_S)
