"""Bits flipped and files cut, over every kind of file: noticed, or harmless; wrong bytes are never served."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from cache_machine import damage
from cache_mutants import TrustingCache, TrustingStore
from fault_counts import LONG, SHORT
from memory_folder import memory_folder
from model_samples import DESCRIPTION, content_of, write_model

from enlight.dreambooth_api.model_cache import ModelCache
from enlight.dreambooth_api.model_store import ModelStore
from enlight.servicekit.directory_store import DirectoryStore
from enlight.servicekit.errors import CorruptModel, StorageUnavailable

KINDS = {
    "weights in the bucket": "bucket/dog/v2/*/*/*.safetensors",
    "small file in the bucket": "bucket/dog/v2/*/*/*.json",
    "manifest in the bucket": "bucket/dog/v2/manifest.json",
    "current in the bucket": "bucket/dog/current",
    "cached weights": "cache/models/dog/v2/files/*/*.safetensors",
    "cached small file": "cache/models/dog/v2/files/*/*.json",
    "cached manifest": "cache/models/dog/v2/manifest.json",
    "the cache's index": "cache/aliases/dog.json",
}
"""Files by pattern; the cache has no index of its own but its folders and the records of what is current."""


class FragileStore(ModelStore):
    """A bucket that may be away."""

    away = False

    def current_version(self, model_id: str) -> str:
        if self.away:
            raise StorageUnavailable("away")
        return super().current_version(model_id)


def run_damages(
    count: int, *, cache_type: type[ModelCache] = ModelCache, store_type: type[ModelStore] = FragileStore
) -> Counter[str]:
    """Damage one file at a time and use the model; gives how often it was served, and refused."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    with memory_folder() as folder:
        # Given a model with two versions
        objects = DirectoryStore(folder / "bucket")
        for number, version in enumerate(("v1", "v2")):
            content = write_model(folder / "trained", number)
            ModelStore(objects).publish("dog", folder / "trained", DESCRIPTION, version=version)

        def new_cache() -> ModelCache:
            return cache_type(
                folder / "cache", store_type(objects), quota_bytes=100_000, alias_ttl_s=0.0, fetch_timeout_s=10.0
            )

        cache = new_cache()
        for number in range(count):
            kind = [*KINDS][number % len(KINDS)]
            if chance.random() < 0.5:
                cache = new_cache()  # as after a restart
            with cache.lease("dog") as cached:
                assert content_of(cached.folder) == content
            uncached = "bucket" in kind and chance.random() < 0.7
            if uncached:
                cache.remove("dog")
            # When a bit of one of its files flips, or the file is cut
            path = chance.choice(sorted(folder.glob(KINDS[kind])))
            before = path.read_bytes()
            damage(path, chance.randrange(1 << 30), cut=chance.random() < 0.3)
            store = cache._store
            if isinstance(store, FragileStore):
                store.away = not uncached and chance.random() < 0.3
            # Then the model is served with the right bytes of the right version, or refused
            try:
                with cache.lease("dog") as cached:
                    assert cached.manifest.version == "v2"
                    assert content_of(cached.folder) == content, f"wrong bytes after damage of {kind}"
                outcomes["served"] += 1
            except CorruptModel:
                assert uncached, f"refused for damage of {kind}"
                outcomes["refused"] += 1
            if isinstance(store, FragileStore):
                store.away = False
            if path.is_relative_to(folder / "bucket"):
                path.write_bytes(before)
    return outcomes


def test_damage_never_reaches_a_user() -> None:
    outcomes = run_damages(SHORT.damages)
    assert outcomes["served"] > 0
    assert outcomes["refused"] > 0


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_damage_never_reaches_a_user_long() -> None:
    print(run_damages(LONG.damages))


@pytest.mark.parametrize(
    "run",
    [
        lambda: run_damages(SHORT.damages, cache_type=TrustingCache),
        lambda: run_damages(SHORT.damages, store_type=TrustingStore),
    ],
    ids=["trusts the disk", "trusts the bucket"],
)
def test_without_checks_it_does(run: Callable[[], object]) -> None:
    with pytest.raises(AssertionError, match="wrong bytes"):
        run()


def test_every_position_of_a_file() -> None:
    with memory_folder() as folder:
        # Given a cached model
        content = write_model(folder / "trained", 1)
        store = ModelStore(DirectoryStore(folder / "bucket"))
        store.publish("dog", folder / "trained", DESCRIPTION)
        cache = ModelCache(folder / "cache", store, quota_bytes=100_000, alias_ttl_s=60.0, fetch_timeout_s=10.0)
        with cache.lease("dog"):
            pass
        for place in range(64):
            # When a bit of its weights flips, in each of 64 places
            path = next(folder.glob("cache/models/dog/*/files/unet/*.safetensors"))
            data = bytearray(path.read_bytes())
            at = min(place * len(data) // 63, len(data) - 1)
            data[at] ^= 1 << place % 8
            path.write_bytes(bytes(data))
            # Then what is served is right each time
            with cache.lease("dog") as cached:
                assert content_of(cached.folder) == content
        assert cache.stats().quarantined == 64
