"""ModelStore over a folder, and over Google's client against a real fake-gcs-server."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from fake_gcs import FakeGcs, fake_gcs
from fault_proxy import Fault
from model_samples import DESCRIPTION, Content, content_of, write_model

from enlight.dreambooth_api.bucket_layout import TOMBSTONE
from enlight.dreambooth_api.model_removal import sweep
from enlight.dreambooth_api.model_store import Manifest, ModelStore
from enlight.servicekit.directory_store import DirectoryStore
from enlight.servicekit.errors import Conflict, CorruptModel, InvalidField, NotFound, StorageUnavailable
from enlight.servicekit.gcs_store import GcsStore
from enlight.servicekit.object_store import ObjectStore


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGcs]:
    with fake_gcs(tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture(params=["directory", "gcs"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "directory":
        return DirectoryStore(tmp_path / "bucket")
    server: FakeGcs = request.getfixturevalue("gcs")
    return GcsStore("modelids", prefix=tmp_path.name, timeout_s=10, retry_total_s=10, endpoint=server.url)


@pytest.fixture
def folder_objects(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "bucket")


@pytest.fixture
def store(objects: ObjectStore) -> ModelStore:
    return ModelStore(objects)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path / "model", seed=1)
    return tmp_path / "model"


def fetch(store: ModelStore, manifest: Manifest, folder: Path) -> Content:
    folder.mkdir()
    store.download(manifest, folder)
    return content_of(folder)


def test_a_published_model_can_be_had(store: ModelStore, model: Path, tmp_path: Path) -> None:
    # Given a published model
    published = store.publish("dog", model, DESCRIPTION)
    # When somebody looks for it
    version = store.current_version("dog")
    manifest = store.manifest("dog", version)
    # Then he finds what was published, byte by byte
    assert manifest == published
    assert manifest.base_name == DESCRIPTION.base_name
    assert fetch(store, manifest, tmp_path / "out") == content_of(model)
    assert store.versions("dog") == [version]
    assert store.model_ids() == ["dog"]


def test_training_again_makes_a_version_and_moves_current(store: ModelStore, model: Path, tmp_path: Path) -> None:
    first = store.publish("dog", model, DESCRIPTION)
    other = tmp_path / "other"
    write_model(other, seed=2)
    second = store.publish("dog", other, DESCRIPTION)
    assert store.current_version("dog") == second.version
    assert store.versions("dog") == sorted([first.version, second.version])
    # The first is as it was
    assert fetch(store, store.manifest("dog", first.version), tmp_path / "out") == content_of(model)


def test_without_the_alias_nobody_sees_a_publication_until_it_is_made_current(store: ModelStore, model: Path) -> None:
    # Given a current version, and one that was published without the alias
    first = store.publish("dog", model, DESCRIPTION)
    second = store.publish("dog", model, DESCRIPTION, move_alias=False)
    assert store.current_version("dog") == first.version
    # When it is made current
    assert store.make_current("dog", second.version) == second
    # Then it is, and an older one does not come back
    assert store.current_version("dog") == second.version
    store.make_current("dog", first.version)
    assert store.current_version("dog") == second.version
    with pytest.raises(NotFound):
        store.make_current("dog", "v0")


def test_a_version_that_is_not_current_can_be_removed(store: ModelStore, model: Path) -> None:
    first, second = (store.publish("dog", model, DESCRIPTION) for _ in range(2))
    store.delete_version("dog", first.version)
    store.delete_version("dog", first.version)
    assert store.versions("dog") == [second.version]
    with pytest.raises(Conflict):
        store.delete_version("dog", second.version)
    assert store.manifest("dog", second.version) == second


def test_unknown_models(store: ModelStore) -> None:
    with pytest.raises(NotFound, match="no model dog"):
        store.current_version("dog")
    with pytest.raises(NotFound, match="no version v1"):
        store.manifest("dog", "v1")
    assert store.versions("dog") == []
    assert store.model_ids() == []
    with pytest.raises(NotFound):
        store.delete("dog")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "a\n", "a" * 65])
def test_bad_names_never_reach_the_bucket(folder_objects: DirectoryStore, model: Path, name: str) -> None:
    store = ModelStore(folder_objects)
    calls: list[Callable[[], object]] = [
        lambda: store.publish(name, model, DESCRIPTION),
        lambda: store.current_version(name),
        lambda: store.manifest(name, "v1"),
        lambda: store.manifest("dog", name),
        lambda: store.make_current("dog", name),
        lambda: store.delete_version("dog", name),
        lambda: store.versions(name),
        lambda: store.delete(name),
    ]
    if name:
        calls.append(lambda: store.publish("dog", model, DESCRIPTION, version=name))
    for call in calls:
        with pytest.raises(InvalidField):
            call()
    assert [*folder_objects.list()] == []


def test_publishing_the_same_again_changes_nothing(store: ModelStore, objects: ObjectStore, model: Path) -> None:
    # Given a job that published and was killed before it could say so
    first = store.publish("dog", model, DESCRIPTION, version="v1")
    before = [*objects.list()]
    # When it publishes again, with other notes about how long it took
    again = store.publish("dog", model, replace(DESCRIPTION, parameters={"took_s": 9}), version="v1")
    # Then the first stays
    assert again == first
    assert [*objects.list()] == before


def test_the_same_version_with_other_bytes_is_a_conflict(store: ModelStore, model: Path, tmp_path: Path) -> None:
    first = store.publish("dog", model, DESCRIPTION, version="v1")
    write_model(tmp_path / "other", seed=2)
    with pytest.raises(Conflict):
        store.publish("dog", tmp_path / "other", DESCRIPTION, version="v1")
    assert store.manifest("dog", "v1") == first
    assert fetch(store, first, tmp_path / "out") == content_of(model)


def test_two_attempts_at_one_version_have_one_winner(store: ModelStore, tmp_path: Path) -> None:
    # Given a zombie and the job's next attempt, whose bytes differ, publishing at the same time
    folders = [tmp_path / str(number) for number in range(4)]
    for number, folder in enumerate(folders):
        write_model(folder, seed=number)
    start = threading.Barrier(len(folders))

    def publish(folder: Path) -> Manifest | None:
        start.wait()
        try:
            return store.publish("dog", folder, DESCRIPTION, version="v1")
        except Conflict:
            return None

    with ThreadPoolExecutor(len(folders)) as pool:
        published = [*pool.map(publish, folders)]
    # Then one of them is the version, whole
    winners = [number for number, manifest in enumerate(published) if manifest]
    assert len(winners) == 1
    assert fetch(store, store.manifest("dog", "v1"), tmp_path / "out") == content_of(folders[winners[0]])


def test_no_publisher_is_lost(store: ModelStore, tmp_path: Path) -> None:
    # Given publishers of one model at the same time
    folders = [tmp_path / str(number) for number in range(5)]
    for number, folder in enumerate(folders):
        write_model(folder, seed=number, size_bytes=2_000)
    with ThreadPoolExecutor(len(folders)) as pool:
        published = [*pool.map(lambda folder: store.publish("dog", folder, DESCRIPTION), folders)]
    # Then current names the one created last
    newest = max(published, key=lambda manifest: (manifest.created_at, manifest.version))
    assert store.current_version("dog") == newest.version
    assert len(store.versions("dog")) == 5


def test_a_clock_that_is_behind_does_not_lose(folder_objects: DirectoryStore, model: Path) -> None:
    # Given a model published by a machine whose clock is an hour ahead
    ahead = ModelStore(folder_objects, clock=lambda: time.time() + 3600)
    ahead.publish("dog", model, DESCRIPTION)
    # When it is trained again elsewhere
    again = ModelStore(folder_objects).publish("dog", model, DESCRIPTION, version="again")
    # Then the later training counts
    assert ahead.current_version("dog") == "again"
    assert again.version == "again"


def test_versions_sort_by_time(folder_objects: DirectoryStore) -> None:
    now = 1_800_000_000.0
    store = ModelStore(folder_objects, clock=lambda: now)
    first, twin = store.new_version(), store.new_version()
    now += 0.001
    later = store.new_version()
    assert first != twin
    assert max(first, twin) < later


def test_deleting_leaves_nothing(store: ModelStore, objects: ObjectStore, model: Path) -> None:
    store.publish("dog", model, DESCRIPTION)
    store.publish("dog", model, DESCRIPTION)
    store.publish("dog2", model, DESCRIPTION, version="v1")
    store.delete("dog")
    assert {info.key.split("/")[0] for info in objects.list()} == {"dog2"}
    with pytest.raises(NotFound):
        store.current_version("dog")
    assert store.current_version("dog2") == "v1"
    # And the name is free again
    store.publish("dog", model, DESCRIPTION)
    assert store.model_ids() == ["dog", "dog2"]


class Stop(Exception):  # noqa: N818 - stands for a kill
    pass


class StoppingStore(DirectoryStore):
    """Stops for good before the n-th change."""

    left = 1_000_000

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Stop

    def put_file(self, key: str, path: Path, *, if_absent: bool = False) -> None:
        self._count()
        super().put_file(key, path, if_absent=if_absent)

    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False, if_generation: int | None = None) -> int:
        self._count()
        return super().put_bytes(key, data, if_absent=if_absent, if_generation=if_generation)

    def delete(self, key: str) -> None:
        self._count()
        super().delete(key)


@pytest.mark.parametrize("changes", range(6))
def test_a_publisher_stopped_anywhere_leaves_no_half_model(tmp_path: Path, model: Path, changes: int) -> None:
    # Given a publisher that stops after so many changes of the bucket
    objects = StoppingStore(tmp_path / "bucket")
    objects.left = changes
    try:
        ModelStore(objects).publish("dog", model, DESCRIPTION, version="v1")
        stopped = False
    except Stop:
        stopped = True
    # Then the version is whole, or not there at all
    objects.left = 1_000_000
    store = ModelStore(objects)
    assert stopped == (changes < 5)  # three files, the manifest, current
    if changes < 4:
        assert store.versions("dog") == store.model_ids() == []
    else:
        assert fetch(store, store.manifest("dog", "v1"), tmp_path / "out") == content_of(model)
    # And the next attempt brings it to its end
    store.publish("dog", model, DESCRIPTION, version="v1")
    assert store.current_version("dog") == "v1"
    shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert fetch(store, store.manifest("dog", "v1"), tmp_path / "out") == content_of(model)


@pytest.mark.parametrize("changes", range(8))
def test_a_removal_stopped_anywhere_is_finished_by_the_next(tmp_path: Path, model: Path, changes: int) -> None:
    objects = StoppingStore(tmp_path / "bucket")
    store = ModelStore(objects)
    store.publish("dog", model, DESCRIPTION)
    # Given a removal that stops after so many changes of the bucket
    objects.left = changes
    try:
        store.delete("dog")
    except Stop:
        assert changes < 6  # current, tombstone, three files, tombstone
    objects.left = 1_000_000
    # Then no half model is offered
    for version in store.versions("dog"):
        out = tmp_path / version
        assert fetch(store, store.manifest("dog", version), out) == content_of(model)
    # And the next removal, or a sweep, takes the rest
    try:
        store.delete("dog")
    except NotFound:
        assert changes >= 6
    assert [*objects.list()] == []


def test_orphans_are_swept_by_age(store: ModelStore, objects: ObjectStore, model: Path) -> None:
    # Given a whole version, files without a manifest, files that a manifest does not name, a tombstone, and a
    # current without a version
    store.publish("dog", model, DESCRIPTION, version="v1")
    objects.put_bytes(f"dog/v0/{'0' * 64}/unet/x", b"x")
    objects.put_bytes(f"dog/v1/{'0' * 64}/unet/x", b"x")
    objects.put_bytes("cat/v1/manifest.json", TOMBSTONE)
    objects.put_bytes(f"cat/v1/{'0' * 64}/x", b"x")
    objects.put_bytes("cow/current", b"{}")
    objects.put_bytes("notes/readme.txt", b"not ours")
    # When only what is older than a day is swept, then everything stays
    assert store.sweep_orphans(24 * 3600) == 0
    # When everything old enough is swept, then the whole version stays, and what is not ours
    assert store.sweep_orphans(-60) == 5
    assert store.current_version("dog") == "v1"
    assert {info.key.split("/")[0] for info in objects.list()} == {"dog", "notes"}
    assert len([*objects.list("dog/")]) == 5
    assert store.sweep_orphans(-60) == 0


def test_a_version_being_removed_cannot_be_committed(store: ModelStore, objects: ObjectStore, model: Path) -> None:
    # Given a removal that is on its way
    objects.put_bytes("dog/v1/manifest.json", TOMBSTONE)
    # When the version is published, then that fails, and nobody sees it
    with pytest.raises(Conflict):
        store.publish("dog", model, DESCRIPTION, version="v1")
    assert store.versions("dog") == []
    with pytest.raises(NotFound):
        store.manifest("dog", "v1")


def test_a_sweep_cannot_take_files_from_a_version(folder_objects: DirectoryStore, model: Path, tmp_path: Path) -> None:
    # Given a sweep that comes between the upload of the files and the manifest
    store = ModelStore(folder_objects)

    class Swept(ModelStore):
        def _commit(self, draft: Manifest) -> Manifest:
            store.sweep_orphans(-60)
            return super()._commit(draft)

    # When the version is published all the same, then it is whole
    manifest = Swept(folder_objects).publish("dog", model, DESCRIPTION)
    assert fetch(store, manifest, tmp_path / "out") == content_of(model)


def test_a_sweep_leaves_a_version_committed_meanwhile(
    folder_objects: DirectoryStore, model: Path, tmp_path: Path
) -> None:
    # Given a sweep that looks at a version without a manifest, which is committed right then
    folder_objects.put_bytes(f"dog/v1/{'0' * 64}/x", b"x")

    def read_manifest(model_id: str, version: str) -> None:
        ModelStore(folder_objects).publish(model_id, model, DESCRIPTION, version=version)

    # When it goes on, then it lets go of that version
    assert sweep(folder_objects, read_manifest, written_before_s=time.time() + 60) == 0
    store = ModelStore(folder_objects)
    assert fetch(store, store.manifest("dog", "v1"), tmp_path / "out") == content_of(model)


def bucket_file(tmp_path: Path, pattern: str) -> Path:
    return next(path for path in (tmp_path / "bucket").glob(pattern) if path.is_file())


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(bytes(data))


def test_a_damaged_file_is_refused(folder_objects: DirectoryStore, model: Path, tmp_path: Path) -> None:
    store = ModelStore(folder_objects)
    manifest = store.publish("dog", model, DESCRIPTION)
    flip(bucket_file(tmp_path, "dog/*/*/unet/*.safetensors"), at=12_345)
    with pytest.raises(CorruptModel) as caught:
        fetch(store, manifest, tmp_path / "out")
    assert caught.value.details["file"] == "unet/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("size_bytes", [0, 100, 200_000])
def test_a_file_of_the_wrong_size_is_refused(
    folder_objects: DirectoryStore, model: Path, tmp_path: Path, size_bytes: int
) -> None:
    store = ModelStore(folder_objects)
    manifest = store.publish("dog", model, DESCRIPTION)
    bucket_file(tmp_path, "dog/*/*/unet/*.safetensors").write_bytes(bytes(size_bytes))
    with pytest.raises(CorruptModel):
        fetch(store, manifest, tmp_path / "out")
    # No more than the manifest says ever reaches the disk
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file()) <= manifest.size_bytes


def test_a_missing_file_is_refused(folder_objects: DirectoryStore, model: Path, tmp_path: Path) -> None:
    store = ModelStore(folder_objects)
    manifest = store.publish("dog", model, DESCRIPTION)
    bucket_file(tmp_path, "dog/*/*/unet/*.safetensors").unlink()
    with pytest.raises(CorruptModel):
        fetch(store, manifest, tmp_path / "out")
    # And the same training publishes it again
    store.publish("dog", model, DESCRIPTION, version=manifest.version)
    assert fetch(store, manifest, tmp_path / "out2") == content_of(model)


def test_a_damaged_manifest_is_refused_and_replaced(
    folder_objects: DirectoryStore, model: Path, tmp_path: Path
) -> None:
    store = ModelStore(folder_objects)
    store.publish("dog", model, DESCRIPTION, version="v1")
    flip(bucket_file(tmp_path, "dog/v1/manifest.json"), at=50)
    with pytest.raises(CorruptModel):
        store.manifest("dog", "v1")
    store.publish("dog", model, DESCRIPTION, version="v1")
    assert fetch(store, store.manifest("dog", "v1"), tmp_path / "out") == content_of(model)


@pytest.mark.parametrize("damage", [b"", b"{}", b"x" * 10_000, b"x" * 4_500_000, TOMBSTONE], ids=len)
def test_a_damaged_current_is_done_without(
    folder_objects: DirectoryStore, model: Path, tmp_path: Path, damage: bytes
) -> None:
    # Given three versions and a damaged current
    store = ModelStore(folder_objects)
    for version in ("b", "c", "a"):
        store.publish("dog", model, DESCRIPTION, version=version)
    (tmp_path / "bucket/dog/current").write_bytes(damage)
    # Then the newest is found all the same
    assert store.current_version("dog") == "a"
    # And the next publication mends it
    store.publish("dog", model, DESCRIPTION, version="0")
    assert store.current_version("dog") == "0"
    assert damage != folder_objects.get_bytes("dog/current")[0]


def test_another_models_current_is_refused(folder_objects: DirectoryStore, model: Path) -> None:
    store = ModelStore(folder_objects)
    store.publish("dog", model, DESCRIPTION, version="v1")
    store.publish("cat", model, DESCRIPTION, version="v2")
    folder_objects.put_bytes("dog/current", folder_objects.get_bytes("cat/current")[0])
    assert store.current_version("dog") == "v1"


def test_a_damaged_current_without_any_version(folder_objects: DirectoryStore) -> None:
    folder_objects.put_bytes("dog/current", b"{}")
    with pytest.raises(CorruptModel):
        ModelStore(folder_objects).current_version("dog")


def test_on_bytes_sees_everything_and_ends_a_download(store: ModelStore, model: Path, tmp_path: Path) -> None:
    manifest = store.publish("dog", model, DESCRIPTION)
    sizes: list[int] = []
    (tmp_path / "out").mkdir()
    store.download(manifest, tmp_path / "out", on_bytes=sizes.append)
    assert sum(sizes) == manifest.size_bytes

    def enough(size_bytes: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        store.download(manifest, tmp_path / "out", on_bytes=enough)


def test_a_byte_flipped_on_its_way_is_fetched_again(gcs: FakeGcs, model: Path, tmp_path: Path) -> None:
    # Given a network that flips a bit, once, and then always
    objects = GcsStore("modelids", prefix=tmp_path.name, timeout_s=10, retry_total_s=10, endpoint=gcs.url)
    store = ModelStore(objects)
    manifest = store.publish("dog", model, DESCRIPTION)
    gcs.proxy.inject(Fault(match="alt=media", flip_response_at=5))
    assert fetch(store, manifest, tmp_path / "out") == content_of(model)
    gcs.proxy.inject(Fault(match="alt=media", flip_response_at=5, times=None))
    with pytest.raises(CorruptModel):
        fetch(store, manifest, tmp_path / "out2")
    gcs.proxy.clear()


def test_an_unreachable_bucket(gcs: FakeGcs, model: Path, tmp_path: Path) -> None:
    objects = GcsStore("modelids", timeout_s=0.3, retry_total_s=0.3, endpoint="http://127.0.0.1:9")
    store = ModelStore(objects)
    for call in (
        lambda: store.publish("dog", model, DESCRIPTION),
        lambda: store.current_version("dog"),
        lambda: store.manifest("dog", "v1"),
        lambda: store.model_ids(),
        lambda: store.delete("dog"),
        lambda: store.sweep_orphans(1),
    ):
        with pytest.raises(StorageUnavailable):
            call()
