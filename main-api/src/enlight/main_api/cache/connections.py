"""Connections to Redis that keep one time budget for a whole operation.

redis-py limits each wait by itself: connecting, then signing in, then each piece of an answer. A server that sends a
byte now and then would hold a caller for minutes without one of these limits being met. Here every wait of an operation
is cut to what is left of the operation's budget.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast
from urllib.parse import urlsplit

from redis import Connection, ConnectionPool, Redis, SSLConnection
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

from enlight.servicekit.errors import InvalidField

_NO_BUDGET_S = 1.0
"""Limit of a wait outside of any operation, such as closing."""


class Budget(threading.local):
    """What is left of the current thread's operation."""

    def __init__(self) -> None:
        self._ends_at_s: float | None = None

    @contextmanager
    def of(self, seconds: float) -> Iterator[None]:
        """Within it, this thread's waits on connections end together after ``seconds``; an outer budget wins."""
        before_s = self._ends_at_s
        ends_at_s = time.monotonic() + seconds
        self._ends_at_s = ends_at_s if before_s is None else min(before_s, ends_at_s)
        try:
            yield
        finally:
            self._ends_at_s = before_s

    def left_s(self) -> float:
        """Seconds left, above 0. Raises: TimeoutError when there are none."""
        if self._ends_at_s is None:
            return _NO_BUDGET_S
        left_s = self._ends_at_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("The operation's time is up.")
        return left_s


class NodeAddress:
    """Where a server listens, and how to sign in: ``redis://[user:password@]host[:port][/database]``.

    ``rediss://`` is the same over TLS, with the server's certificate checked; ``?ssl_ca_certs=FILE`` names the
    authorities to believe, where the system's are not the ones.
    """

    def __init__(self, url: str) -> None:
        """Raises: InvalidField naming ``cache_urls``; the message never shows the password."""
        try:
            known = parse_url(url)  # type: ignore[no-untyped-call]
            scheme = urlsplit(url).scheme
        except ValueError:
            known, scheme = {}, ""
        if scheme not in ("redis", "rediss") or "host" not in known:
            raise InvalidField.of("cache_urls", "must be redis:// or rediss:// addresses with a host")
        self.host: str = known["host"]
        self.port: int = known.get("port", 6379)
        self.tls = scheme == "rediss"
        names = {"username", "password", "db"} | ({"ssl_ca_certs"} if self.tls else set())
        self.options: dict[str, Any] = {name: known[name] for name in names & known.keys()}
        """How to sign in, as redis-py's connections take it."""


def open_node(address: NodeAddress, host: str, port: int, budget: Budget, *, max_connections: int) -> Redis:
    """A client of the one server at ``host`` and ``port``, with the options of ``address``; it never tries twice.

    Nothing is sent. More than ``max_connections`` operations at once fail at once.
    """
    pool = ConnectionPool(
        connection_class=_DeadlineTlsConnection if address.tls else _DeadlineConnection,
        max_connections=max_connections,
        host=host,
        port=port,
        budget=budget,
        protocol=2,  # no HELLO, and no CLIENT SETINFO below: a new connection costs one round trip less each
        driver_info=None,
        retry=Retry(NoBackoff(), 0),
        **address.options,
    )
    client = Redis(connection_pool=pool)
    client.auto_close_connection_pool = True
    return client


class _DeadlineSocket:
    """A socket whose waits are cut to what is left of the budget."""

    def __init__(self, connection: socket.socket, budget: Budget) -> None:
        self._connection = connection
        self._budget = budget
        self._timeout_s: float | None = None

    def settimeout(self, timeout_s: float | None) -> None:
        """0: never wait. Anything else: the budget decides, within ``timeout_s``."""
        self._timeout_s = timeout_s

    def recv(self, size: int) -> bytes:
        self._arm()
        return self._connection.recv(size)

    def sendall(self, data: bytes) -> None:
        self._arm()
        self._connection.sendall(data)  # its timeout limits the whole call

    def shutdown(self, how: int) -> None:
        self._connection.shutdown(how)

    def close(self) -> None:
        self._connection.close()

    def _arm(self) -> None:
        if self._timeout_s == 0:
            self._connection.settimeout(0)
            return
        left_s = self._budget.left_s()
        self._connection.settimeout(left_s if self._timeout_s is None else min(left_s, self._timeout_s))


class _DeadlineConnection(Connection):
    def __init__(self, *, budget: Budget, **options: Any) -> None:  # noqa: ANN401 -- redis-py's own options
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._budget = budget
        self.socket_timeout = None  # the socket below has the budget

    def _connect(self) -> _DeadlineSocket:
        self.socket_connect_timeout = self._budget.left_s()
        return _DeadlineSocket(super()._connect(), self._budget)  # type: ignore[no-untyped-call]


class _DeadlineTlsConnection(SSLConnection):
    def __init__(self, *, budget: Budget, **options: Any) -> None:  # noqa: ANN401 -- redis-py's own options
        super().__init__(**options)
        self._budget = budget
        self.socket_timeout = None

    def _connect(self) -> _DeadlineSocket:
        self.socket_connect_timeout = self._budget.left_s()
        return _DeadlineSocket(super()._connect(), self._budget)  # type: ignore[no-untyped-call]

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> socket.socket:
        sock.settimeout(self._budget.left_s())  # of the handshake; without it a server that hangs here hangs us
        return cast("socket.socket", super()._wrap_socket_with_ssl(sock))  # type: ignore[no-untyped-call]
