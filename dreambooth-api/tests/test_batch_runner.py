"""One batch on the device: where weights come from, what happens when memory is short or a request leaves."""

from __future__ import annotations

import gc
import shutil
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from published_models import manifest_of, write_full
from tiny_base import build_tiny_base

from enlight.dreambooth_api.admission import Admitted, version_name
from enlight.dreambooth_api.batch_runner import BatchRunner
from enlight.dreambooth_api.batching import BatchKey
from enlight.dreambooth_api.generation import Generation, Row
from enlight.dreambooth_api.model_cache import CachedModel
from enlight.dreambooth_api.pipelines import StableDiffusion
from enlight.dreambooth_api.pure.inference import sample_conditioned
from enlight.dreambooth_api.requests import Base, GenerationRequest
from enlight.dreambooth_api.resident_bases import ResidentBases
from enlight.dreambooth_api.weight_tiers import WeightTiers
from enlight.servicekit.child import Task
from enlight.servicekit.errors import CorruptModel, OutOfGpuMemory

CPU = torch.device("cpu")
STEPS = 3


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return build_tiny_base(tmp_path_factory.mktemp("base"))


class Sampler:
    """The real sampler, which remembers its batches and has memory for ``limit`` pictures."""

    def __init__(self, limit: int = 100) -> None:
        self.limit = limit
        self.batches: list[int] = []

    def __call__(self, base: Any, conditioning: Any, *, seeds: Sequence[int], **arguments: Any) -> torch.Tensor:
        self.batches.append(len(seeds))
        if len(seeds) > self.limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return sample_conditioned(base, conditioning, seeds=seeds, **arguments)


class Owner:
    """Keeps what a batch reports; ``leave`` says when a row's request is cancelled."""

    def __init__(self, leave: Callable[[Row, int], bool] = lambda row, step: False) -> None:
        self.pictures: dict[Row, NDArray[np.uint8]] = {}
        self.batch_images: list[int] = []
        self.failures: dict[Row, Exception] = {}
        self.steps: list[tuple[int, int]] = []
        self._leave = leave
        self._step = 0

    def wanted(self, rows: list[Row]) -> list[Row]:
        return [row for row in rows if not self._leave(row, self._step)]

    def stepped(self, rows: list[Row], step: int, steps: int) -> None:
        self._step = step
        self.steps.append((len(rows), step))

    def finished(self, rows: list[Row], pictures: NDArray[np.uint8], batch_images: int) -> None:
        self.pictures |= dict(zip(rows, pictures, strict=True))
        self.batch_images.append(batch_images)

    def failed(self, rows: list[Row], error: Exception) -> None:
        self.failures |= dict.fromkeys(rows, error)


def make_runner(sampler: Sampler, *, host_cache_bytes: int = 10**8) -> BatchRunner:
    tiers = WeightTiers(CPU, gpu_cache_bytes=0, host_cache_bytes=host_cache_bytes)
    return BatchRunner(CPU, bases=ResidentBases(CPU, 1), tiers=tiers, sampler=sampler)


def make_rows(
    base: Base, count: int, *, cached: CachedModel | None = None, guidance_scale: float = 5.0
) -> tuple[BatchKey, list[Row]]:
    """A batch of ``count`` requests of one picture each."""
    version = version_name(cached) if cached else None
    key = BatchKey(base.name, version, 64, 64, STEPS, guided=guidance_scale > 1)
    rows = []
    for index in range(count):
        request = GenerationRequest(base.name, f"a dog {index}", "", 1, index, None, None, None, guidance_scale, "png")
        generation = Generation(Task(index, request), request, arrived_s=0.0)
        generation.admit(Admitted(base, cached, key, ExitStack()))
        rows.append(Row(generation, 0))
    return key, rows


def cached_model(base: Base, folder: Path, name: str, seed: int) -> CachedModel:
    return CachedModel(manifest_of(base, name, "full"), write_full(base, folder / name, seed=seed), "bucket")


def test_a_batch_is_cut_until_it_fits_and_its_pictures_do_not_depend_on_it(base: Base) -> None:
    # Given the pictures of a whole batch, and a device with room for two
    key, rows = make_rows(base, 5)
    whole = Owner()
    make_runner(Sampler()).run(key, rows, whole)
    sampler = Sampler(limit=2)
    runner, owner = make_runner(sampler), Owner()
    # When the batch runs there
    runner.run(key, rows, owner)
    # Then it was halved where needed, in order, and every picture is the same
    assert sampler.batches == [5, 2, 3, 1, 2]
    assert owner.batch_images == [2, 1, 2]
    assert runner.out_of_memory_count == 2
    assert list(owner.pictures) == rows
    for row in rows:
        assert np.abs(owner.pictures[row].astype(int) - whole.pictures[row].astype(int)).max() <= 1
        assert whole.pictures[row].std() > 5


def test_one_picture_that_does_not_fit_is_tried_twice(base: Base) -> None:
    # Given no room at all
    key, rows = make_rows(base, 2)
    sampler = Sampler(limit=0)
    runner, owner = make_runner(sampler), Owner()
    # When a batch runs
    runner.run(key, rows, owner)
    # Then each picture got a second try with free caches, and failed
    assert sampler.batches == [2, 1, 1, 1, 1]
    assert [type(owner.failures[row]) for row in rows] == [OutOfGpuMemory, OutOfGpuMemory]
    # And when there is room again, the same runner works
    sampler.limit = 2
    again = Owner()
    runner.run(key, rows, again)
    assert list(again.pictures) == rows


def test_rows_that_leave_are_dropped_and_the_rest_is_the_same(base: Base) -> None:
    # Given a batch of which one row leaves before it starts and another one after the second step
    key, rows = make_rows(base, 4)
    whole = Owner()
    make_runner(Sampler()).run(key, rows, whole)
    owner = Owner(lambda row, step: row is rows[0] or (row is rows[2] and step >= 1))
    # When it runs
    make_runner(Sampler()).run(key, rows, owner)
    # Then the steps shrink with it, and the others' pictures stay
    assert owner.steps == [(3, 1), (2, 2), (2, 3)]
    assert list(owner.pictures) == [rows[1], rows[3]]
    assert owner.batch_images == [3]
    for row in (rows[1], rows[3]):
        assert np.abs(owner.pictures[row].astype(int) - whole.pictures[row].astype(int)).max() <= 1


def test_a_batch_that_everybody_leaves_stops_without_pictures(base: Base) -> None:
    key, rows = make_rows(base, 2)
    owner = Owner(lambda row, step: step >= 1)
    make_runner(Sampler()).run(key, rows, owner)
    assert owner.steps == [(2, 1), (0, 2)]
    assert (owner.pictures, owner.failures) == ({}, {})


def test_the_tier_is_where_the_weights_were(base: Base, tmp_path: Path) -> None:
    # Given two models and the base, and a runner with room for both in host memory
    dog, cat = (cached_model(base, tmp_path, name, seed) for seed, name in enumerate(("dog", "cat")))
    runner = make_runner(Sampler())

    def tier(cached: CachedModel | None) -> str:
        key, rows = make_rows(base, 1, cached=cached)
        runner.run(key, rows, Owner())
        return rows[0].generation.cache_tier

    # When they take turns, then each says where its weights were
    history = [None, None, dog, dog, cat, dog, None, None]
    assert [tier(cached) for cached in history] == [
        "disk", "resident", "bucket", "resident", "bucket", "host", "host", "resident",
    ]  # fmt: skip


def test_a_base_is_gone_before_the_next_one_is_loaded(base: Base) -> None:
    # Given room for one base, and a loader that looks whether the last one is still there
    loaded: list[weakref.ref[StableDiffusion]] = []

    def load(folder: Path, *, device: torch.device, weights_dtype: torch.dtype) -> StableDiffusion:
        gc.collect()
        assert not any(pipeline() for pipeline in loaded)
        pipeline = StableDiffusion.load(folder, device=device, weights_dtype=weights_dtype)
        loaded.append(weakref.ref(pipeline))
        return pipeline

    tiers = WeightTiers(CPU, gpu_cache_bytes=0, host_cache_bytes=0)
    runner = BatchRunner(CPU, bases=ResidentBases(CPU, 1, load=load), tiers=tiers, sampler=Sampler())
    # When two bases take turns
    for name in ("a", "b", "a"):
        key, rows = make_rows(replace(base, name=f"tests/{name}"), 1)
        runner.run(key, rows, Owner())
        assert rows[0].generation.cache_tier == "disk"
    # Then each was loaded alone
    assert len(loaded) == 3


def test_what_was_read_ahead_is_not_read_again(base: Base, tmp_path: Path) -> None:
    # Given a model that is read ahead while something else runs, and no room to keep any
    dog = cached_model(base, tmp_path, "dog", 1)
    sampler = Sampler()
    runner = make_runner(sampler, host_cache_bytes=0)
    runner.run(*make_rows(base, 1), Owner())
    runner.prefetch(dog)
    while runner.prefetching:
        time.sleep(0.001)
    # When its files are gone by the time of its batch
    shutil.rmtree(dog.folder)
    owner = Owner()
    key, rows = make_rows(base, 1, cached=dog)
    runner.run(key, rows, owner)
    # Then it runs from memory, and says where it came from
    assert list(owner.pictures) == rows
    assert rows[0].generation.cache_tier == "bucket"
    # And nothing is read ahead for a model that is in the buffers
    runner.prefetch(dog)
    assert not runner.prefetching
    runner.stop()


def test_a_model_that_cannot_be_used_raises_and_the_base_goes_on(base: Base, tmp_path: Path) -> None:
    dog = cached_model(base, tmp_path, "dog", 1)
    shutil.rmtree(dog.folder)
    runner = make_runner(Sampler())
    with pytest.raises(CorruptModel):
        runner.run(*make_rows(base, 1, cached=dog), Owner())
    owner = Owner()
    runner.run(*make_rows(base, 1, guidance_scale=1.0), owner)
    assert len(owner.pictures) == 1
