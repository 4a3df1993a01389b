"""What the gateway costs: bodies of 13 MB through it and through a plain Flask gateway.

Both gateways run under the same gunicorn with the same threads, before the same service, which answers each request
with its own body. The requests are interleaved: every round asks each way once. A program that only stores and
forwards, without a look at what passes, shows how much of it is the way through the sockets. The database is
SecantusDB and the cache the bundled Valkey, unless ``--mongo-url`` and ``--cache-url`` name others.

    .venv/bin/python main-api/benchmarks/p12_gateway.py --json result.json
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import socket
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from gateway_processes import HERE, ROOT, THREADS, Gateway, cpu_s, our_gateway, small_service

from enlight.servicekit.local_service import LocalService

sys.path[:0] = [str(ROOT / "jobkit" / "tests" / "support")]
from embedded_servers import mongo_server, valkey_server  # noqa: E402

BODY_BYTES = 13_000_000
SETTLE_S = 0.3
"""Between two requests, so that none pays for the one before."""
WAYS = ("plain gateway", "ours, computed", "ours, kept", "store and forward")


@dataclass(frozen=True)
class Cost:
    """Of one request."""

    wall_s: float
    cpu_s: float
    """Of the gateway's processes, what they do after the answer included; in steps of 10 ms."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--mongo-url", default="")
    parser.add_argument("--cache-url", default="")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="enlight-p12-")))
        mongo_url = arguments.mongo_url or stack.enter_context(mongo_server(folder / "mongo")).url
        cache_url = arguments.cache_url or stack.enter_context(valkey_server(folder / "valkey")).url
        echo_url = stack.enter_context(small_service("echo_service.py")).url
        forwarder = stack.enter_context(small_service("store_and_forward.py", echo_url.rpartition(":")[2]))
        plain = stack.enter_context(_plain_gateway(folder, echo_url))
        ours = stack.enter_context(our_gateway(folder, echo_url, mongo_url, cache_url))
        costs = _pictures(plain, ours, forwarder, arguments.rounds)
    _tell(costs)
    if arguments.json:
        bodies = {way: [asdict(cost) for cost in taken] for way, taken in costs.items()}
        arguments.json.write_text(json.dumps({"bodies": bodies}, indent=1))


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
            cpu_before_s, started_s = cpu_s(gateway), time.perf_counter()
            connection.sendall(head.encode())
            connection.sendall(body)
            answer_head, content = self._receive(connection)
            took_s = time.perf_counter() - started_s
        assert answer_head.startswith("http/1.1 200"), bytes(content[:500])
        assert (f"x-cache: {cache}" if cache else "\r\n") in answer_head, answer_head
        # Flask's jsonify writes the same object with other spaces.
        assert content == body or json.loads(bytes(content)) == json.loads(body)
        time.sleep(SETTLE_S)
        return Cost(took_s, cpu_s(gateway) - cpu_before_s)

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


def _tell(costs: dict[str, list[Cost]]) -> None:
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


if __name__ == "__main__":
    main()
