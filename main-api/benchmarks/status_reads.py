"""Reads of 100 running trainings' states at a constant arrival rate, each latency from when the read was due.

The database is SecantusDB and the cache the bundled Valkey, unless ``--mongo-url`` and ``--cache-url`` name others.
``--gateways 2``: the reads go to two gateways side by side, as behind a load balancer. ``--before CHECKOUT``: by turns
with the gateways of another checkout. With more cores than are to be measured, the client has its own, and database and
cache have where they are on other machines:

    .venv/bin/python main-api/benchmarks/status_reads.py --json result.json
    taskset -c 0,1 .venv/bin/python main-api/benchmarks/status_reads.py --client-cores 4-7 --store-cores 2-3
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from constant_rate import Latencies, read_at
from gateway_processes import (
    DATABASE,
    ROOT,
    THREADS,
    Gateway,
    code_of,
    cores,
    cpu_s,
    on_cores,
    our_gateway,
    small_service,
)

from enlight.jobkit.database import open_database
from enlight.jobkit.job_store import JobStore
from enlight.jobkit.jobs import NewJob

sys.path[:0] = [str(ROOT / "jobkit" / "tests" / "support")]
from embedded_servers import mongo_server, valkey_server  # noqa: E402

TRAININGS = 100
"""Looked at in turns."""
SETTLE_S = 1.0


@dataclass(frozen=True)
class Run:
    """Some seconds of reads."""

    latencies: Latencies
    cpu_ms: float
    """Of the gateways, for each read."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=int, nargs="*", default=[1000], help="reads per second")
    parser.add_argument("--seconds", type=float, default=8, help="of reads, at each rate")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--gateways", type=int, nargs="*", default=[1, 2], help="that the reads are shared out to")
    parser.add_argument("--before", type=Path, help="another checkout")
    parser.add_argument("--client-cores", type=cores, default=set(), help="such as 4-7: of the client")
    parser.add_argument("--store-cores", type=cores, default=set(), help="such as 2-3: of database and cache")
    parser.add_argument("--mongo-url", default="")
    parser.add_argument("--cache-url", default="")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    checkouts = {"now": None} if arguments.before is None else {"before": arguments.before, "now": None}
    runs: dict[tuple[str, int, int], list[Run]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="enlight-reads-")))
        with on_cores(arguments.store_cores):
            mongo_url = arguments.mongo_url or stack.enter_context(mongo_server(folder / "mongo")).url
            cache_url = arguments.cache_url or stack.enter_context(valkey_server(folder / "valkey")).url
        echo_url = stack.enter_context(small_service("echo_service.py")).url
        paths = _running_trainings(mongo_url)
        for turn in range(arguments.turns):
            for code, checkout in list(checkouts.items())[:: -1 if turn % 2 else 1]:
                for number in arguments.gateways:
                    starts = [our_gateway(folder, echo_url, mongo_url, cache_url) for _ in range(number)]
                    with _started(starts, checkout) as gateways:
                        for rate in arguments.rates:
                            with on_cores(arguments.client_cores):
                                run = _run(gateways, paths, rate, arguments.seconds)
                            runs.setdefault((code, number, rate), []).append(run)
    _tell(runs)
    if arguments.json:
        result = [
            {"code": code, "gateways": number, "rate_per_s": rate, "runs": [asdict(run) for run in some]}
            for (code, number, rate), some in runs.items()
        ]
        arguments.json.write_text(json.dumps(result, indent=1))


@contextmanager
def _started(gateways: Sequence[AbstractContextManager[Gateway]], checkout: Path | None) -> Iterator[Sequence[Gateway]]:
    with ExitStack() as stack:
        with code_of(checkout):
            running = [stack.enter_context(gateway) for gateway in gateways]
        time.sleep(SETTLE_S)
        yield running


def _running_trainings(mongo_url: str) -> list[str]:
    """The addresses of their states: they run, as most that are looked at."""
    database = open_database(mongo_url, DATABASE, timeout_s=5)
    store = JobStore(database, lease_s=3600)
    paths = []
    for _ in range(TRAININGS):
        new = NewJob(
            id=f"p12-{uuid.uuid4().hex}", tenant="local", model_name="m", model_id="m", photo_keys=[], warnings=[],
            request={"base_name": "enlight/pocket", "preset": None, "max_training_steps": 400},
            idempotency_key=None, body_digest="", webhook_url=None,
        )  # fmt: skip
        store.create(new)
        assert store.claim(new.id, "benchmark")
        paths.append(f"/v1/trainings/{new.id}")
    database.client.close()
    return paths


def _run(gateways: Sequence[Gateway], paths: Sequence[str], rate_per_s: int, seconds: float) -> Run:
    urls = [gateway.url for gateway in gateways]
    cpu_before_s = sum(map(cpu_s, gateways))
    latencies = asyncio.run(read_at(urls, paths, "", rate_per_s=rate_per_s, seconds=seconds, connections=THREADS))
    return Run(latencies, 1000 * (sum(map(cpu_s, gateways)) - cpu_before_s) / (rate_per_s * seconds))


def _tell(runs: dict[tuple[str, int, int], list[Run]]) -> None:
    print(f"reads of {TRAININGS} trainings' states, latency from when each was due; medians, and the p99 of each run")
    for (code, number, rate), some in sorted(runs.items()):
        latencies = [run.latencies for run in some]
        p50_ms = statistics.median(each.p50_ms for each in latencies)
        p99s_ms = sorted(each.p99_ms for each in latencies)
        print(
            f"  {code:6} {number} gateways {rate:5}/s  p50 {p50_ms:6.1f} ms  "
            f"p99 {statistics.median(p99s_ms):6.1f} ms ({', '.join(f'{p99_ms:.0f}' for p99_ms in p99s_ms)})  "
            f"answered {min(each.answered_per_s for each in latencies):5.0f}/s or more  "
            f"CPU of the gateways {statistics.median(run.cpu_ms for run in some):.2f} ms a read  "
            f"errors {sum(each.errors for each in latencies)}"
        )


if __name__ == "__main__":
    main()
