"""A worker that tests stop and wake: ``lease_holder.py <MongoDB url> <database> <lease_s>``, ids of jobs on stdin.

Claims each job, says ``holding``, renews until the lease is lost, then tries all that only a holder may do and prints
what came of it as a JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from enlight.jobkit.database import open_database
from enlight.jobkit.job_leases import LeaseLost
from enlight.jobkit.job_store import JobStore


def main(url: str, name: str, lease_s: float) -> None:
    database = open_database(url, name, timeout_s=10)
    store = JobStore(database, lease_s=lease_s)
    for line in sys.stdin:
        job = store.claim(line.strip(), "holder")
        assert job is not None
        print("holding", flush=True)
        while outcome(lambda: store.renew(job.id, job.attempt, {"step": 1})) == "done":  # noqa: B023 -- called at once
            time.sleep(0.01)
        tries = {
            "commit": lambda: store.commit(job.id, job.attempt, "orphan"),  # noqa: B023 -- called at once
            "succeed": lambda: store.succeed(job.id, job.attempt, {}),  # noqa: B023 -- called at once
            "release": lambda: store.release(job.id, job.attempt),  # noqa: B023 -- called at once
        }
        print(json.dumps({name: outcome(tried) for name, tried in tries.items()}), flush=True)
    database.client.close()


def outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except LeaseLost:
        return "lost"
    return "done"


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
