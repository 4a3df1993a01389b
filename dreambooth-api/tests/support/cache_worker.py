"""A process that uses a model store and cache on command, and dies where it is told: driven by ``Worker``.

Commands and answers are JSON, one a line, over a socket; each command names an operation and its arguments, see
``_Operations``.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from cache_mutants import MUTANT_CACHES, MUTANT_STORES
from memory_folder import memory_folder
from model_samples import DESCRIPTION, Content, content_of, write_model

from enlight.dreambooth_api.model_cache import ModelCache
from enlight.dreambooth_api.model_store import ModelStore
from enlight.servicekit.errors import ServiceError
from enlight.servicekit.object_store import ObjectInfo, ObjectStore, open_store

if TYPE_CHECKING:
    from _typeshed import TraceFunction

PIECE_BYTES = 4096
"""Downloads arrive in pieces of this size, so that there are many moments to die at."""


@dataclass(frozen=True)
class WorkerConfig:
    """Where a worker works, and which variant of the code it runs."""

    bucket_url: str
    cache: str
    log: str
    """File that gets a line ``GET key`` per download."""
    quota_bytes: int
    alias_ttl_s: float = 0.0
    fetch_timeout_s: float = 10.0
    room_wait_s: float = 0.3
    mutant: str = ""


class LoggedStore:
    """A bucket that logs downloads, serves in small pieces, waits at a gate, and may kill its process."""

    def __init__(self, objects: ObjectStore, log: Path) -> None:
        self._objects = objects
        self._log = log
        self.calls_to_live: int | None = None
        """The process dies before the call (or piece) after so many."""
        self.gate: Path | None = None
        """The next download waits after its first piece while this file exists."""
        self.at_gate: Callable[[], None] = lambda: None

    def _step(self) -> None:
        if self.calls_to_live is not None:
            if self.calls_to_live == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.calls_to_live -= 1

    def put_file(self, key: str, path: Path, *, if_absent: bool = False) -> None:
        self._step()
        self._objects.put_file(key, path, if_absent=if_absent)

    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False, if_generation: int | None = None) -> int:
        self._step()
        return self._objects.put_bytes(key, data, if_absent=if_absent, if_generation=if_generation)

    def get_bytes(self, key: str, *, max_bytes: int = 1 << 20) -> tuple[bytes, int]:
        self._step()
        return self._objects.get_bytes(key, max_bytes=max_bytes)

    def download(self, key: str, sink: Callable[[bytes], object]) -> int:
        with self._log.open("a") as log:
            log.write(f"GET {key}\n")

        def cut(chunk: bytes) -> None:
            for start in range(0, len(chunk), PIECE_BYTES):
                self._step()
                sink(chunk[start : start + PIECE_BYTES])
                if self.gate is not None:
                    self.at_gate()
                    while self.gate.exists():
                        time.sleep(0.001)
                    self.gate = None

        return self._objects.download(key, cut)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._step()
        return self._objects.list(prefix)

    def delete(self, key: str) -> None:
        self._step()
        self._objects.delete(key)


def make_cache(config: WorkerConfig, objects: ObjectStore) -> ModelCache:
    """The cache, or the mutant of it, that the configuration names."""
    store = MUTANT_STORES.get(config.mutant, ModelStore)(objects)
    return MUTANT_CACHES.get(config.mutant, ModelCache)(
        Path(config.cache),
        store,
        quota_bytes=config.quota_bytes,
        alias_ttl_s=config.alias_ttl_s,
        fetch_timeout_s=config.fetch_timeout_s,
        room_wait_s=config.room_wait_s,
    )


class _Operations:
    def __init__(self, config: WorkerConfig, answer: Callable[[object], None]) -> None:
        self._answer = answer
        objects = open_store(config.bucket_url, timeout_s=10, retry_total_s=10)
        self._objects = LoggedStore(objects, Path(config.log))
        self._store = MUTANT_STORES.get(config.mutant, ModelStore)(self._objects)
        self._cache = make_cache(config, self._objects)
        self._held: dict[str, tuple[ExitStack, Path]] = {}

    def run(self, command: dict[str, Any]) -> object:
        self._objects.calls_to_live = command.pop("calls_to_live", None)
        lines_to_live = command.pop("lines_to_live", None)
        gate = command.pop("gate", None)
        self._objects.gate = Path(gate) if gate else None
        self._objects.at_gate = lambda: self._answer({"paused": True})
        operation: Callable[..., object] = getattr(self, command.pop("op"))
        with ExitStack() as tracing:
            if lines_to_live is not None:
                tracing.callback(sys.settrace, None)
                sys.settrace(_die_after(lines_to_live))
            return operation(**command)

    def lease(self, model_id: str, slot: str) -> object:
        """Use a model until ``release``; gives what its files hold."""
        stack = ExitStack()
        cached = stack.enter_context(self._cache.lease(model_id))
        self._held[slot] = (stack, cached.folder)
        return {
            "version": cached.manifest.version,
            "source": cached.source,
            "content": content_of(cached.folder),
        }

    def use(self, model_id: str) -> object:
        """Use a model for a moment; gives what its files hold."""
        with self._cache.lease(model_id) as cached:
            return {
                "version": cached.manifest.version,
                "source": cached.source,
                "content": content_of(cached.folder),
            }

    def use_many(self, model_ids: list[str], contents: dict[str, Content]) -> object:
        """Use one model after the other; gives how often the bytes were not these."""
        wrong = 0
        for model_id in model_ids:
            with self._cache.lease(model_id) as cached:
                wrong += content_of(cached.folder) != contents[model_id]
        return wrong

    def release(self, slot: str) -> object:
        """End a use."""
        self._held.pop(slot)[0].close()
        return None

    def remove(self, model_id: str) -> object:
        """Remove a model from the cache."""
        return self._cache.remove(model_id)

    def publish(self, model_id: str, seed: int, folder: str, version: str) -> object:
        """Publish the model of a seed."""
        content = write_model(Path(folder), seed)
        self._store.publish(model_id, Path(folder), DESCRIPTION, version=version)
        return content

    def delete(self, model_id: str) -> object:
        """Delete a model from the bucket."""
        self._store.delete(model_id)
        return None

    def stats(self) -> object:
        """The cache's figures."""
        return asdict(self._cache.stats())


def _die_after(lines: int) -> TraceFunction:
    """Kills this process after so many lines of the code under test."""
    left = lines

    def trace(frame: FrameType, event: str, argument: object) -> TraceFunction | None:
        nonlocal left
        if "/enlight/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def _serve(connection: socket.socket) -> None:
    """Serve commands until the driver hangs up; the first line is the configuration."""
    with connection, connection.makefile("rw", encoding="ascii") as lines:

        def answer(value: object) -> None:
            lines.write(json.dumps(value) + "\n")
            lines.flush()

        operations = _Operations(WorkerConfig(**json.loads(lines.readline())), answer)
        answer({"ready": os.getpid()})
        for line in lines:
            try:
                answer({"ok": operations.run(json.loads(line))})
            except ServiceError as error:
                answer({"error": error.code, "message": error.message})
            except Exception as error:  # noqa: BLE001 - the driver says that this was not foreseen
                answer({"error": "crashed", "message": repr(error)})


def _warm_up() -> None:
    """Do everything once, so that no worker has to import or compile anything."""
    with memory_folder() as folder:
        config = WorkerConfig(f"file://{folder}/bucket", f"{folder}/cache", f"{folder}/log", quota_bytes=100_000)
        operations = _Operations(config, lambda value: None)
        operations.publish("warm", 1, f"{folder}/trained", "v1")
        operations.use("warm")
        operations.remove("warm")
        operations.delete("warm")
    gc.collect()
    gc.freeze()


def main() -> None:
    """The nursery: a process that has imported everything and forks a worker per connection, in milliseconds."""
    logging.getLogger("enlight").addHandler(logging.NullHandler())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # killed workers leave no zombies
    _warm_up()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(64)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _serve(connection)
                os._exit(0)
            connection.close()


class WorkerDied(Exception):  # noqa: N818 - an event that tests expect
    """The worker was killed before it answered."""


class Nursery:
    """Starts workers quickly. A context: at its end every worker's connection must be closed."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="enlight-nursery-")
        self._address = f"{self._folder.name}/socket"
        self._process = subprocess.Popen(
            [sys.executable, __file__, self._address],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            assert stdout.readline() == b"ready\n"

    def worker(self, config: WorkerConfig) -> Worker:
        """A new process."""
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._address)
        return Worker(connection, config)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._folder.cleanup()


class Worker:
    """A worker process. ``call`` waits for the answer, ``start`` and ``finish`` do it in two steps."""

    def __init__(self, connection: socket.socket, config: WorkerConfig) -> None:
        self._connection = connection
        self._lines = connection.makefile("rw", encoding="ascii")
        self._process: int | None = None
        """A pidfd: it can only ever mean this one process, unlike a number."""
        self._write(asdict(config))

    def call(self, op: str, **arguments: object) -> Any:
        """The operation's answer. Raises: WorkerDied; an error is given as ``{"error": code}``."""
        self.start(op, **arguments)
        return self.finish()

    def start(self, op: str, **arguments: object) -> None:
        """Begin an operation."""
        self.wait_ready()
        self._write({"op": op, **arguments})

    def wait_ready(self) -> None:
        """The worker has opened its cache."""
        if self._process is None:
            self._process = os.pidfd_open(self._read()["ready"])

    def finish(self) -> Any:
        """The answer of the operation that began, or ``{"paused": True}`` once it waits at its gate."""
        message = self._read()
        return message.get("ok", message)

    def kill(self) -> None:
        """SIGKILL, if it still lives, and the connection closed; a second call does nothing."""
        if self._lines.closed:
            return
        with suppress(WorkerDied, OSError):
            self.wait_ready()
        if self._process is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._process, signal.SIGKILL)
            select.select([self._process], [], [])  # until it has ended, and the kernel has freed its locks
            os.close(self._process)
            self._process = None
        with suppress(OSError):
            self._lines.close()
        self._connection.close()

    def _write(self, message: object) -> None:
        try:
            self._lines.write(json.dumps(message) + "\n")
            self._lines.flush()
        except OSError as error:
            raise WorkerDied from error

    def _read(self) -> Any:
        try:
            line = self._lines.readline()
        except ConnectionError as error:
            raise WorkerDied from error
        if not line:
            raise WorkerDied
        return json.loads(line)


if __name__ == "__main__":
    main()
