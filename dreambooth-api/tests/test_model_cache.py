"""ModelCache, one thing at a time. Random sequences and kills are in test_cache_properties and test_cache_kills."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from cache_worker import LoggedStore
from memory_folder import memory_folder
from model_samples import DESCRIPTION, Content, cache_bytes, content_of, half_models, write_model

from enlight.dreambooth_api import file_locks, model_cache
from enlight.dreambooth_api.file_locks import FileLock
from enlight.dreambooth_api.manifest import Manifest
from enlight.dreambooth_api.model_cache import ModelCache
from enlight.dreambooth_api.model_store import ModelStore
from enlight.dreambooth_api.verified_copies import VerifiedCopies
from enlight.servicekit.directory_store import DirectoryStore
from enlight.servicekit.errors import CorruptModel, InvalidField, NotFound, StorageFull, StorageUnavailable

MODEL_BYTES = 40_000
QUOTA_BYTES = 2 * MODEL_BYTES + 10_000  # two models and their manifests
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


class House:
    """A bucket with models, a cache folder, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bucket = folder / "bucket"
        self.cache_folder = folder / "cache"
        self.log = folder / "log"
        self.objects = LoggedStore(DirectoryStore(self.bucket), self.log)
        self.now = 1_800_000_000.0
        self.seeds = iter(range(1, 1_000_000))

    def publish(self, model_id: str, *, size_bytes: int = MODEL_BYTES, version: str | None = None) -> Content:
        seed = next(self.seeds)
        content = write_model(self.folder / f"trained-{seed}", seed, size_bytes=size_bytes)
        ModelStore(self.objects).publish(model_id, self.folder / f"trained-{seed}", DESCRIPTION, version=version)
        return content

    def cache(
        self,
        *,
        kind: type[ModelCache] = ModelCache,
        store: ModelStore | None = None,
        quota_bytes: int = QUOTA_BYTES,
        alias_ttl_s: float = 0.0,
        fetch_timeout_s: float = 20.0,
        room_wait_s: float = 0.1,
    ) -> ModelCache:
        return kind(
            self.cache_folder,
            store or ModelStore(self.objects),
            quota_bytes=quota_bytes,
            alias_ttl_s=alias_ttl_s,
            fetch_timeout_s=fetch_timeout_s,
            room_wait_s=room_wait_s,
            clock=lambda: self.now,
        )

    def gets(self) -> list[str]:
        """Keys of the files downloaded so far."""
        return [line.split(" ", 1)[1] for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def cached(self) -> set[str]:
        return {path.parent.name for path in self.cache_folder.glob("models/*/*")}

    def cached_file(self, model_id: str, path: str) -> Path:
        return next(self.cache_folder.glob(f"models/{model_id}/*")) / path

    def tick(self) -> None:
        self.now += 1.0


@pytest.fixture
def house() -> Iterator[House]:
    with memory_folder() as folder:
        yield House(folder)


def use(cache: ModelCache, model_id: str) -> Content:
    with cache.lease(model_id) as cached:
        return content_of(cached.folder)


def source(cache: ModelCache, model_id: str) -> str:
    with cache.lease(model_id) as cached:
        return cached.source


def flip(path: Path, at: int = 100) -> None:
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 4
    path.write_bytes(bytes(data))


def test_brings_a_model_once(house: House) -> None:
    # Given a published model
    content = house.publish("dog", version="v1")
    cache = house.cache()
    # When it is leased twice
    with cache.lease("dog") as first, cache.lease("dog") as second:
        # Then its files are there, from the bucket and then from the disk
        assert content_of(first.folder) == content == content_of(second.folder)
        assert (first.source, second.source) == ("bucket", "disk")
        assert first.manifest.version == "v1"
        assert first.manifest == second.manifest
    assert len(house.gets()) == len(content)
    stats = cache.stats()
    assert (stats.versions, stats.hits, stats.misses, stats.evictions, stats.quarantined) == (1, 1, 1, 0, 0)
    assert stats.used_bytes == cache_bytes(house.cache_folder)
    assert stats.quota_bytes == QUOTA_BYTES


def test_survives_a_restart(house: House) -> None:
    content = house.publish("dog")
    use(house.cache(), "dog")
    again = house.cache()
    assert use(again, "dog") == content
    assert again.stats().misses == 0


def test_names_a_version(house: House) -> None:
    old = house.publish("dog", version="v1")
    new = house.publish("dog", version="v2")
    cache = house.cache()
    with cache.lease("dog", version="v1") as cached:
        assert content_of(cached.folder) == old
    assert use(cache, "dog") == new


def test_unknown_and_bad_names(house: House) -> None:
    cache = house.cache()
    with pytest.raises(NotFound), cache.lease("dog"):
        pass
    house.publish("dog", version="v1")
    with pytest.raises(NotFound), cache.lease("dog", version="v2"):
        pass
    for name in ("../dog", "a/b", "", "dog\n", "dog\0"):
        with pytest.raises(InvalidField, match="model_id"), cache.lease(name):
            pass
        with pytest.raises(InvalidField, match="model_id"):
            cache.remove(name)
        with pytest.raises(InvalidField, match="version"), cache.lease("dog", version=name):
            pass


def test_what_was_used_longest_ago_goes_first(house: House) -> None:
    # Given a cache that holds two models
    for model_id in ("a", "b", "c", "d"):
        house.publish(model_id)
    cache = house.cache()
    for model_id in ("a", "b", "a", "c"):
        use(cache, model_id)
        house.tick()
    # Then b went, since a was used again
    assert house.cached() == {"a", "c"}
    # And the order survives a restart
    again = house.cache()
    use(again, "d")
    assert house.cached() == {"c", "d"}
    assert cache.stats().evictions == 1
    assert again.stats().evictions == 1


def test_a_clock_that_steps_back_does_not_turn_the_order(house: House) -> None:
    for model_id in ("a", "b", "c"):
        house.publish(model_id)
    cache = house.cache()
    use(cache, "a")
    house.now -= 3600
    use(cache, "b")
    use(cache, "c")
    assert house.cached() == {"b", "c"}


def test_what_is_in_use_is_never_evicted(house: House) -> None:
    contents = {model_id: house.publish(model_id) for model_id in ("a", "b", "c")}
    cache = house.cache()
    # Given a full cache, all of it in use
    with cache.lease("a") as a, house.cache().lease("b") as b:
        # When another model is asked for, then there is no room
        with pytest.raises(StorageFull, match="in use"), cache.lease("c"):
            pass
        assert content_of(a.folder) == contents["a"]
        assert content_of(b.folder) == contents["b"]
    # And once they are not in use, there is
    assert use(cache, "c") == contents["c"]


def test_waits_a_moment_for_room(house: House) -> None:
    contents = {model_id: house.publish(model_id) for model_id in ("a", "b", "c")}
    cache = house.cache(room_wait_s=10.0)
    with ExitStack() as held:
        held.enter_context(cache.lease("a"))
        held.enter_context(cache.lease("b"))
        threading.Timer(0.2, held.pop_all().close).start()
        assert use(cache, "c") == contents["c"]


def test_nothing_is_evicted_in_vain(house: House) -> None:
    # Given a small model, and a large one in use
    house.publish("small", size_bytes=10_000)
    house.publish("large", size_bytes=70_000)
    house.publish("other", size_bytes=40_000)
    cache = house.cache()
    use(cache, "small")
    with cache.lease("large"):
        # When a third would not fit even without the small one
        with pytest.raises(StorageFull), cache.lease("other"):
            pass
        # Then the small one stays
        assert house.cached() == {"small", "large"}


def test_a_model_larger_than_the_quota(house: House) -> None:
    house.publish("small", size_bytes=10_000)
    house.publish("large", size_bytes=QUOTA_BYTES)
    cache = house.cache()
    use(cache, "small")
    with pytest.raises(StorageFull) as caught, cache.lease("large"):
        pass
    assert "model_cache_quota_bytes" in caught.value.message
    assert caught.value.details["setting"] == "model_cache_quota_bytes"
    assert house.cached() == {"small"}


def test_a_smaller_quota_is_kept_from_the_start(house: House) -> None:
    house.publish("a")
    house.publish("b")
    cache = house.cache()
    use(cache, "a")
    house.tick()
    use(cache, "b")
    house.cache(quota_bytes=MODEL_BYTES + 5_000)
    assert house.cached() == {"b"}


DAMAGES: dict[str, Callable[[House], object]] = {
    "flipped bit": lambda house: flip(house.cached_file("dog", f"files/{WEIGHTS}")),
    "flipped bit in a small file": lambda house: flip(house.cached_file("dog", "files/unet/config.json")),
    "truncated": lambda house: os.truncate(house.cached_file("dog", f"files/{WEIGHTS}"), 100),
    "emptied": lambda house: os.truncate(house.cached_file("dog", f"files/{WEIGHTS}"), 0),
    "longer": lambda house: os.truncate(house.cached_file("dog", f"files/{WEIGHTS}"), 31_000),
    "missing file": lambda house: house.cached_file("dog", f"files/{WEIGHTS}").unlink(),
    "missing files": lambda house: shutil.rmtree(house.cached_file("dog", "files")),
    "a file too many": lambda house: house.cached_file("dog", "files/more.bin").write_bytes(b"x"),
    "flipped manifest": lambda house: flip(house.cached_file("dog", "manifest.json")),
    "emptied manifest": lambda house: os.truncate(house.cached_file("dog", "manifest.json"), 0),
    "missing manifest": lambda house: house.cached_file("dog", "manifest.json").unlink(),
    "missing lock": lambda house: house.cached_file("dog", "lease.lock").unlink(),
}


@pytest.mark.parametrize("fresh_process", [True, False])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_noticed_and_mended(house: House, damage: str, *, fresh_process: bool) -> None:
    # Given a cached model that is damaged
    content = house.publish("dog")
    cache = house.cache()
    use(cache, "dog")
    DAMAGES[damage](house)
    if fresh_process:
        cache = house.cache()
    # When it is used, then it has the right bytes again
    assert use(cache, "dog") == content
    assert half_models(house.cache_folder) == []
    assert len(house.gets()) == 2 * len(content)
    assert cache.stats().quarantined == (0 if damage == "missing lock" else 1)
    # And from then on it comes from the disk
    assert source(cache, "dog") == "disk"


def test_a_change_that_keeps_size_and_time_is_noticed_by_the_next_process(house: House) -> None:
    content = house.publish("dog")
    use(house.cache(), "dog")
    path = house.cached_file("dog", f"files/{WEIGHTS}")
    status = path.stat()
    flip(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert use(house.cache(), "dog") == content


def test_what_is_damaged_everywhere_is_refused(house: House) -> None:
    # Given a model damaged in the cache and in the bucket
    house.publish("dog")
    cache = house.cache(alias_ttl_s=30.0)
    use(cache, "dog")
    flip(next(house.bucket.glob(f"dog/*/*/{WEIGHTS}")))
    flip(house.cached_file("dog", f"files/{WEIGHTS}"))
    # When it is used, then that fails, and it does not cost a download every time
    with pytest.raises(CorruptModel), cache.lease("dog"):
        pass
    downloads = len(house.gets())
    for _ in range(3):
        with pytest.raises(CorruptModel), cache.lease("dog"):
            pass
    assert len(house.gets()) == downloads
    assert house.cached() == set()
    assert [*(house.cache_folder / "downloads").iterdir()] == []


def test_what_was_found_damaged_counts_and_goes_first(house: House) -> None:
    # Given a cache of three models with a damaged copy of one put aside
    contents = {model_id: house.publish(model_id) for model_id in ("a", "b", "c")}
    cache = house.cache(quota_bytes=3 * MODEL_BYTES + 10_000)
    use(cache, "a")
    flip(house.cached_file("a", f"files/{WEIGHTS}"))
    use(cache, "a")
    assert len([*(house.cache_folder / "quarantine").iterdir()]) == 1
    use(cache, "b")
    assert cache.stats().used_bytes > 3 * MODEL_BYTES
    # When there is no room, then it goes before any model
    use(cache, "c")
    assert house.cached() == set(contents)
    assert [*(house.cache_folder / "quarantine").iterdir()] == []


def test_what_was_found_damaged_goes_after_a_day(house: House) -> None:
    house.publish("dog")
    house.publish("cat")
    cache = house.cache()
    use(cache, "dog")
    flip(house.cached_file("dog", f"files/{WEIGHTS}"))
    house.now += 1e6
    use(cache, "dog")
    house.now += 23 * 3600
    house.cache()
    assert len([*(house.cache_folder / "quarantine").iterdir()]) == 1
    house.now += 2 * 3600
    house.cache()
    assert [*(house.cache_folder / "quarantine").iterdir()] == []


def test_running_out_of_descriptors_is_no_damage(house: House) -> None:
    # Given a process that cannot open files for a moment
    class Starved(VerifiedCopies):
        def _verify(self, folder: Path, model_id: str, version: str) -> Manifest:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    class StarvedCache(ModelCache):
        copies_type = Starved

    house.publish("dog")
    use(house.cache(), "dog")
    # When it uses a cached model, then that fails, and the copy stays
    with pytest.raises(StorageFull, match="Too many open files"), house.cache(kind=StarvedCache).lease("dog"):
        pass
    assert source(house.cache(), "dog") == "disk"


def test_current_is_believed_for_its_time(house: House) -> None:
    old = house.publish("dog")
    cache = house.cache(alias_ttl_s=5.0)
    assert use(cache, "dog") == old
    new = house.publish("dog")
    house.now += 4.0
    assert use(cache, "dog") == old
    assert use(house.cache(alias_ttl_s=5.0), "dog") == old
    house.now += 2.0
    assert use(cache, "dog") == new


class AwayStore(ModelStore):
    """A bucket that can go away."""

    away = False
    questions = 0

    def current_version(self, model_id: str) -> str:
        self.questions += 1
        if self.away:
            raise StorageUnavailable("away")
        return super().current_version(model_id)

    def manifest(self, model_id: str, version: str) -> Manifest:
        if self.away:
            raise StorageUnavailable("away")
        return super().manifest(model_id, version)


def test_a_bucket_that_is_away_is_done_without(house: House) -> None:
    contents = {model_id: house.publish(model_id) for model_id in ("dog", "cat")}
    store = AwayStore(house.objects)
    cache = house.cache(store=store, alias_ttl_s=1.0)
    use(cache, "dog")
    # Given a bucket that is away, for longer than current is believed
    store.away = True
    house.now += 100.0
    # Then what is cached is served, also after a restart, and the bucket is not asked each time
    asked = store.questions
    assert use(cache, "dog") == contents["dog"]
    assert use(cache, "dog") == contents["dog"]
    assert use(house.cache(store=store), "dog") == contents["dog"]
    assert store.questions == asked + 1
    # And what is not cached is said to be unavailable, not unknown
    with pytest.raises(StorageUnavailable), cache.lease("cat"):
        pass
    # When the bucket is back, then so is everything
    store.away = False
    house.now += 100.0
    assert use(cache, "cat") == contents["cat"]


def test_an_older_version_is_not_served_for_a_newer_one(house: House) -> None:
    # Given a cached version, and the knowledge that there is a newer one, which is not cached
    house.publish("dog")
    store = AwayStore(house.objects)
    cache = house.cache(store=store)
    use(cache, "dog")
    house.publish("dog")
    new = store.current_version("dog")
    with cache.lease("dog"):
        pass
    shutil.rmtree(house.cache_folder / "models/dog" / new)
    # When the bucket is away, then the model is unavailable rather than wrong
    store.away = True
    with pytest.raises(StorageUnavailable), cache.lease("dog"):
        pass


@pytest.mark.parametrize("damage", [b"", b"{}", None])
def test_a_lost_alias_record_is_done_without(house: House, damage: bytes | None) -> None:
    house.publish("dog")
    new = house.publish("dog")
    store = AwayStore(house.objects)
    cache = house.cache(store=store)
    use(cache, "dog")
    with cache.lease("dog", version=store.versions("dog")[0]):
        pass
    record = house.cache_folder / "aliases/dog.json"
    if damage is None:
        record.unlink()
    else:
        record.write_bytes(damage)
    # With the bucket there, it is asked; without it, the newest version that is here serves
    store.away = True
    assert use(cache, "dog") == new
    store.away = False
    assert use(house.cache(), "dog") == new


def test_a_model_deleted_in_the_bucket_goes_from_here(house: House) -> None:
    house.publish("dog")
    cache = house.cache()
    use(cache, "dog")
    ModelStore(house.objects).delete("dog")
    with pytest.raises(NotFound), cache.lease("dog"):
        pass
    assert house.cached() == set()
    assert [*(house.cache_folder / "aliases").iterdir()] == []


def test_a_model_deleted_and_trained_again_is_the_new_one(house: House) -> None:
    house.publish("dog")
    cache = house.cache(alias_ttl_s=60.0)
    use(cache, "dog")
    cache.remove("dog")
    assert use(cache, "dog")
    shutil.rmtree(house.cache_folder / "models/dog")
    ModelStore(house.objects).delete("dog")
    new = house.publish("dog")
    assert use(cache, "dog") == new


def test_removing_frees_the_room_at_once(house: House) -> None:
    content = house.publish("dog")
    cache = house.cache()
    use(cache, "dog")
    assert cache.remove("dog") == 0
    assert cache.stats().used_bytes == 0
    assert cache.remove("dog") == 0
    assert use(cache, "dog") == content


def test_removing_what_is_in_use_waits_for_its_last_user(house: House) -> None:
    content = house.publish("dog")
    cache = house.cache()
    other = house.cache()
    with cache.lease("dog") as first:
        with other.lease("dog"):
            # When the model is removed in the middle of its use
            assert cache.remove("dog") == 1
            assert content_of(first.folder) == content
        # Then it is there until the last user is done
        assert content_of(first.folder) == content
    assert house.cached() == set()


def test_a_removed_model_whose_user_was_killed_goes_too(house: House) -> None:
    house.publish("dog")
    cache = house.cache()
    use(cache, "dog")
    path = house.cached_file("dog", "lease.lock")
    lock = FileLock.try_hold(path, shared=True)
    assert lock is not None
    cache.remove("dog")
    lock.release()  # as the kernel does, without anything else
    assert house.cached() == {"dog"}
    house.cache()
    assert house.cached() == set()


def test_threads_share_one_download(house: House) -> None:
    content = house.publish("dog")
    cache = house.cache()
    with ThreadPoolExecutor(16) as pool:
        results = [*pool.map(lambda _: use(cache, "dog"), range(16))]
    assert results == [content] * 16
    assert sorted(house.gets()) == sorted(set(house.gets()))


def test_a_download_that_takes_too_long_ends(house: House) -> None:
    class SlowStore(ModelStore):
        def download(
            self, manifest: Manifest, folder: Path, *, on_bytes: Callable[[int], object] | None = None
        ) -> None:
            def slow(size_bytes: int) -> None:
                time.sleep(0.1)
                assert on_bytes is not None
                on_bytes(size_bytes)

            super().download(manifest, folder, on_bytes=slow)

    house.publish("dog")
    cache = house.cache(store=SlowStore(house.objects), fetch_timeout_s=0.4)
    started = time.monotonic()
    with pytest.raises(StorageUnavailable, match="in time"), cache.lease("dog"):
        pass
    assert time.monotonic() - started < 2.0
    assert [*(house.cache_folder / "downloads").iterdir()] == []


def test_another_process_that_downloads_is_waited_for_no_longer_than_the_limit(house: House) -> None:
    house.publish("dog", version="v1")
    cache = house.cache(fetch_timeout_s=0.3)
    with (
        FileLock.hold(house.cache_folder / "locks/dog@v1.fetch.lock", deadline=0),
        pytest.raises(StorageUnavailable, match="in time"),
        cache.lease("dog"),
    ):
        pass
    assert use(cache, "dog")


def test_an_error_in_the_users_block_is_his(house: House) -> None:
    house.publish("dog")
    cache = house.cache()
    with pytest.raises(OSError, match="his own"), cache.lease("dog"):
        raise OSError("his own")
    cache.remove("dog")
    assert house.cached() == set()


def test_leftovers_are_swept_at_the_start(house: House) -> None:
    # Given what killed processes may leave, and a download that is alive
    house.publish("dog")
    cache = house.cache()
    use(cache, "dog")
    root = house.cache_folder
    (root / "downloads" / "dead-1000" / "files").mkdir(parents=True)
    (root / "downloads" / "dead-1000" / "lease.lock").touch()
    (root / "downloads" / "unborn-1000").mkdir()
    (root / "downloads" / "alive-5").mkdir()
    (root / "trash" / "x").mkdir()
    (root / "trash" / "x" / "file").write_bytes(b"x")
    (root / "trash" / "file").write_bytes(b"x")
    (root / "models" / "cat" / "v1").mkdir(parents=True)
    (root / "models" / "cat" / "v1" / "half").write_bytes(b"x")
    (root / "locks" / "cat@v1.fetch.lock").touch()
    with FileLock.hold(root / "downloads" / "alive-5" / "lease.lock", deadline=0):
        again = house.cache()
        # Then only the living download and the whole model are left
        assert [path.name for path in (root / "downloads").iterdir()] == ["alive-5"]
        assert again.stats().used_bytes == cache_bytes(root) + 5
    assert [*(root / "trash").iterdir()] == []
    assert house.cached() == {"dog"}
    assert [path.name for path in (root / "locks").iterdir()] == ["disk.lock"]
    assert source(again, "dog") == "disk"


def test_locks_that_do_nothing_are_refused_at_the_start(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_cache, "excludes", lambda folder: False)
    with pytest.raises(InvalidField, match="cache_folder"):
        house.cache()
    monkeypatch.setattr(model_cache, "excludes", file_locks.excludes)
    house.cache()


class FullDiskStore(ModelStore):
    """Finds the disk full for the next so many downloads, after having written something."""

    failures = 0
    error = errno.ENOSPC

    def download(self, manifest: Manifest, folder: Path, *, on_bytes: Callable[[int], object] | None = None) -> None:
        if self.failures:
            self.failures -= 1
            (folder / "some").write_bytes(b"x" * 100)
            raise OSError(self.error, os.strerror(self.error))
        super().download(manifest, folder, on_bytes=on_bytes)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_evicts_and_tries_once_more(house: House, error: int) -> None:
    # Given a disk that is full below the quota, because of other things on it
    contents = {model_id: house.publish(model_id) for model_id in ("a", "b")}
    store = FullDiskStore(house.objects)
    store.error = error
    cache = house.cache(store=store)
    use(cache, "a")
    # When a download finds no space, then what is not in use makes some
    store.failures = 1
    assert use(cache, "b") == contents["b"]
    assert house.cached() == {"b"}
    # And when that does not help, the caller is told, and everything goes on
    store.failures = 2
    with pytest.raises(StorageFull), cache.lease("a"):
        pass
    assert [*(house.cache_folder / "downloads").iterdir()] == []
    assert use(cache, "a") == contents["a"]


def test_a_full_disk_does_not_evict_what_is_in_use(house: House) -> None:
    contents = {model_id: house.publish(model_id) for model_id in ("a", "b")}
    store = FullDiskStore(house.objects)
    cache = house.cache(store=store)
    with cache.lease("a") as cached:
        store.failures = 2
        with pytest.raises(StorageFull), cache.lease("b"):
            pass
        assert content_of(cached.folder) == contents["a"]


@pytest.fixture
def small_volume(house: House) -> Iterator[Path]:
    """The cache's folder on a filesystem of 128 kB; needs root."""
    folder = house.cache_folder
    folder.mkdir()
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small filesystem needs root")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no mounts here: {mounted.stderr.decode()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_volume_that_is_really_full(house: House, small_volume: Path) -> None:
    # Given a volume that holds two models, and a quota far above it
    contents = {model_id: house.publish(model_id) for model_id in ("a", "b", "c")}
    house.publish("large", size_bytes=200_000)
    cache = house.cache(quota_bytes=10_000_000)
    for model_id in ("a", "b", "c"):
        assert use(cache, model_id) == contents[model_id]
        house.tick()
    # When a model comes that the volume cannot hold, then the caller is told
    with pytest.raises(StorageFull), cache.lease("large"):
        pass
    # And small models are still served
    assert use(cache, "c") == contents["c"]
    assert half_models(house.cache_folder) == []


def test_a_volume_that_became_read_only(house: House, small_volume: Path) -> None:
    # Given a cached model on a volume that goes read-only
    contents = {model_id: house.publish(model_id) for model_id in ("a", "b")}
    cache = house.cache()
    use(cache, "a")
    subprocess.run(["mount", "-o", "remount,ro", str(small_volume)], check=True)
    # Then it is served, also by a process that starts now, and what is not cached is refused
    for running in (cache, house.cache()):
        assert use(running, "a") == contents["a"]
        with pytest.raises(StorageFull, match="Read-only"), running.lease("b"):
            pass
    # And everything works again afterwards
    subprocess.run(["mount", "-o", "remount,rw", str(small_volume)], check=True)
    assert use(cache, "b") == contents["b"]


def test_a_folder_that_cannot_be_made_does_not_stop_the_service(house: House) -> None:
    house.publish("dog")
    house.cache_folder.write_text("a file")
    cache = house.cache()
    with pytest.raises(StorageFull), cache.lease("dog"):
        pass
    house.cache_folder.unlink()
    assert use(cache, "dog")


def test_a_folder_that_is_emptied_is_made_again(house: House) -> None:
    content = house.publish("dog")
    cache = house.cache()
    use(cache, "dog")
    shutil.rmtree(house.cache_folder)
    assert use(cache, "dog") == content
    assert source(cache, "dog") == "disk"


def test_a_use_counts_until_its_end(house: House) -> None:
    for model_id in ("a", "b", "c"):
        house.publish(model_id)
    cache = house.cache()
    with cache.lease("a"):
        house.tick()
        use(cache, "b")
        house.tick()
    house.tick()
    use(cache, "c")
    assert house.cached() == {"a", "c"}


LARGE_MODEL = """
import resource, sys
from pathlib import Path
from model_samples import DESCRIPTION
from enlight.dreambooth_api.model_cache import ModelCache
from enlight.dreambooth_api.model_store import ModelStore
from enlight.servicekit.directory_store import DirectoryStore
folder = Path(sys.argv[1])
before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store = ModelStore(DirectoryStore(folder / "bucket"))
store.publish("dog", folder / "model", DESCRIPTION)
for _ in range(2):
    cache = ModelCache(folder / "cache", store, quota_bytes=1 << 30, alias_ttl_s=0.0, fetch_timeout_s=60.0)
    with cache.lease("dog") as cached:
        assert (cached.folder / "weights").stat().st_size == 128 << 20
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb)
"""


def test_a_large_model_does_not_pass_through_memory(house: House) -> None:
    # Given a model of 128 MiB
    (house.folder / "model").mkdir()
    (house.folder / "model" / "weights").touch()
    os.truncate(house.folder / "model" / "weights", 128 << 20)
    # When it is published, fetched and checked again, then memory grows by some pieces of it
    done = subprocess.run(
        [sys.executable, "-c", LARGE_MODEL, str(house.folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) < 20 * 1024


def test_many_readers_of_a_small_cache(house: House) -> None:
    # Given a cache of two models, five models, and threads that all use them
    contents = {f"m{number}": house.publish(f"m{number}") for number in range(5)}
    caches = [house.cache(room_wait_s=20.0) for _ in range(4)]
    over_quota: list[int] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            size = cache_bytes(house.cache_folder)
            if size > QUOTA_BYTES:
                over_quota.append(size)
            assert caches[0].stats().used_bytes <= 2 * QUOTA_BYTES  # not one moment's figure, but no error either

    def read(number: int) -> int:
        wrong = 0
        for step in range(10):
            model_id = f"m{(number * 7 + step * 3) % 5}"
            wrong += use(caches[number % len(caches)], model_id) != contents[model_id]
        return wrong

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(8) as pool:
        wrong = sum(pool.map(read, range(8)))
    done.set()
    watcher.join()
    assert (wrong, over_quota) == (0, [])
    assert half_models(house.cache_folder) == []
    assert sum(cache.stats().evictions for cache in caches) > 0
