"""The cache server, as something that may be away at any moment without anybody noticing but the clock.

No method raises because of the server, and none takes longer than ``budget_s``, whatever the server does: refuse,
hang, answer byte by byte, answer nonsense. After the first failure of a server it is left alone: callers hear at once
that it is away, while one thread in the background looks every ``probe_every_s`` whether it is back. No request is ever
the one that tries, so an outage costs a request at most one ``budget_s``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from redis import Redis
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MaxConnectionsError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from enlight.main_api.cache.connections import Budget, NodeAddress
from enlight.main_api.cache.nodes import NO_NODE, CacheNode, CacheNodes, ClusterNodes, SingleNode

BUDGET_S = 0.2
PROBE_EVERY_S = 1.0
PROBE_SHARE = 0.5
"""A server is back when it answers within this share of the budget: one that only just does would fail again."""
TOPOLOGY_BUDGET_S = 0.5
"""For each node of a cluster that is asked in the background who holds what."""

_PING_KEY = "enlight:v1:ping"
"""Never written."""

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


class CacheClient:
    """One server (one URL), a cluster (several URLs, of any of its nodes), or no cache at all (no URL).

    Safe to use from any number of threads; nothing is sent before the first call.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        budget_s: float = BUDGET_S,
        probe_every_s: float = PROBE_EVERY_S,
        max_connections: int = 256,
    ) -> None:
        """``max_connections`` is per server; one operation more is answered as if the server were away.

        Raises: InvalidField naming ``cache_urls``.
        """
        self._budget = Budget()
        self._budget_s = budget_s
        self._probe_every_s = probe_every_s
        self._nodes = _open_nodes([NodeAddress(url) for url in urls], self._budget, max_connections)
        self._lock = threading.Lock()
        self._away: set[str] = set()
        self._stale = False  # a node said that somebody else has the key
        self._prober: threading.Thread | None = None
        self._closing = threading.Event()
        self._refusals: set[str] = set()

    def get(self, key: str) -> bytes | None:
        """The value; None when there is none, when it is no plain value, and when the server is away."""
        return self._run(key, lambda redis: cast("bytes | None", redis.get(key)))

    def set(self, key: str, value: bytes, *, ttl_s: float) -> bool:
        """Keeps the value for ``ttl_s`` (at least a millisecond). False when nobody knows whether it is kept."""
        kept = self._run(key, lambda redis: redis.set(key, value, px=max(1, round(ttl_s * 1000))))
        return kept is True

    def delete(self, key: str) -> bool:
        """True when the key is gone for certain; False when the server is away."""
        return self._run(key, lambda redis: redis.delete(key)) is not None

    def run_script(self, script: str, key: str, arguments: Sequence[str | bytes | float]) -> object | None:
        """What a Lua script about one key gives; None when the server is away or the script failed.

        A script that does not find the type that it expects takes the key's value away: nothing is in the cache
        that may not be lost, and a key of the wrong type would never heal by itself.
        """

        def evaluate(redis: Redis) -> object:
            try:
                return redis.eval(script, 1, key, *arguments)
            except ResponseError as error:
                if "WRONGTYPE" in str(error):
                    redis.delete(key)
                raise

        return self._run(key, evaluate)

    def is_away(self, key: str | None = None) -> bool:
        """True while the server of the key is known to be away; without a key: while any is. Sends nothing."""
        if self._nodes is None or self._closing.is_set():
            return True
        with self._lock:
            return bool(self._away) if key is None else self._nodes.name_of(key) in self._away

    def ping(self) -> bool:
        """Asks the servers, for a health check in the background: True when a key can be read."""
        self.get(_PING_KEY)
        return not self.is_away()

    def close(self) -> None:
        """Ends the background thread and the idle connections. The cache is away from then on."""
        with self._lock:
            self._closing.set()
            prober = self._prober
        if prober is not None:
            prober.join()
        if self._nodes is not None:
            self._nodes.close()

    def _run(self, key: str, operation: Callable[[Redis], Answer]) -> Answer | None:
        """The operation's answer; None when the server of the key is away, fails, or refuses."""
        if self._nodes is None or self._closing.is_set():
            return None
        name = self._nodes.name_of(key)
        with self._lock:
            if name in self._away:
                return None
        try:
            with self._budget.of(self._budget_s):
                return operation(self._node_of(key).client)
        except MaxConnectionsError:
            return None  # this process is busy, the server is well
        except (AskError, TryAgainError, ReadOnlyError) as error:
            self._note_stale(error)
        except ClusterDownError as error:
            self._note_away(name, error)
        except ResponseError as error:  # of the wrong type, no memory left, not allowed: the server is well
            self._note_refusal(error)
        except (RedisError, OSError, ValueError) as error:  # ValueError: an answer that is no answer
            self._note_away(name, error)
        return None

    def _node_of(self, key: str) -> CacheNode:
        assert self._nodes is not None
        node = self._nodes.find(self._nodes.name_of(key))
        if node is None:  # a cluster before its first use; afterwards the background refreshes
            self._nodes.refresh(self._budget_s)
            node = self._nodes.find(self._nodes.name_of(key))
        if node is None:
            raise ConnectionError("no node has this key")
        return node

    def _note_stale(self, error: Exception) -> None:
        with self._lock:
            if not self._stale:
                _log.info("the cache's nodes have changed: %s", _shown(error))
            self._stale = True
            self._start_prober()

    def _note_away(self, name: str, error: Exception) -> None:
        with self._lock:
            if name not in self._away:
                _log.warning("the cache server %s is away: %s", name, _shown(error))
            self._away.add(name)
            self._start_prober()

    def _note_refusal(self, error: Exception) -> None:
        kind = str(error).partition(" ")[0]
        if kind not in self._refusals:  # a full server refuses every write: one line tells it
            self._refusals.add(kind)
            _log.warning("the cache refused: %s", _shown(error))

    def _start_prober(self) -> None:
        if self._prober is None and not self._closing.is_set():
            self._prober = threading.Thread(target=self._probe_until_well, name="cache-prober", daemon=True)
            self._prober.start()

    def _probe_until_well(self) -> None:
        assert self._nodes is not None
        while True:
            # A topology that changed is learned at once; a server that failed gets a moment to come back.
            self._closing.wait(self._probe_every_s if self._away else 0)
            if not self._closing.is_set():
                self._probe()
            with self._lock:
                if self._closing.is_set() or not (self._away or self._stale):
                    self._prober = None
                    return
                stale = self._stale
            if stale:
                self._closing.wait(self._probe_every_s)

    def _probe(self) -> None:
        assert self._nodes is not None
        with self._lock:
            self._stale = False
        try:
            self._nodes.refresh(TOPOLOGY_BUDGET_S)
        except (RedisError, OSError, ValueError):
            with self._lock:
                self._away.add(NO_NODE)
            return
        with self._lock:
            away = [*self._away]
        for name in away:
            node = self._nodes.find(name)
            if node is None or self._answers(node):  # None: it has no keys any more, so nobody asks it
                with self._lock:
                    self._away.discard(name)
                _log.info("the cache server %s is back", name)

    def _answers(self, node: CacheNode) -> bool:
        try:
            with self._budget.of(self._budget_s * PROBE_SHARE):
                node.client.exists(_PING_KEY)  # PING would also be answered by a server that cannot serve keys
        except AskError:
            return True  # another node of the cluster has the key
        except (RedisError, OSError, ValueError):
            return False
        return True


def _open_nodes(addresses: list[NodeAddress], budget: Budget, max_connections: int) -> CacheNodes | None:
    if not addresses:
        return None
    if len(addresses) == 1:
        return SingleNode(addresses[0], budget, max_connections=max_connections)
    return ClusterNodes(addresses, budget, max_connections=max_connections)


def _shown(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
