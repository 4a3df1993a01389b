"""Which server of the cache holds a key: the only one, or one of a cluster."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import ConnectionError as NotReachable
from redis.exceptions import RedisError

from enlight.main_api.cache.connections import Budget, NodeAddress, open_node

NO_NODE = "cluster"
"""Name of the node of a key while nobody knows which node that is."""


@dataclass(frozen=True)
class CacheNode:
    """One server."""

    name: str
    """``host:port``."""
    client: Redis


class CacheNodes(Protocol):
    """The servers. Safe to use from several threads."""

    def name_of(self, key: str) -> str:
        """Name of the node that holds the key; ``NO_NODE`` when that is not known. Sends nothing."""

    def find(self, name: str) -> CacheNode | None:
        """The node of that name; None when it holds no keys (any more). Sends nothing."""

    def refresh(self, budget_s: float) -> None:
        """Learns anew who holds what, after a failure; each server that is asked gets ``budget_s``.

        Idle connections are closed: some may be half dead, and a host's name may mean another server by now.

        Raises: RedisError, OSError, ValueError.
        """

    def close(self) -> None:
        """Closes what is idle."""


class SingleNode:
    """``CacheNodes`` of one server."""

    def __init__(self, address: NodeAddress, budget: Budget, *, max_connections: int) -> None:
        client = open_node(address, address.host, address.port, budget, max_connections=max_connections)
        self._node = CacheNode(f"{address.host}:{address.port}", client)

    def name_of(self, key: str) -> str:
        """The one name there is."""
        return self._node.name

    def find(self, name: str) -> CacheNode | None:
        """The one node there is."""
        return self._node

    def refresh(self, budget_s: float) -> None:
        """See ``CacheNodes.refresh``; there is nothing to learn."""
        self.close()

    def close(self) -> None:
        """Closes idle connections."""
        _close_idle(self._node)


class ClusterNodes:
    """``CacheNodes`` of a cluster, known after the first ``refresh``.

    redis-py's ``RedisCluster`` asks for the topology inside of the very call that meets a failure, one server after
    another. Here a request never waits for that: whoever calls ``refresh`` does, which is a thread of its own.
    """

    def __init__(self, seeds: Sequence[NodeAddress], budget: Budget, *, max_connections: int) -> None:
        self._seeds = seeds
        self._budget = budget
        self._max_connections = max_connections
        self._ranges: tuple[list[int], list[str]] = ([], [])
        self._nodes: dict[str, CacheNode] = {}

    def name_of(self, key: str) -> str:
        """See ``CacheNodes.name_of``."""
        starts, owners = self._ranges
        at = bisect_right(starts, key_slot(key.encode())) - 1
        return owners[at] if 0 <= at < len(owners) else NO_NODE

    def find(self, name: str) -> CacheNode | None:
        """See ``CacheNodes.find``."""
        return self._nodes.get(name)

    def refresh(self, budget_s: float) -> None:
        """See ``CacheNodes.refresh``; the first server that answers is believed."""
        self.close()
        problem: Exception = NotReachable("The cluster has no node.")
        # Servers that were found come first: the seeds may be long gone, or one of them may be what hangs.
        for node in [*self._nodes.values(), *map(self._seed, self._seeds)]:
            try:
                with self._budget.of(budget_s):
                    self._learn(node.client.execute_command("CLUSTER SLOTS"), node)  # type: ignore[no-untyped-call]
            except (RedisError, OSError, ValueError) as error:
                problem = error
            else:
                return
            finally:
                if self._nodes.get(node.name) is not node:
                    _close_idle(node)
        raise problem

    def close(self) -> None:
        """Closes idle connections."""
        for node in self._nodes.values():
            _close_idle(node)

    def _seed(self, address: NodeAddress) -> CacheNode:
        return self._open(address.host, address.port)

    def _open(self, host: str, port: int) -> CacheNode:
        client = open_node(self._seeds[0], host, port, self._budget, max_connections=self._max_connections)
        return CacheNode(f"{host}:{port}", client)

    def _learn(self, slots: list[list[object]], asked: CacheNode) -> None:
        """``slots``: rows of first slot, last slot, [host, port, ...] of the primary, then its replicas."""
        rows: list[tuple[int, str]] = []
        nodes: dict[str, CacheNode] = {}
        for first, last, (host, port, *_), *_ in sorted(cast("list[tuple[int, int, list[object]]]", slots)):
            # A server that does not know its own address leaves it out: it is the one that was asked.
            address = host.decode() if isinstance(host, bytes) and host else asked.name.rpartition(":")[0]
            name = f"{address}:{port}"
            nodes[name] = nodes.get(name) or self._nodes.get(name) or self._open(address, cast("int", port))
            rows += [(first, name), (last + 1, NO_NODE)]
        if not rows:
            raise NotReachable("The cluster serves no keys.")
        ranges = dict(rows)  # a range that begins where another ends takes its place
        gone = [node for name, node in self._nodes.items() if name not in nodes]
        self._nodes = nodes
        starts = sorted(ranges)
        self._ranges = (starts, [ranges[start] for start in starts])  # one assignment: readers see old or new
        for node in gone:
            _close_idle(node)


def _close_idle(node: CacheNode) -> None:
    node.client.connection_pool.disconnect(inuse_connections=False)
