"""MongoDB's protocol and Valkey as processes of a test: started, stopped, killed, paused, started again."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pymongo
import pymongo.errors
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from enlight.servicekit.local_process import LocalProcess, free_port
from enlight.servicekit.settings import child_environment

_ROOT = Path(__file__).resolve().parents[3]
_MONGO_SCRIPT = _ROOT / "mongodb-server/embedded.py"
_VALKEY_SCRIPT = _ROOT / "enlight-redis/embedded.py"
START_S = 60.0  # two slow cores, many tests beside each other


class EmbeddedServer(LocalProcess):
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
        self.port = free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}/"
        super().__init__(
            f"the server at {self.url}",
            [sys.executable, str(script), "--port", str(self.port), "--data", str(folder), *arguments],
            environment=child_environment({}),
            log=folder.with_name(folder.name + ".log"),
            is_ready=lambda: ready(self.url),
            ready_timeout_s=START_S,
        )
        self._paused = False

    def stop(self, timeout_s: float = 20) -> int:
        """Asks the server to end, and waits; a stopped process would not see that."""
        if self._paused:
            self.resume()
        return super().stop(timeout_s)

    def pause(self) -> None:
        """SIGSTOP: the port stays open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True
        while psutil.Process(self.pid).status() != psutil.STATUS_STOPPED:  # its threads stop one after the other
            time.sleep(0.001)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)
        self._paused = False


@contextmanager
def mongo_server(folder: Path) -> Iterator[EmbeddedServer]:
    """A server that speaks MongoDB's protocol and keeps its data in ``folder``; stopped at the end."""
    with _running(EmbeddedServer(_MONGO_SCRIPT, folder, "mongodb", _mongo_answers)) as server:
        yield server


@contextmanager
def valkey_server(
    folder: Path,
    *,
    maxmemory: str | None = None,
    appendonly: bool = False,
    config: Path | None = None,
    program: str | None = None,
) -> Iterator[EmbeddedServer]:
    """A Valkey with its files in ``folder``; stopped at the end.

    Args:
        folder: Its data.
        maxmemory: Such as ``8mb``; over it the least used keys are evicted. None: no limit.
        appendonly: Whether each write is on disk before it is answered.
        config: A configuration file; the others win over it.
        program: Another server than the embedded one, such as ``redis-server``.
    """
    with_config = [] if config is None else ["--config", str(config)]
    if program is not None:
        with_config += ["--server", program]
    arguments = ["--appendonly", "yes", "--appendfsync", "always"] if appendonly else []
    if maxmemory is not None:
        arguments += ["--maxmemory", maxmemory, "--maxmemory-policy", "allkeys-lru"]
    arguments = [*with_config, "--", *arguments]
    with _running(EmbeddedServer(_VALKEY_SCRIPT, folder, "redis", _valkey_answers, arguments)) as server:
        yield server


@contextmanager
def _running(server: EmbeddedServer) -> Iterator[EmbeddedServer]:
    try:
        server.start()
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
    once = Retry(NoBackoff(), 0)
    with closing(redis.Redis.from_url(url, socket_timeout=0.5, socket_connect_timeout=0.5, retry=once)) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
