"""The way to the database: it gives up in time, and has one error for all that is not the caller's."""

from __future__ import annotations

import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from embedded_servers import EmbeddedServer, mongo_server
from job_samples import opened
from pymongo.errors import DuplicateKeyError

from enlight.jobkit.database import database_errors, open_database, server_time
from enlight.servicekit.errors import DatabaseUnavailable


def test_nothing_is_sent_before_the_first_call() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.5)
        database = open_database(f"mongodb://127.0.0.1:{listener.getsockname()[1]}/", "none", timeout_s=5)
        with pytest.raises(TimeoutError):
            listener.accept()
        database.client.close()


def test_absent_database_is_unavailable_in_time(tmp_path: Path) -> None:
    # Given no server at the address
    database = open_database("mongodb://127.0.0.1:1/", "none", timeout_s=0.3)
    # When it is read
    started = time.monotonic()
    with pytest.raises(DatabaseUnavailable), database_errors():
        database["things"].find_one({})
    # Then the call gives up in about its time
    assert time.monotonic() - started < 3
    database.client.close()


def test_silent_database_is_unavailable_in_time(mongo: EmbeddedServer) -> None:
    with opened(mongo, timeout_s=0.5) as database:
        # Given a connection to a server that stops answering
        with database_errors():
            database["things"].insert_one({"_id": 1})
        mongo.pause()
        try:
            # When it is read and written
            started = time.monotonic()
            with pytest.raises(DatabaseUnavailable), database_errors():
                database["things"].find_one({})
            with pytest.raises(DatabaseUnavailable), database_errors():
                database["things"].insert_one({"_id": 2})
            # Then each call gives up, tries again included
            assert time.monotonic() - started < 5
        finally:
            mongo.resume()
        # And it goes on by itself afterwards
        with database_errors():
            assert database["things"].find_one({"_id": 1}) == {"_id": 1}


def test_closing_does_not_wait_for_a_dead_server(tmp_path: Path) -> None:
    with mongo_server(tmp_path / "data") as server, opened(server, timeout_s=0.5) as database:
        # Given a database that was used, and died
        database["things"].insert_one({"_id": 1})
        server.kill()
        # When it is closed
        started = time.monotonic()
        database.client.close()
        # Then that takes its timeout at most
        assert time.monotonic() - started < 5


def test_a_taken_key_is_not_an_outage(mongo: EmbeddedServer) -> None:
    with opened(mongo) as database:
        database["things"].insert_one({"_id": 1})
        with pytest.raises(DuplicateKeyError), database_errors():
            database["things"].insert_one({"_id": 1})


def test_writes_wait_for_the_journal_of_a_majority(mongo: EmbeddedServer) -> None:
    with opened(mongo) as database:
        assert database.write_concern.document == {"w": "majority", "j": True}


def test_the_servers_clock_has_a_time_zone(mongo: EmbeddedServer) -> None:
    with opened(mongo) as database:
        assert abs(server_time(database) - datetime.now(UTC)) < timedelta(minutes=1)


def test_the_servers_clock_needs_the_server() -> None:
    database = open_database("mongodb://127.0.0.1:1/", "none", timeout_s=0.2)
    with pytest.raises(DatabaseUnavailable):
        server_time(database)
    database.client.close()
