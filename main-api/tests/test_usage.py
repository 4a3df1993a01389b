"""Usage records: none delays a request, none is written twice, and what is lost is counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from embedded_servers import EmbeddedServer, mongo_server
from waiting import wait_until

from enlight.jobkit.database import Documents, open_database
from enlight.main_api.usage.records import DOCUMENTS_AT_ONCE, RECORDS_AT_ONCE, UsageRecord, UsageRecorder
from enlight.servicekit.errors import DatabaseUnavailable


@pytest.fixture
def database(mongo: EmbeddedServer, request: pytest.FixtureRequest) -> Iterator[Documents]:
    with closing_database(mongo, f"usage{abs(hash(request.node.name)) % 10**8}") as database:
        yield database


@contextmanager
def closing_database(mongo: EmbeddedServer, name: str = "usage") -> Iterator[Documents]:
    database = open_database(mongo.url, name, timeout_s=1)
    try:
        yield database
    finally:
        database.client.close()


def used(number: int, **values: Any) -> UsageRecord:
    given = {"tenant": "anna", "method": "POST", "route": "/remove", "status": 200, "seconds": 0.25, "sent_bytes": 1}
    at = datetime.now(UTC)
    return UsageRecord(key_id="k", received_bytes=number, request_id=f"r{number}", **{"at": at, **given, **values})


def requests_in(database: Documents) -> list[int]:
    """The numbers of the requests that the database has a record of."""
    documents = list(database["usage"].find())
    numbers = [received_bytes_of(document) for document in documents]
    assert [document["requests"] for document in documents] == [len(some) for some in numbers]
    return sorted(number for some in numbers for number in some)


def received_bytes_of(document: dict[str, Any]) -> list[int]:
    received: list[int] = document["each"]["received_bytes"] if "each" in document else [document["received_bytes"]]
    return received


def test_records_are_written_beside_the_requests(database: Documents) -> None:
    recorder = UsageRecorder(database, max_waiting=10)
    recorder.start()
    recorder.record(used(1))
    assert wait_until(lambda: database["usage"].count_documents({"tenant": "anna"}) == 1)
    recorder.stop()


def test_what_waits_is_written_at_the_end(database: Documents) -> None:
    recorder = UsageRecorder(database, max_waiting=10_000)
    recorder.make_indexes()
    records = RECORDS_AT_ONCE + 3 * DOCUMENTS_AT_ONCE
    for number in range(records):
        recorder.record(used(number, status=200 + number % (2 * DOCUMENTS_AT_ONCE)))
    recorder.stop()
    assert recorder.waiting == 0
    assert requests_in(database) == [*range(records)]


def test_requests_of_one_kind_are_one_document_with_the_values_of_each(database: Documents) -> None:
    recorder = UsageRecorder(database, max_waiting=10)
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    for number in range(3):
        recorder.record(used(number, at=noon + timedelta(minutes=number)))
    recorder.write_waiting()
    [document] = database["usage"].find()
    assert (document["tenant"], document["route"], document["requests"]) == ("anna", "/remove", 3)
    assert (document["received_bytes"], document["sent_bytes"], document["seconds"]) == (0 + 1 + 2, 3, 0.75)
    assert document["each"] == {
        "request_id": ["r0", "r1", "r2"],
        "at": [noon + timedelta(minutes=number) for number in range(3)],
        "seconds": [0.25] * 3,
        "received_bytes": [0, 1, 2],
        "sent_bytes": [1] * 3,
    }


def test_what_comes_while_the_records_are_written_waits_for_the_next_time(database: Documents) -> None:
    # Given a recorder that gets another record whenever one is written down
    later = iter(range(1, 1000))
    recorder = UsageRecorder(database, max_waiting=10, taken=lambda record: recorder.record(used(next(later))))
    recorder.record(used(0))
    # When it writes, it comes to an end
    recorder.write_waiting()
    assert (requests_in(database), recorder.waiting) == ([0], 1)
    recorder.write_waiting()
    assert (requests_in(database), recorder.waiting) == ([0, 1], 1)


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "berta"},
        {"key_id": "other"},
        {"method": "GET"},
        {"route": "/upsampler"},
        {"status": 429},
        {"model": "m"},
        {"at": datetime(2026, 3, 2, tzinfo=UTC)},
        {"gpu_seconds": 0.5},
    ],
    ids=lambda other: next(iter(other)),
)
def test_requests_of_other_kinds_are_documents_of_their_own(database: Documents, other: dict[str, Any]) -> None:
    recorder = UsageRecorder(database, max_waiting=10)
    late = datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC)
    for number, values in enumerate([{}, other, {}, other]):
        recorder.record(used(number)._replace(**{"at": late, **values}))
    recorder.write_waiting()
    documents = [document["requests"] for document in database["usage"].find()]
    # What took the GPU's time is looked at one by one: each is alone.
    assert sorted(documents) == ([1, 1, 2] if "gpu_seconds" in other else [2, 2])


def test_more_than_may_wait_is_dropped_and_counted(database: Documents) -> None:
    recorder = UsageRecorder(database, max_waiting=5)
    for number in range(8):
        recorder.record(used(number))
    assert (recorder.waiting, recorder.dropped) == (5, 3)
    recorder.write_waiting()
    assert requests_in(database) == [0, 1, 2, 3, 4]
    recorder.record(used(8))
    assert (recorder.waiting, recorder.dropped) == (1, 3)


def test_records_wait_for_a_database_that_is_away(tmp_path: Path) -> None:
    with mongo_server(tmp_path / "mongo") as mongo, closing_database(mongo) as database:
        recorder = UsageRecorder(database, max_waiting=100)
        # Given a database that dies
        mongo.kill()
        # When records come
        started_s = time.monotonic()
        for number in range(50):
            recorder.record(used(number))
        # Then nobody waits for it
        assert time.monotonic() - started_s < 0.5
        with pytest.raises(DatabaseUnavailable):
            recorder.write_waiting()
        assert recorder.waiting == 50
        # And those that are in its hands count towards the bound
        for number in range(50, 150):
            recorder.record(used(number))
        assert (recorder.waiting, recorder.dropped) == (100, 50)
        # And they are written when it is back
        mongo.start()
        recorder.start()
        assert wait_until(lambda: recorder.waiting == 0, 30)
        recorder.stop()
        assert wait_until(lambda: requests_in(database) == [*range(100)])


def test_documents_whose_confirmation_was_lost_are_written_once(database: Documents) -> None:
    # Given a write of which the database did a part before the answer was lost
    class LosesTheFirstAnswer(UsageRecorder):
        lost = False

        def _write(self, batch: list[dict[str, Any]]) -> None:
            if not self.lost:
                self.lost = True
                super()._write(batch[:2])
                raise DatabaseUnavailable("lost")
            super()._write(batch)

    recorder = LosesTheFirstAnswer(database, max_waiting=20)
    for number in range(8):
        recorder.record(used(number, status=200 + number % 4))
    with pytest.raises(DatabaseUnavailable):
        recorder.write_waiting()
    # When more requests of the same kinds come before it is written again
    for number in range(8, 12):
        recorder.record(used(number, status=200 + number % 4))
    recorder.write_waiting()
    # Then each is there once, and nothing waits
    assert requests_in(database) == [*range(12)]
    assert recorder.waiting == 0
