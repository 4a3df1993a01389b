"""Tells a worker, through RQ, that a job waits. The queue decides nothing: what it loses or says twice is harmless."""

from __future__ import annotations

import logging
import secrets

import redis
import rq
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq.serializers import JSONSerializer

_log = logging.getLogger(__name__)

TRAIN_QUEUE = "train"

WORKER_FUNCTION = "enlight.dreambooth_api.worker_job.run"
"""What a worker calls with the job's id; named, not imported: the gateway has no trainer."""

SERIALIZER = JSONSerializer
"""RQ's default would unpickle whatever lies in the queue; its worker needs this one as well."""

_FAILED_KEPT_S = 3600


def connect_queue(redis_url: str, *, timeout_s: float) -> redis.Redis:
    """A client of the queue's Valkey that gives up after ``timeout_s``, without a second try. Sends nothing."""
    return redis.Redis.from_url(
        redis_url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
    )


class Dispatcher:
    """Puts ids of jobs into the queue. Thread-safe. The queue's absence is no error: the log has it, once.

    Args:
        redis_url: The queue's Valkey.
        queue: Name of the RQ queue.
        timeout_s: How long one answer of the Valkey may take.
    """

    def __init__(self, redis_url: str, *, queue: str = TRAIN_QUEUE, timeout_s: float) -> None:
        self._connection = connect_queue(redis_url, timeout_s=timeout_s)
        self._away = False
        """Whether the last call failed: the log says so once."""
        self._queue = rq.Queue(queue, connection=self._connection, serializer=SERIALIZER)

    def dispatch(self, job_id: str, *, at_front: bool = False) -> bool:
        """Puts the job into the queue; False when the queue is away: a reaper tries again later.

        Args:
            job_id: Which job; letters, digits and dashes.
            at_front: Before those that wait already.
        """
        try:
            self._queue.enqueue_call(
                WORKER_FUNCTION,
                args=[job_id],
                timeout=-1,  # the lease tells dead from busy; RQ must not kill a long training
                result_ttl=0,
                failure_ttl=_FAILED_KEPT_S,
                # An id of its own per dispatch: RQ clears away after a dead worker by id, and must not hit a later try.
                job_id=f"{job_id}_{secrets.token_hex(4)}",
                at_front=at_front,
            )
        except redis.RedisError as error:
            self._note_away(error)
            return False
        self._away = False
        return True

    def waiting(self) -> set[str] | None:
        """Ids of the jobs in the queue; None when the queue is away."""
        try:
            dispatches = self._queue.get_job_ids()
        except redis.RedisError as error:
            self._note_away(error)
            return None
        self._away = False
        return {dispatch.rpartition("_")[0] for dispatch in dispatches}

    def close(self) -> None:
        """Closes the connections."""
        self._connection.close()

    def _note_away(self, error: redis.RedisError) -> None:
        if not self._away:
            _log.warning("the queue is away, jobs wait for it to come back: %s", error)
        self._away = True
