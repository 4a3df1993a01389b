"""Small reads that clients repeat again and again, answered by one thread of gunicorn's worker.

To make such an answer is the smaller part of the work. The larger one is that threads wake each other, and pass the
interpreter's lock on at each step. Here one thread waits for all connections on which such a read was asked before, and
answers those on which one is asked again, one after the other. What the answers need of a database, the application
asks for once.

Nobody waits for this thread for long. A request of another kind goes to the worker's other threads at once, and so do
all of its connections when its answers take longer than they should.
"""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from gunicorn.http.message import Request
from gunicorn.workers.gthread import TConn, ThreadWorker

EXTENSION = "quick_reads"
"""Key in ``app.extensions`` of an application's `QuickRead`."""

PAUSE_S = 0.005
"""From the beginning of answers that were made together to the next ones, so that these are more."""
STALLED_AFTER_S = 0.1
"""Answers that are made together take less, unless something is wrong."""
QUIET_AFTER_S = 10.0
"""A connection on which nothing is asked for so long goes back to gunicorn, which closes it some day."""
LOOK_EVERY_S = 0.5
"""At the clock, when nothing comes."""
MAX_HEAD_BYTES = 8192
"""A read with a longer head is not quick."""
MAX_TOGETHER = 64


@dataclass(frozen=True)
class QuickRead:
    """The reads of one route.

    Args:
        path: Of their requests, a regular expression for text and bytes; its one group is the record's id.
        together: The context in which reads of these records are answered.
    """

    path: str
    together: Callable[[Sequence[str]], AbstractContextManager[object]]


class QuickReads:
    """The thread and its connections.

    Args:
        worker: Whose connections they are.
        read: What is asked on them.
    """

    pause_s = PAUSE_S
    stalled_after_s = STALLED_AFTER_S
    quiet_after_s = QUIET_AFTER_S

    def __init__(self, worker: ThreadWorker, read: QuickRead) -> None:
        self._worker = worker
        self._together = read.together
        self._path = re.compile(read.path)
        self._head = re.compile(rf"GET {read.path} HTTP/1\.1\r\n".encode())
        self._epoll = select.epoll()
        self._lock = threading.Lock()
        self._waiting: dict[int, TConn] = {}
        """Connections on which nothing is asked, by the number of their socket."""
        self._asked: deque[tuple[TConn, str]] = deque()
        """Those that are to be answered, with the id of the record."""
        self._began_s: float | None = None
        """When the answers of now were begun; None: there are none."""
        self._ended = False

    def start(self) -> None:
        """Begins to wait for requests."""
        threading.Thread(target=self._run, name="quick-reads", daemon=True).start()

    def has(self, request: Request) -> bool:
        """Whether a request is one of these reads."""
        return request.method == "GET" and self._path.fullmatch(request.path) is not None

    def take(self, connection: TConn) -> bool:
        """Waits for the next request on a connection from now on. False: it cannot, the connection is the caller's."""
        with self._lock:
            if self._ended or self._is_stalled() or has_read_ahead(connection):
                return False
            connection.set_timeout()
            self._waiting[connection.sock.fileno()] = connection
            self._epoll.register(connection.sock, select.EPOLLIN)
        return True

    def release_if_stalled(self) -> None:
        """Gives all connections to the other threads if these would wait here; for the worker's main thread."""
        if self._is_stalled():
            with self._lock:
                asked = [connection for connection, _ in self._asked]
                self._asked.clear()
            self._give_back([*asked, *self._all_waiting()])

    def _run(self) -> None:
        while self._worker.alive:
            ready = self._epoll.poll(LOOK_EVERY_S, MAX_TOGETHER)
            began_s = time.monotonic()
            with self._lock:
                self._began_s = began_s
                connections = [self._waiting.pop(number) for number, _ in ready if number in self._waiting]
            for connection in connections:
                self._look_at(connection)
            answers = self._answer()
            self._began_s = None
            if answers > 1:
                time.sleep(max(0.0, began_s + self.pause_s - time.monotonic()))
            self._give_back(self._quiet())
        with self._lock:
            self._ended = True
        self._give_back(self._all_waiting())

    def _look_at(self, connection: TConn) -> None:
        try:
            head = connection.sock.recv(MAX_HEAD_BYTES, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            head = b""  # whoever reads it will see why
        asked = self._head.match(head)
        if asked is not None and head.find(b"\r\n\r\n") == len(head) - 4:  # whole, with no body and no request behind
            with self._lock:
                self._asked.append((connection, asked[1].decode()))
        else:
            self._epoll.unregister(connection.sock)
            self._worker.method_queue.defer(self._worker.enqueue_req, connection)

    def _answer(self) -> int:
        answers = 0
        with self._lock:
            record_ids = [record_id for _, record_id in self._asked]
        with self._together(record_ids):
            while (connection := self._next_asked()) is not None:
                is_open = self._handle(connection)
                answers += 1
                with self._lock:
                    stays = is_open and not self._is_stalled() and not has_read_ahead(connection)
                    if stays:
                        connection.set_timeout()
                        self._waiting[connection.sock.fileno()] = connection
                if not stays:
                    self._give_back([connection], is_open=is_open)
        return answers

    def _next_asked(self) -> TConn | None:
        with self._lock:
            return self._asked.popleft()[0] if self._asked else None

    def _handle(self, connection: TConn) -> bool:
        try:
            # gunicorn sends head and body one after the other, which would wake the client twice.
            with _in_one_packet(connection.sock):
                return ThreadWorker.handle(self._worker, connection) is True
        except BaseException:  # gunicorn lets SystemExit through; this thread has others to answer
            self._worker.log.exception("Error handling a quick read")
            return False

    def _is_stalled(self) -> bool:
        began_s = self._began_s
        return began_s is not None and time.monotonic() - began_s > self.stalled_after_s

    def _quiet(self) -> list[TConn]:
        # A connection's timeout is gunicorn's: when it may be closed.
        before_s = time.monotonic() + self._worker.cfg.keepalive - self.quiet_after_s
        with self._lock:
            numbers = [number for number, connection in self._waiting.items() if connection.timeout < before_s]
            return [self._waiting.pop(number) for number in numbers]

    def _all_waiting(self) -> list[TConn]:
        with self._lock:
            connections = [*self._waiting.values()]
            self._waiting.clear()
        return connections

    def _give_back(self, connections: Iterable[TConn], *, is_open: bool = True) -> None:
        """To gunicorn, as after an answer of its own; what was asked on them meanwhile it sees at once."""
        for connection in connections:
            with suppress(OSError, ValueError):  # it was closed, which took it out
                self._epoll.unregister(connection.sock)
            answered: Future[Any] = Future()
            answered.set_result(is_open)
            self._worker.method_queue.defer(self._worker.finish_request, connection, answered)


def has_read_ahead(connection: TConn) -> bool:
    """Whether a part of the next request came with the last one: gunicorn looks for that, and the socket is quiet."""
    return bool(connection.parser.unreader.buf.getvalue())


@contextmanager
def _in_one_packet(client: socket.socket) -> Iterator[None]:
    """What is sent within it leaves at its end."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    try:
        yield
    finally:
        with suppress(OSError):  # it was closed meanwhile
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
