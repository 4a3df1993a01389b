"""Many processes want one model at once: it is downloaded once, and nobody waits for a dead one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from cache_worker import Nursery, Worker, WorkerConfig
from fake_gcs import fake_gcs
from fault_counts import LONG, SHORT
from memory_folder import memory_folder
from model_samples import DESCRIPTION, cache_bytes, half_models, write_model

from enlight.dreambooth_api.model_store import ModelStore
from enlight.servicekit.directory_store import DirectoryStore
from enlight.servicekit.gcs_store import GcsStore

PROCESSES = 16


@contextmanager
def workers(config: WorkerConfig, count: int) -> Iterator[list[Worker]]:
    with Nursery() as nursery, ExitStack() as stack:
        started = [nursery.worker(config) for _ in range(count)]
        for worker in started:
            stack.callback(worker.kill)
        for worker in started:
            worker.wait_ready()
        yield started


def run_herd(folder: Path, rounds: int) -> None:
    store = ModelStore(DirectoryStore(folder / "bucket"))
    config = WorkerConfig(f"file://{folder}/bucket", f"{folder}/cache", f"{folder}/log", quota_bytes=150_000)
    with workers(config, PROCESSES) as herd:
        for number in range(rounds):
            # Given a model that nobody has
            content = write_model(folder / "model", seed=number)
            store.publish(f"m{number}", folder / "model", DESCRIPTION)
            (folder / "log").write_text("")
            # When every process asks for it at once
            for worker in herd:
                worker.start("use", model_id=f"m{number}")
            answers = [worker.finish() for worker in herd]
            # Then each has the right bytes, and each file was fetched exactly once
            assert [answer["content"] for answer in answers] == [content] * PROCESSES
            assert len((folder / "log").read_text().splitlines()) == len(content)
            assert sorted(answer["source"] for answer in answers) == ["bucket"] + ["disk"] * (PROCESSES - 1)
            assert cache_bytes(folder / "cache") <= config.quota_bytes
            assert half_models(folder / "cache") == []


def test_sixteen_processes_fetch_once() -> None:
    with memory_folder() as folder:
        run_herd(folder, SHORT.herd_rounds)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_sixteen_processes_fetch_once_long() -> None:
    with memory_folder() as folder:
        run_herd(folder, LONG.herd_rounds)


def test_processes_fetch_once_from_google(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a model in a bucket over the network
    with fake_gcs(tmp_path / "gcs") as server:
        objects = GcsStore("modelids", timeout_s=10, retry_total_s=10, endpoint=server.url)
        content = write_model(tmp_path / "model", seed=1)
        ModelStore(objects).publish("dog", tmp_path / "model", DESCRIPTION)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
        config = WorkerConfig(
            "gs://modelids", f"{tmp_path}/cache", f"{tmp_path}/log", quota_bytes=100_000, alias_ttl_s=60.0
        )
        # When processes ask for it at once
        with workers(config, 3) as herd:
            server.proxy.exchanges.clear()
            for worker in herd:
                worker.start("use", model_id="dog")
            assert [worker.finish()["content"] for worker in herd] == [content] * 3
        # Then the network saw each object asked for once: the files, the manifest and current
        gets = [line for line in server.proxy.exchanges if "alt=media" in line]
        assert len(gets) == len(set(gets)) == len(content) + 2


def test_the_next_takes_over_from_a_killed_one() -> None:
    with memory_folder() as folder:
        content = write_model(folder / "model", seed=1)
        ModelStore(DirectoryStore(folder / "bucket")).publish("dog", folder / "model", DESCRIPTION)
        config = WorkerConfig(f"file://{folder}/bucket", f"{folder}/cache", f"{folder}/log", quota_bytes=45_000)
        with workers(config, 2) as (first, second):
            # Given a process in the middle of its download, and another that waits for it
            (folder / "gate").touch()
            first.start("use", model_id="dog", gate=f"{folder}/gate")
            assert first.finish() == {"paused": True}
            second.start("use", model_id="dog")
            time.sleep(0.3)
            assert len((folder / "log").read_text().splitlines()) == 1
            # When the first is killed
            killed = time.monotonic()
            first.kill()
            # Then the other fetches the model, within a second, in the room that the first had reserved
            assert second.finish()["content"] == content
            assert time.monotonic() - killed < 1.0
            assert half_models(folder / "cache") == []
            assert [*(folder / "cache/downloads").iterdir()] == []


def test_a_killed_processes_pins_are_gone() -> None:
    with memory_folder() as folder:
        store = ModelStore(DirectoryStore(folder / "bucket"))
        contents = {}
        for number, model_id in enumerate(("a", "b")):
            contents[model_id] = write_model(folder / model_id, seed=number)
            store.publish(model_id, folder / model_id, DESCRIPTION)
        config = WorkerConfig(f"file://{folder}/bucket", f"{folder}/cache", f"{folder}/log", quota_bytes=45_000)
        with workers(config, 2) as (first, second):
            # Given a full cache whose only model a process uses
            first.call("lease", model_id="a", slot="1")
            assert second.call("use", model_id="b")["error"] == "storage_full"
            # When that process is killed, then there is room
            first.kill()
            assert second.call("use", model_id="b")["content"] == contents["b"]
