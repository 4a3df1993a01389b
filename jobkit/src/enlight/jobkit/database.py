"""The way to MongoDB: a client that gives up in time, and one error for everything that can go wrong."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError, PyMongoError

from enlight.servicekit.errors import DatabaseUnavailable

_log = logging.getLogger(__name__)

MAX_CONNECTIONS = 32
"""Connections of one process; a thread that finds none free waits for ``timeout_s`` at most."""

DUPLICATE_KEY = 11000
"""MongoDB's code of a write that would be a second document of one id."""

Documents = Database[dict[str, Any]]


def open_database(url: str, name: str, *, timeout_s: float) -> Documents:
    """The database ``name`` of the MongoDB at ``url``. Nothing is sent before the first call.

    A write counts when a majority of the servers has it in its journal. ``timeout_s`` limits a whole call: finding
    the server, connecting, the answer, and what is tried again after a broken connection. Close with
    ``database.client.close()``; a process that forks opens its own afterwards.
    """
    timeout_ms = max(1, round(timeout_s * 1000))
    client: MongoClient[dict[str, Any]] = MongoClient(
        url,
        connect=False,
        tz_aware=True,
        w="majority",
        journal=True,
        retryWrites=True,
        retryReads=True,
        timeoutMS=timeout_ms,  # of a whole call: choosing a server, waiting for a connection, answer, another try
        serverSelectionTimeoutMS=timeout_ms,  # also of closing, which says goodbye to the server
        connectTimeoutMS=timeout_ms,  # also of the client's own thread that watches the server
        maxPoolSize=MAX_CONNECTIONS,
    )
    return client[name]


@contextmanager
def database_errors() -> Iterator[None]:
    """Turns every error of the database but DuplicateKeyError into DatabaseUnavailable; the log has the cause.

    After a failed write the caller does not know whether it was made: it reads, or writes again what may be
    written twice.
    """
    try:
        yield
    except DuplicateKeyError:
        raise
    except PyMongoError as error:
        _log.warning("the database failed: %s: %s", type(error).__name__, str(error)[:300])
        raise DatabaseUnavailable("The database cannot be reached.") from error


def server_time(database: Documents) -> datetime:
    """The database's own clock: leases are compared with it, never with the clock of a machine that reads them.

    Raises: DatabaseUnavailable.
    """
    with database_errors():
        answer = database.client.admin.command("hello", codec_options=database.codec_options)
    time: datetime = answer["localTime"]
    return time


def now_as_kept() -> datetime:
    """This machine's time in milliseconds, which is all that the database keeps."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
