"""Sums of requests: each is counted once, whatever happens to a write, and a week is read as quickly as an hour."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from embedded_servers import EmbeddedServer, mongo_server
from job_samples import opened
from waiting import wait_until

from enlight.jobkit.database import Documents, open_database
from enlight.main_api.usage.durations import percentile_s, range_of
from enlight.main_api.usage.records import UsageRecord, UsageRecorder
from enlight.main_api.usage.traffic import CLOSED_AFTER, RESOLUTIONS, Traffic, begin_of_span
from enlight.main_api.usage.traffic_stats import MAX_HOURS, TrafficHistory, TrafficStats
from enlight.servicekit.errors import DatabaseUnavailable


@pytest.fixture
def database(mongo: EmbeddedServer) -> Iterator[Documents]:
    with opened(mongo) as database:
        yield database


def record(at: datetime | None = None, **values: Any) -> UsageRecord:
    """Of a request that was just now, unless ``at`` says else."""
    given = {"tenant": "anna", "route": "/remove", "method": "POST", "status": 200, "seconds": 0.25, "sent_bytes": 1}
    return UsageRecord(at=at or datetime.now(UTC), key_id="k", received_bytes=1, **{**given, **values})


def counted(traffic: Traffic, *records: UsageRecord) -> None:
    for each in records:
        traffic.count(each)
    traffic.write()


def total(stats: TrafficStats) -> int:
    of_series = sum(sums.requests for sums in stats.series.values())
    assert of_series == sum(sums.requests for sums in stats.routes.values())
    return of_series


# Durations


def test_a_percentile_is_right_within_five_percent() -> None:
    chance = random.Random(7)
    for spread in (0.1, 1.0, 2.5):
        durations = sorted(chance.lognormvariate(-1, spread) for _ in range(4000))
        counts = Counter(range_of(seconds) for seconds in durations)
        for share in (0.5, 0.95, 1.0):
            right = durations[int(share * len(durations)) - 1]
            assert percentile_s(counts, share) == pytest.approx(right, rel=0.055), (spread, share)


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, 0.001), (0.0004, 0.001), (1e9, 43_600)])
def test_what_is_very_short_or_long_is_in_the_first_or_last_range(seconds: float, shown: float) -> None:
    assert percentile_s({range_of(seconds): 1}, 0.5) == pytest.approx(shown, rel=0.1)


def test_of_nothing_there_is_no_percentile() -> None:
    assert percentile_s({}, 0.5) is None


# Sums


def test_each_request_is_in_its_tenant_s_sums_and_in_those_of_all(database: Documents) -> None:
    traffic, history = Traffic(database), TrafficHistory(database)
    counted(
        traffic,
        record(seconds=1.0, cache="miss"),
        record(seconds=0.01, cache="hit"),
        record(seconds=0.01, cache="hit", route="/upsampler"),
        record(status=429, route=""),
        record(status=503),
        record(tenant="berta", seconds=9.0),
    )
    for hours in (1, 24, MAX_HOURS):
        annas, everybodys = history.last(hours, "anna"), history.last(hours, None)
        assert (total(annas), total(everybodys), total(history.last(hours, "nobody"))) == (5, 6, 0)
        assert list(annas.routes) == ["/remove", "", "/upsampler"]
        remove = annas.routes["/remove"]
        assert (remove.requests, remove.errors, remove.cache_hits, remove.cache_misses) == (3, 1, 1, 1)
        assert annas.routes[""].errors == 1
        assert percentile_s(everybodys.routes["/remove"].durations, 1.0) == pytest.approx(9.0, rel=0.05)


def test_of_a_stream_of_events_the_time_to_its_beginning_counts(database: Documents) -> None:
    counted(Traffic(database), record(seconds=600.0, began_s=0.05))
    (sums,) = TrafficHistory(database).last(1, "anna").routes.values()
    assert percentile_s(sums.durations, 0.5) == pytest.approx(0.05, rel=0.06)


@pytest.mark.parametrize(
    ("hours", "step_s", "most"),
    [(1, 60, 61), (3, 60, 181), (4, 600, 25), (33, 600, 199), (34, 3600, 35), (168, 3600, 169)],
)
def test_a_series_has_every_span_and_at_most_two_hundred(
    database: Documents, hours: int, step_s: int, most: int
) -> None:
    counted(Traffic(database), record(datetime.now(UTC)))
    stats = TrafficHistory(database).last(hours, "anna")
    spans = list(stats.series)
    assert (stats.step_s, spans[0]) == (step_s, stats.begin)
    assert len(spans) in (most - 1, most)
    assert all(later - earlier == timedelta(seconds=step_s) for earlier, later in itertools.pairwise(spans))
    assert spans[-1] <= stats.end < spans[-1] + timedelta(seconds=step_s)
    assert stats.series[spans[-1]].requests == 1


def test_what_is_older_does_not_count(database: Documents) -> None:
    traffic, history = Traffic(database), TrafficHistory(database)
    counted(traffic, *(record(datetime.now(UTC) - timedelta(hours=hours)) for hours in (0.5, 2.5, 20, 160, 200)))
    assert [total(history.last(hours, None)) for hours in (1, 3, 24, 168)] == [1, 2, 3, 4]


# Writes


def test_sums_grow_in_their_document(database: Documents) -> None:
    traffic, at = Traffic(database), datetime.now(UTC)  # the same for all: a minute may end meanwhile
    for requests in range(1, 4):
        counted(traffic, record(at))
        # A span of each length, of the tenant and of all
        assert database["traffic"].count_documents({}) == 2 * len(RESOLUTIONS)
        assert total(TrafficHistory(database).last(1, "anna")) == requests
    # What is as it was is not written again
    database["traffic"].delete_many({})
    traffic.write()
    assert database["traffic"].count_documents({}) == 0


def test_gateways_count_beside_each_other(database: Documents) -> None:
    gateways = [Traffic(database), Traffic(database)]
    for traffic in (*gateways, *gateways):
        counted(traffic, record())
    assert total(TrafficHistory(database).last(1, "anna")) == 4


@pytest.mark.parametrize("lost", ["insert_many", "bulk_write"])
def test_a_write_whose_confirmation_was_lost_counts_once(database: Documents, lost: str) -> None:
    # Given a database that does what it is asked, and says nothing
    traffic = Traffic(database)
    if lost == "bulk_write":
        counted(traffic, record())
    before = total(TrafficHistory(database).last(1, "anna"))
    with answers_lost(traffic, lost), pytest.raises(DatabaseUnavailable):
        counted(traffic, record())
    # When more comes, and it is written again
    counted(traffic, record())
    traffic.write()
    # Then each is there once
    assert total(TrafficHistory(database).last(1, "anna")) == before + 2


def test_so_does_one_of_a_span_that_is_over_by_then(database: Documents) -> None:
    traffic, past = Traffic(database), datetime.now(UTC) - CLOSED_AFTER - timedelta(minutes=2)
    with answers_lost(traffic, "insert_many"), pytest.raises(DatabaseUnavailable):
        counted(traffic, record(past))
    counted(traffic, record(past))
    traffic.write()
    assert total(TrafficHistory(database).last(1, "anna")) == 2


@contextmanager
def answers_lost(traffic: Traffic, method: str) -> Iterator[None]:
    collection = traffic._traffic

    class Lost:
        def __getattr__(self, name: str) -> Any:
            def call(*arguments: Any, **more: Any) -> None:
                getattr(collection, name)(*arguments, **more)
                raise DatabaseUnavailable("lost")

            return call if name == method else getattr(collection, name)

    traffic._traffic = Lost()  # type: ignore[assignment]
    try:
        yield
    finally:
        traffic._traffic = collection


def test_what_comes_after_the_end_of_a_span_counts_too(database: Documents) -> None:
    # Given a minute that is over, and written
    traffic = Traffic(database)
    past = datetime.now(UTC) - CLOSED_AFTER - timedelta(minutes=2)
    counted(traffic, record(past))
    assert all(span.step_s > 60 for span in traffic._kept), "what is over is kept in memory"
    # When a record of it comes late
    counted(traffic, record(past))
    # Then it does not take the first one's place
    assert total(TrafficHistory(database).last(1, "anna")) == 2


def test_what_was_not_written_is_not_forgotten(tmp_path: Path) -> None:
    past = datetime.now(UTC) - CLOSED_AFTER - timedelta(minutes=2)
    with mongo_server(tmp_path / "mongo") as mongo:
        database = open_database(mongo.url, "x", timeout_s=2)
        traffic = Traffic(database)
        mongo.kill()
        with pytest.raises(DatabaseUnavailable):
            counted(traffic, record(past))
        mongo.start()
        assert wait_until(lambda: written(traffic), 30)
        assert total(TrafficHistory(database).last(1, "anna")) == 1
        database.client.close()


def written(traffic: Traffic) -> bool:
    try:
        traffic.write()
    except DatabaseUnavailable:
        return False
    return True


def test_documents_end_when_nobody_can_ask_for_them_any_more(database: Documents) -> None:
    traffic = Traffic(database)
    traffic.make_indexes()
    counted(traffic, record())
    for document in database["traffic"].find():
        hours = {resolution.step_s: resolution.hours for resolution in RESOLUTIONS}[document["step_s"]]
        assert document["expires_at"] > document["at"] + timedelta(hours=hours, seconds=document["step_s"])
    index = database["traffic"].index_information()["expires_at_1"]
    assert index["expireAfterSeconds"] == 0


def test_spans_begin_where_clocks_do() -> None:
    at = datetime(2026, 11, 27, 9, 47, 31, 5, UTC)
    begins = [begin_of_span(at, resolution.step_s) for resolution in RESOLUTIONS]
    assert [(begin.hour, begin.minute, begin.second) for begin in begins] == [(9, 47, 0), (9, 40, 0), (9, 0, 0)]


def test_the_recorder_tells_of_each_record_once(database: Documents) -> None:
    traffic = Traffic(database)
    recorder = UsageRecorder(database, max_waiting=100, taken=traffic.count)
    for number in range(30):
        recorder.record(record(seconds=0.1 * number))
    recorder.stop()
    traffic.stop()
    assert total(TrafficHistory(database).last(1, "anna")) == 30
