"""A cluster of six real nodes, started by the script that ships."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from redis import Redis
from redis.exceptions import ResponseError
from waiting import wait_until

_SCRIPT = Path(__file__).resolve().parents[3] / "enlight-redis/cluster/start_cluster.sh"
_NODES = 6
_FAIL_OVER_TRIES = 20


class ClusterOfSix:
    """Nodes by number: 0, 1 and 2 begin as primaries, 3, 4 and 5 as their replicas."""

    def __init__(self, folder: Path, program: str) -> None:
        self._folder = folder
        ports = _free_ports(2 * _NODES)
        self.ports, bus_ports = ports[:_NODES], ports[_NODES:]
        self._environment = os.environ | {
            "REDIS_SERVER": program,
            "CLUSTER_FOLDER": str(folder),
            "CLUSTER_PORTS": " ".join(map(str, self.ports)),
            "CLUSTER_BUS_PORTS": " ".join(map(str, bus_ports)),
        }

    def start(self) -> None:
        """Makes the cluster, or starts it again, and waits until it is whole."""
        done = subprocess.run([_SCRIPT], env=self._environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def stop(self) -> None:
        """Ends every node."""
        for node in range(_NODES):
            self.signal(node, signal.SIGCONT)  # one that is stopped does not see that it should end
        subprocess.run([_SCRIPT, "stop"], env=self._environment, check=True)

    @property
    def password(self) -> str:
        """What the script made."""
        return (self._folder / "password").read_text()

    @property
    def urls(self) -> list[str]:
        """Of the three first primaries."""
        return [self.url(node) for node in (0, 1, 2)]

    def url(self, node: int) -> str:
        """Of one node."""
        return f"redis://:{self.password}@127.0.0.1:{self.ports[node]}"

    def signal(self, node: int, number: signal.Signals) -> None:
        """Sends a signal to one node, if it runs."""
        file = self._folder / str(node) / "pid"
        if file.exists():
            with suppress(ProcessLookupError):
                os.kill(int(file.read_text()), number)

    def fail_over_to(self, replica: int) -> None:
        """Makes the replica the primary, without loss, and waits until it is."""
        for _ in range(_FAIL_OVER_TRIES):
            with closing(self.redis(replica)) as redis, suppress(ResponseError):  # its line to the primary may be down
                redis.execute_command("CLUSTER FAILOVER")  # type: ignore[no-untyped-call]
            # A primary that does not know yet that this is its replica says nothing: it is asked again.
            if wait_until(lambda: self.is_primary(replica), timeout_s=1.5):
                return
        raise AssertionError(f"node {replica} does not become a primary")

    def is_primary(self, node: int) -> bool:
        """Whether the node says that it has slots of its own."""
        with closing(self.redis(node)) as redis:
            role: list[object] = redis.execute_command("ROLE")  # type: ignore[no-untyped-call]
            return role[0] == b"master"

    def redis(self, node: int) -> Redis:
        """A client of one node, to be closed."""
        return Redis.from_url(self.url(node), socket_timeout=5)


@contextmanager
def cluster_of_six(folder: Path, program: str) -> Iterator[ClusterOfSix]:
    """A cluster of that server program with its files in ``folder``; stopped at the end."""
    cluster = ClusterOfSix(folder, program)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]
