"""What the gateway costs: 13 MB bodies through it and through a plain Flask gateway, and reads of a training's state.

Both gateways run under the same gunicorn with the same threads, before the same service, which answers each request
with its own body. The requests are interleaved: every round asks each way once. A program that only stores and
forwards, without a look at what passes, shows how much of it is the way through the sockets. The database is
SecantusDB and the cache the bundled Valkey, unless ``--mongo-url`` and ``--cache-url`` name others. ``--quick``:
5 rounds, 3 seconds. ``--gateways 2``: the reads go to two gateways side by side, as behind a load balancer. With more
cores than are to be measured, the client has its own, and database and cache have where they are on other machines:

    .venv/bin/python main-api/benchmarks/p12_gateway.py --json result.json
    taskset -c 0,1 .venv/bin/python main-api/benchmarks/p12_gateway.py --gateways 2 --client-cores 4-7
    taskset -c 0,1 .venv/bin/python main-api/benchmarks/p12_gateway.py --gateways 2 --client-cores 4-7 --store-cores 2-3
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import psutil
import requests
from constant_rate import Latencies, read_at

from enlight.jobkit.database import open_database
from enlight.jobkit.job_store import JobStore
from enlight.jobkit.jobs import NewJob
from enlight.servicekit.local_service import LocalService
from enlight.servicekit.settings import child_environment

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT / "jobkit" / "tests" / "support")]
from embedded_servers import mongo_server, valkey_server  # noqa: E402

BODY_BYTES = 13_000_000
THREADS = 16
TRAININGS = 100
"""Looked at in turns."""
SETTLE_S = 0.3
"""Between two requests, so that none pays for the one before."""
CACHE_SECRET = "only for this benchmark, on the loopback"
WAYS = ("plain gateway", "ours, computed", "ours, kept", "store and forward")


class Gateway(Protocol):
    """Something that is asked."""

    @property
    def url(self) -> str: ...

    @property
    def pid(self) -> int: ...


@dataclass(frozen=True)
class FreePortService:
    """One of the small programs beside this one."""

    url: str
    pid: int


@dataclass(frozen=True)
class Cost:
    """Of one request."""

    wall_s: float
    cpu_s: float
    """Of the gateway's processes, what they do after the answer included; in steps of 10 ms."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="5 rounds, 3 seconds of reads")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--rates", type=int, nargs="*", default=[100, 300, 1000], help="reads per second")
    parser.add_argument("--seconds", type=float, default=10, help="of reads, at each rate")
    parser.add_argument("--gateways", type=int, default=1, help="that the reads are shared out to")
    parser.add_argument("--client-cores", type=_cores, default=set(), help="such as 4-7: of the client of the reads")
    parser.add_argument("--store-cores", type=_cores, default=set(), help="such as 2-3: of database and cache")
    parser.add_argument("--mongo-url", default="")
    parser.add_argument("--cache-url", default="")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rounds, seconds = (5, 3.0) if arguments.quick else (arguments.rounds, arguments.seconds)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="enlight-p12-")))
        with _on_cores(arguments.store_cores):
            mongo_url = arguments.mongo_url or stack.enter_context(mongo_server(folder / "mongo")).url
            cache_url = arguments.cache_url or stack.enter_context(valkey_server(folder / "valkey")).url
        echo_url = stack.enter_context(_small_service("echo_service.py")).url
        forwarder = stack.enter_context(_small_service("store_and_forward.py", echo_url.rpartition(":")[2]))
        plain = stack.enter_context(_plain_gateway(folder, echo_url))
        ours = stack.enter_context(_our_gateway(folder, echo_url, mongo_url, cache_url))
        costs = _pictures(plain, ours, forwarder, rounds)
        others = [_our_gateway(folder, echo_url, mongo_url, cache_url) for _ in range(arguments.gateways - 1)]
        urls = [ours.url, *(stack.enter_context(other).url for other in others)]
        if arguments.client_cores:
            os.sched_setaffinity(0, arguments.client_cores)
        reads = {rate: _reads(urls, mongo_url, rate, seconds) for rate in arguments.rates}
    _tell(costs, reads)
    if arguments.json:
        bodies = {way: [asdict(cost) for cost in taken] for way, taken in costs.items()}
        result = {"bodies": bodies, "reads": {rate: asdict(latencies) for rate, latencies in reads.items()}}
        arguments.json.write_text(json.dumps(result, indent=1))


def _pictures(plain: Gateway, ours: Gateway, forwarder: Gateway, rounds: int) -> dict[str, list[Cost]]:
    picture = base64.b64encode(os.urandom(BODY_BYTES * 3 // 4)).decode()

    def body(mark: str) -> bytes:
        return json.dumps({"input_image": mark + picture[len(mark) :]}).encode()

    client = _Client()
    kept = body("kept")
    ways: dict[str, Callable[[], Cost]] = {
        "plain gateway": lambda: client.ask(plain, kept, None),
        "ours, computed": lambda: client.ask(ours, body(uuid.uuid4().hex), "miss"),
        "ours, kept": lambda: client.ask(ours, kept, "hit"),
        "store and forward": lambda: client.ask(forwarder, kept, None),
    }
    client.ask(ours, kept, "miss")
    client.ask(plain, kept, None)
    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in (WAYS, WAYS[::-1])[number % 2]:
            costs[way].append(ways[way]())
    return costs


class _Client:
    """Costs as little as it can: what is measured is the gateway. Its memory is used again for every answer."""

    def __init__(self) -> None:
        self._memory = memoryview(bytearray(BODY_BYTES + 64 * 1024))

    def ask(self, gateway: Gateway, body: bytes, cache: str | None) -> Cost:
        """One request over a connection of its own: what came after the last answer (keeping it) is over by then."""
        host, port = gateway.url.removeprefix("http://").split(":")
        head = (
            f"POST /remove HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection((host, int(port)), timeout=600) as connection:
            cpu_before_s, started_s = _cpu_s(gateway), time.perf_counter()
            connection.sendall(head.encode())
            connection.sendall(body)
            answer_head, content = self._receive(connection)
            took_s = time.perf_counter() - started_s
        assert answer_head.startswith("http/1.1 200"), bytes(content[:500])
        assert (f"x-cache: {cache}" if cache else "\r\n") in answer_head, answer_head
        # Flask's jsonify writes the same object with other spaces.
        assert content == body or json.loads(bytes(content)) == json.loads(body)
        time.sleep(SETTLE_S)
        return Cost(took_s, _cpu_s(gateway) - cpu_before_s)

    def _receive(self, connection: socket.socket) -> tuple[str, memoryview]:
        filled = end = 0
        while not end:
            filled += connection.recv_into(self._memory[filled:])
            end = bytes(self._memory[: min(filled, 8192)]).find(b"\r\n\r\n") + 1
        head = bytes(self._memory[: end + 3]).decode("latin-1").lower()
        whole = len(head) + int(head.partition("content-length:")[2].partition("\r\n")[0])
        while filled < whole:
            filled += connection.recv_into(self._memory[filled:])
        return head, self._memory[len(head) : whole]


def _cpu_s(gateway: Gateway) -> float:
    arbiter = psutil.Process(gateway.pid)
    times = [process.cpu_times() for process in (arbiter, *arbiter.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def _cores(text: str) -> set[int]:
    first, _, last = text.partition("-")
    return set(range(int(first), int(last or first) + 1))


@contextmanager
def _on_cores(cores: set[int]) -> Iterator[None]:
    """What is started within it runs on these cores; none: where this program does."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores or before)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _reads(urls: Sequence[str], mongo_url: str, rate_per_s: int, seconds: float) -> Latencies:
    database = open_database(mongo_url, "p12", timeout_s=5)
    store = JobStore(database, lease_s=3600)
    paths = []
    for _ in range(TRAININGS):
        new = _training()
        store.create(new)
        assert store.claim(new.id, "benchmark"), "it runs, as most that are looked at"
        paths.append(f"/v1/trainings/{new.id}")
    database.client.close()
    return asyncio.run(read_at(urls, paths, "", rate_per_s=rate_per_s, seconds=seconds, connections=THREADS))


def _training() -> NewJob:
    parameters = {"base_name": "enlight/pocket", "preset": None, "max_training_steps": 400}
    return NewJob(
        id=f"p12-{uuid.uuid4().hex}", tenant="local", model_name="m", model_id="m", request=parameters, photo_keys=[],
        warnings=[], idempotency_key=None, body_digest="", webhook_url=None,
    )  # fmt: skip


def _tell(costs: dict[str, list[Cost]], reads: dict[int, Latencies]) -> None:
    rounds = len(costs[WAYS[0]])
    print(f"\n{BODY_BYTES / 1e6:g} MB body, the same back, one client; {rounds} rounds, interleaved; medians")
    walls_s = {way: statistics.median(cost.wall_s for cost in costs[way]) for way in WAYS}
    cpus_s = {way: statistics.mean(cost.cpu_s for cost in costs[way]) for way in WAYS}
    for way in WAYS:
        faster, less = walls_s[WAYS[0]] / walls_s[way], cpus_s[WAYS[0]] / cpus_s[way]
        print(
            f"  {way:17} {1000 * walls_s[way]:7.1f} ms ({faster:4.1f} times as fast as the plain gateway), "
            f"CPU of the gateway {1000 * cpus_s[way]:6.1f} ms ({less:4.1f} times less)"
        )
    print(f"\nreads of {TRAININGS} trainings' states at a constant arrival rate, latency from when each was due")
    for rate, latencies in reads.items():
        print(
            f"  {rate:5}/s  p50 {latencies.p50_ms:7.1f} ms  p99 {latencies.p99_ms:7.1f} ms  "
            f"answered {latencies.answered_per_s:6.0f}/s  errors {latencies.errors}"
        )


@contextmanager
def _small_service(program: str, *arguments: str) -> Iterator[FreePortService]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, str(HERE / program), str(port), *arguments]
    process = subprocess.Popen(command, env=child_environment({}))
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield FreePortService(f"http://127.0.0.1:{port}", process.pid)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _plain_gateway(folder: Path, echo_url: str) -> Iterator[LocalService]:
    config = folder / "plain.conf.py"
    config.write_text(
        f"import os\nbind = '127.0.0.1:' + os.environ['PLAIN_PORT']\nworkers = 1\nworker_class = 'gthread'\n"
        f"threads = {THREADS}\nkeepalive = 65\npythonpath = {str(HERE)!r}\ncontrol_socket_disable = True\n"
    )
    app = f"plain_gateway:create_app({echo_url!r})"
    with LocalService(
        app, gunicorn_config=config, env_prefix="PLAIN_", settings={}, log=folder / "plain.log"
    ) as service:
        yield service


@contextmanager
def _our_gateway(folder: Path, echo_url: str, mongo_url: str, cache_url: str) -> Iterator[LocalService]:
    settings = {
        "KEYS": "off",
        "DATA_FOLDER": str(folder / "data"),
        "MODELS_FOLDER": str(ROOT / "models"),
        "DEFAULT_BASE_MODEL": "enlight/pocket",
        "MONGO_URL": mongo_url,
        "MONGO_DATABASE": "p12",
        "QUEUE_URL": cache_url,
        "CACHE_URLS": json.dumps([cache_url]),
        "CACHE_SECRET": CACHE_SECRET,
        "BGREM_URLS": json.dumps([echo_url]),
        "LOG_LEVEL": "warning",
        "UPSTREAM_CHECK_EVERY_S": "1",
    }
    with LocalService(
        "enlight.main_api.app:create_app()",
        gunicorn_config=HERE.parent / "gunicorn.conf.py",
        env_prefix="MAIN_API_",
        settings=settings,
        log=folder / "ours.log",
    ) as service:
        while requests.get(f"{service.url}/ready", timeout=5).json()["details"]["dependencies"]["bgrem"] == "unknown":
            time.sleep(0.1)
        yield service


if __name__ == "__main__":
    main()
