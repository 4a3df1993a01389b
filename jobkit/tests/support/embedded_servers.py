"""MongoDB's protocol and Valkey as processes of a test: started, stopped, killed, paused, started again."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pymongo
import pymongo.errors
import redis

_ROOT = Path(__file__).resolve().parents[3]
_MONGO_SCRIPT = _ROOT / "mongodb-server/embedded.py"
_VALKEY_SCRIPT = _ROOT / "enlight-redis/embedded.py"
_START_S = 60.0  # two slow cores, many tests beside each other


class EmbeddedServer:
    """One server process on a loopback port that stays the same over restarts, as its data does.

    Args:
        script: Which server, a script that takes ``--port`` and ``--data``.
        folder: Its data; made when missing.
        scheme: Of its URL: ``mongodb`` or ``redis``.
        ready: Whether the server at this URL answers.
        arguments: More for the script.
    """

    def __init__(
        self, script: Path, folder: Path, scheme: str, ready: Callable[[str], bool], arguments: Sequence[str] = ()
    ) -> None:
        self._script = script
        self._folder = folder
        self._ready = ready
        self._arguments = list(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = _free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}/"
        self.log = folder.with_name(folder.name + ".log")

    @property
    def pid(self) -> int:
        """The server's process id."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Starts the server on its port with the data that it has, and waits until it answers."""
        assert self._process is None, "the server is running"
        command = [sys.executable, str(self._script), "--port", str(self.port), "--data", str(self._folder)]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        deadline_s = time.monotonic() + _START_S
        while not self._ready(self.url):
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                self.kill()
                raise RuntimeError(f"no server on port {self.port}:\n{self.log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Asks the server to end, and waits; nothing to do for one that is not running."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """SIGSTOP: the port stays open, nothing answers."""
        assert self._process is not None, "the server is not running"
        self._process.send_signal(signal.SIGSTOP)
        while psutil.Process(self.pid).status() != psutil.STATUS_STOPPED:  # its threads stop one after the other
            time.sleep(0.001)

    def resume(self) -> None:
        """SIGCONT."""
        assert self._process is not None, "the server is not running"
        self._process.send_signal(signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)  # a stopped process does not see SIGTERM
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def mongo_server(folder: Path) -> Iterator[EmbeddedServer]:
    """A server that speaks MongoDB's protocol and keeps its data in ``folder``; stopped at the end."""
    with _running(EmbeddedServer(_MONGO_SCRIPT, folder, "mongodb", _mongo_answers)) as server:
        yield server


@contextmanager
def valkey_server(
    folder: Path, *, maxmemory: str | None = None, appendonly: bool = False, config: Path | None = None
) -> Iterator[EmbeddedServer]:
    """A Valkey with its files in ``folder``; stopped at the end.

    Args:
        folder: Its data.
        maxmemory: Such as ``8mb``; over it the least used keys are evicted. None: no limit.
        appendonly: Whether each write is on disk before it is answered.
        config: A configuration file; the others win over it.
    """
    with_config = [] if config is None else ["--config", str(config)]
    arguments = ["--appendonly", "yes", "--appendfsync", "always"] if appendonly else []
    if maxmemory is not None:
        arguments += ["--maxmemory", maxmemory, "--maxmemory-policy", "allkeys-lru"]
    arguments = [*with_config, "--", *arguments]
    with _running(EmbeddedServer(_VALKEY_SCRIPT, folder, "redis", _valkey_answers, arguments)) as server:
        yield server


@contextmanager
def _running(server: EmbeddedServer) -> Iterator[EmbeddedServer]:
    server.start()
    try:
        yield server
    finally:
        server.kill()


def _mongo_answers(url: str) -> bool:
    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(url, timeoutMS=500)
    with client:
        try:
            client.admin.command("ping")
        except pymongo.errors.PyMongoError:
            return False
        return True


def _valkey_answers(url: str) -> bool:
    with closing(redis.Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5)) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port: int = probe.getsockname()[1]
        return port
