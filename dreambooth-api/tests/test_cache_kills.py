"""Processes killed at random moments of everything they do, beside others that go on working."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from cache_machine import damage
from cache_worker import Nursery, Worker, WorkerConfig, WorkerDied
from fault_counts import LONG, SHORT
from memory_folder import memory_folder
from model_samples import (
    DESCRIPTION,
    Content,
    cache_bytes,
    content_of,
    half_models,
    half_published,
    write_model,
)
from quota_watch import QuotaWatch

from enlight.dreambooth_api.model_cache import ModelCache
from enlight.dreambooth_api.model_store import ModelStore
from enlight.servicekit.directory_store import DirectoryStore
from enlight.servicekit.errors import NotFound

MODEL_IDS = tuple(f"m{number}" for number in range(5))
QUOTA_BYTES = 2 * 41_500
MOST_LINES = 6_000
"""More lines than any of the operations takes."""


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    with Nursery() as nursery:
        yield nursery


@dataclass
class Campaign:
    """One bucket, one cache, two processes that go on working and one that is killed again and again."""

    nursery: Nursery
    folder: Path
    chance: random.Random
    kills: int = 0
    operations: int = 0
    seeds: int = 0

    def __post_init__(self) -> None:
        self.bucket, self.cache = self.folder / "bucket", self.folder / "cache"
        self.objects = DirectoryStore(self.bucket)
        self.store = ModelStore(self.objects)
        self.config = WorkerConfig(
            f"file://{self.bucket}",
            str(self.cache),
            str(self.folder / "log"),
            quota_bytes=QUOTA_BYTES,
            room_wait_s=20.0,
            fetch_timeout_s=30.0,
        )
        self.contents = {model_id: self.publish(model_id) for model_id in MODEL_IDS}
        self.victim = self.nursery.worker(self.config)
        self.others = [self.nursery.worker(self.config) for _ in range(2)]

    def publish(self, model_id: str) -> Content:
        self.seeds += 1
        content = write_model(self.folder / "trained", self.seeds)
        self.store.publish(model_id, self.folder / "trained", DESCRIPTION)
        return content

    def run(self, kills: int) -> None:
        """Go on until so many processes were killed."""
        try:
            with QuotaWatch(self.cache, QUOTA_BYTES):
                while self.kills < kills:
                    self.round()
        finally:
            for worker in (self.victim, *self.others):
                worker.kill()
        self.finish()

    def round(self) -> None:
        """One operation that is killed at a random moment, while two others use models; then everything is well."""
        self.operations += 1
        doomed = self.chance.choice(("use", "use", "use", "use damaged", "publish", "delete", "remove"))
        busy = [(worker, self.chance.choice(MODEL_IDS)) for worker in self.others]
        target = self.chance.choice(MODEL_IDS)
        if doomed == "use damaged":
            self.damage_cached(target)
        if doomed == "delete":
            self.publish("temporary")
        for worker, model_id in busy:
            worker.start("use", model_id=model_id)
        if doomed == "publish":
            self.die("publish", model_id="other", seed=1, folder=f"{self.folder}/other", version="v1")
        elif doomed == "delete":
            self.die("delete", model_id="temporary")
        else:
            self.die("remove" if doomed == "remove" else "use", model_id=target)
        for worker, model_id in busy:
            answer = worker.finish()
            assert answer.get("content") == self.contents[model_id], answer
        self.check(target, doomed)

    def die(self, op: str, **arguments: object) -> None:
        """The victim does something and is killed: before a line, before a call to the bucket, or at some time."""
        way = self.chance.choice(("lines", "calls", "time"))
        timer = threading.Timer(self.chance.uniform(0.0, 0.05), self.victim.kill)
        try:
            if way == "time":
                self.victim.wait_ready()
                timer.start()
                self.victim.call(op, **arguments)
            elif way == "lines":
                self.victim.call(op, lines_to_live=self.chance.randrange(MOST_LINES), **arguments)
            else:
                self.victim.call(op, calls_to_live=self.chance.randrange(20), **arguments)
        except (WorkerDied, ValueError):  # ValueError: the connection was closed in the middle of a line
            self.kills += 1
            timer.cancel()
            if timer.is_alive():
                timer.join()
            self.victim.kill()
            self.victim = self.nursery.worker(self.config)
            return
        if way == "time":
            timer.join()
            self.kills += 1
            self.victim = self.nursery.worker(self.config)

    def check(self, target: str, doomed: str) -> None:
        """What must hold whenever somebody was killed."""
        assert half_models(self.cache) == []
        assert half_published(self.bucket) == []
        # The next one takes over at once.
        started = time.monotonic()
        answer = self.others[0].call("use", model_id=target)
        assert answer.get("content") == self.contents[target], answer
        assert time.monotonic() - started < 5.0  # one second, and four for a busy machine
        if doomed == "publish":
            content = write_model(self.folder / "other", 1)
            self.store.publish("other", self.folder / "other", DESCRIPTION, version="v1")
            assert self.store.current_version("other") == "v1"
            assert half_published(self.bucket) == []
            assert content == content_of(self.folder / "other")
            self.store.delete("other")
        if doomed == "delete":
            with suppress(NotFound):
                self.store.delete("temporary")
            assert [*self.objects.list("temporary")] == []

    def damage_cached(self, model_id: str) -> None:
        files = [path for path in self.cache.glob(f"models/{model_id}/*/files/**/*") if path.is_file()]
        if files:
            damage(self.chance.choice(sorted(files)), self.chance.randrange(1 << 30), cut=False)
            # Another process may be the first to meet the damage, but one has to: what is left half is an error.
            self.others[0].call("use", model_id=model_id)

    def finish(self) -> None:
        """Nothing is left of all those who were killed, once it is old enough."""
        for path in (self.cache / "aliases").glob(".*.tmp"):
            os.utime(path, (1.0, 1.0))
        cache = ModelCache(self.cache, self.store, quota_bytes=QUOTA_BYTES, alias_ttl_s=0.0, fetch_timeout_s=30.0)
        for model_id in MODEL_IDS:
            with cache.lease(model_id) as cached:
                assert content_of(cached.folder) == self.contents[model_id]
        for name in ("downloads", "trash"):
            assert [*(self.cache / name).iterdir()] == []
        assert [path.name for path in (self.cache / "locks").iterdir()] == ["disk.lock"]
        assert all(path.suffix == ".json" for path in (self.cache / "aliases").iterdir())
        assert self.store.model_ids() == sorted(MODEL_IDS)
        assert cache.stats().used_bytes == cache_bytes(self.cache)


def run_kills(nursery: Nursery, kills: int) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    with memory_folder() as folder:
        campaign = Campaign(nursery, folder, random.Random(seed))
        campaign.run(kills)
        print(f"{campaign.kills} kills in {campaign.operations} operations")


def test_kills_leave_nothing_half(nursery: Nursery) -> None:
    run_kills(nursery, SHORT.kills)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_kills_leave_nothing_half_long(nursery: Nursery) -> None:
    run_kills(nursery, LONG.kills)


def run_readers(nursery: Nursery, operations: int) -> None:
    """Sixteen processes use five models in a cache of two."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    with memory_folder() as folder, ExitStack() as stack:
        store = ModelStore(DirectoryStore(folder / "bucket"))
        contents = {}
        for number, model_id in enumerate(MODEL_IDS):
            contents[model_id] = write_model(folder / "trained", number)
            store.publish(model_id, folder / "trained", DESCRIPTION)
        config = WorkerConfig(
            f"file://{folder}/bucket",
            f"{folder}/cache",
            f"{folder}/log",
            quota_bytes=QUOTA_BYTES,
            alias_ttl_s=60.0,
            room_wait_s=60.0,
            fetch_timeout_s=120.0,
        )
        readers: list[Worker] = []
        for _ in range(16):
            readers.append(nursery.worker(config))
            stack.callback(readers[-1].kill)
        with QuotaWatch(folder / "cache", QUOTA_BYTES):
            for reader in readers:
                model_ids = chance.choices(MODEL_IDS, k=operations // len(readers) + 1)
                reader.start("use_many", model_ids=model_ids, contents=contents)
            assert [reader.finish() for reader in readers] == [0] * len(readers)
        assert half_models(folder / "cache") == []


def test_readers_of_a_cache_that_is_too_small(nursery: Nursery) -> None:
    run_readers(nursery, SHORT.reader_operations)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_readers_of_a_cache_that_is_too_small_long(nursery: Nursery) -> None:
    run_readers(nursery, LONG.reader_operations)
