"""Usage records: none delays a request, none is written twice, and what is lost is counted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from embedded_servers import EmbeddedServer, mongo_server
from waiting import wait_until

from enlight.jobkit.database import Documents, open_database
from enlight.main_api.usage.records import BATCH, UsageRecord, UsageRecorder
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


def used(number: int, tenant: str = "anna") -> UsageRecord:
    return UsageRecord(
        tenant=tenant, key_id="k", method="POST", route="/remove", status=200, seconds=0.1,
        received_bytes=number, sent_bytes=1,
    )  # fmt: skip


def test_records_are_written_beside_the_requests(database: Documents) -> None:
    recorder = UsageRecorder(database, max_waiting=10)
    recorder.start()
    recorder.record(used(1))
    assert wait_until(lambda: database["usage"].count_documents({"tenant": "anna"}) == 1)
    recorder.stop()


def test_what_waits_is_written_at_the_end(database: Documents) -> None:
    recorder = UsageRecorder(database, max_waiting=10_000)
    recorder.make_indexes()
    for number in range(2 * BATCH + 3):
        recorder.record(used(number))
    recorder.stop()
    assert recorder.waiting == 0
    assert database["usage"].count_documents({}) == 2 * BATCH + 3


def test_more_than_may_wait_is_dropped_and_counted(database: Documents) -> None:
    recorder = UsageRecorder(database, max_waiting=5)
    for number in range(8):
        recorder.record(used(number))
    assert (recorder.waiting, recorder.dropped) == (5, 3)
    recorder.write_waiting()
    assert sorted(row["received_bytes"] for row in database["usage"].find()) == [0, 1, 2, 3, 4]
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
        # And they are written when it is back
        mongo.start()
        recorder.start()
        assert wait_until(lambda: recorder.waiting == 0, 30)
        recorder.stop()
        assert wait_until(lambda: database["usage"].count_documents({}) == 50)


def test_a_batch_whose_confirmation_was_lost_is_written_once(database: Documents) -> None:
    # Given a batch of which the database already has a part
    recorder = UsageRecorder(database, max_waiting=10)
    for number in range(4):
        recorder.record(used(number))
    written = list(recorder._waiting)[:2]
    database["usage"].insert_many(written)
    # When it is written again
    recorder.write_waiting()
    # Then each is there once, and nothing waits
    assert sorted(row["received_bytes"] for row in database["usage"].find()) == [0, 1, 2, 3]
    assert recorder.waiting == 0
