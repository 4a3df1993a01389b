"""The workers that told the queue of themselves.

RQ forgets one a minute or two after its last heartbeat, and it has none while it works on a job: what it has then, the
jobs' records say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from redis import Redis
from rq.utils import utcparse
from rq.worker_registration import WORKERS_BY_QUEUE_KEY

from enlight.jobkit.dispatcher import TRAIN_QUEUE

MAX_WORKERS = 1000
_FIELDS = ("hostname", "pid", "state", "last_heartbeat", "death")


@dataclass(frozen=True)
class RegisteredWorker:
    """A worker, as it told of itself."""

    name: str
    """``host:process``, as it stands in the jobs that it has."""
    is_busy: bool
    seen_at: datetime


class WorkerRegistry:
    """Reads RQ's keys.

    Args:
        connection: The queue's Valkey.
    """

    def __init__(self, connection: Redis) -> None:
        self._connection = connection

    def workers(self) -> list[RegisteredWorker]:
        """Those that have not said goodbye. Raises: redis.RedisError."""
        keys = cast(set[bytes], self._connection.smembers(WORKERS_BY_QUEUE_KEY % TRAIN_QUEUE))
        with self._connection.pipeline(transaction=False) as pipeline:
            for key in sorted(keys)[:MAX_WORKERS]:
                pipeline.hmget(key, _FIELDS)
            rows = pipeline.execute()
        return [worker for row in rows if (worker := _worker(row)) is not None]


def _worker(row: Sequence[bytes | None]) -> RegisteredWorker | None:
    hostname, pid, state, heartbeat, death = (None if value is None else value.decode() for value in row)
    if hostname is None or heartbeat is None or death is not None:
        return None
    return RegisteredWorker(f"{hostname}:{pid}", state == "busy", utcparse(heartbeat))
