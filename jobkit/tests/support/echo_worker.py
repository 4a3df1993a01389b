"""RQ's worker with a stand-in for the trainer: ``echo_worker.py <Valkey url>`` prints the jobs' ids and ends."""

from __future__ import annotations

import json
import sys
import types

import redis
import rq

from enlight.jobkit.dispatcher import SERIALIZER, TRAIN_QUEUE, WORKER_FUNCTION


def run(job_id: str) -> None:
    print(json.dumps(job_id), flush=True)


def main(url: str) -> None:
    module_name, _, function_name = WORKER_FUNCTION.rpartition(".")
    module = types.ModuleType(module_name)
    setattr(module, function_name, run)
    sys.modules[module_name] = module
    with redis.Redis.from_url(url) as connection:
        rq.SimpleWorker([TRAIN_QUEUE], connection=connection, serializer=SERIALIZER).work(
            burst=True, logging_level="ERROR"
        )


if __name__ == "__main__":
    main(sys.argv[1])
