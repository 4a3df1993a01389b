"""The contract of ObjectStore, over a folder and over Google's client against a real fake-gcs-server."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fake_gcs import FakeGcs, fake_gcs

from enlight.servicekit.directory_store import DirectoryStore
from enlight.servicekit.errors import Conflict, CorruptModel, InvalidField, NotFound
from enlight.servicekit.gcs_store import GcsStore
from enlight.servicekit.object_store import ObjectStore, open_store

BAD_KEYS = [
    *(
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "../a",
        "a/../b",
        "a/./b",
        ".hidden",
        "a/.hidden",
        "a\\b",
        "a\0b",
    ),
    *(
        "a\n",
        "a b",
        "a\u202e",
        "\uff0e\uff0e/a",
        "%2e%2e/a",
        "..%2fa",
        "C:a",
        "~/a",
        "-a",
        "a" * 300,
        "a/" * 600 + "a",
    ),
]


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGcs]:
    with fake_gcs(tmp_path_factory.mktemp("gcs")) as server:
        yield server


@pytest.fixture(params=["directory", "gcs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "directory":
        return DirectoryStore(tmp_path / "bucket")
    server: FakeGcs = request.getfixturevalue("gcs")
    # A prefix of its own per test: the server starts only once.
    return GcsStore("modelids", prefix=tmp_path.name, timeout_s=5, retry_total_s=5, endpoint=server.url)


def test_reads_back_what_was_written(store: ObjectStore) -> None:
    # Given an object
    generation = store.put_bytes("a/b/c", b"one")
    # When it is read, whole or streamed
    data, read_generation = store.get_bytes("a/b/c")
    chunks: list[bytes] = []
    size = store.download("a/b/c", chunks.append)
    # Then it is the same, under the same generation
    assert (data, read_generation, b"".join(chunks), size) == (b"one", generation, b"one", 3)


def test_empty_object(store: ObjectStore, tmp_path: Path) -> None:
    store.put_bytes("empty", b"")
    (tmp_path / "empty").touch()
    store.put_file("empty-file", tmp_path / "empty")
    chunks: list[bytes] = []
    assert store.get_bytes("empty")[0] == b""
    assert store.download("empty-file", chunks.append) == 0
    assert chunks == []


def test_overwriting_changes_the_generation(store: ObjectStore) -> None:
    first = store.put_bytes("a", b"one")
    second = store.put_bytes("a", b"two")
    assert first != second
    assert store.get_bytes("a") == (b"two", second)


def test_if_absent_creates_once(store: ObjectStore) -> None:
    # Given an object made under the condition that there is none
    store.put_bytes("a", b"one", if_absent=True)
    # When somebody makes it again, then that fails and the first stays
    with pytest.raises(Conflict):
        store.put_bytes("a", b"two", if_absent=True)
    assert store.get_bytes("a")[0] == b"one"


def test_if_absent_has_one_winner_among_many(store: ObjectStore) -> None:
    winners: list[int] = []
    start = threading.Barrier(8)

    def create(number: int) -> None:
        start.wait()
        try:
            store.put_bytes("contended", b"%d" % number, if_absent=True)
            winners.append(number)
        except Conflict:
            pass

    run_all([lambda number=number: create(number) for number in range(8)])  # type: ignore[misc]
    assert len(winners) == 1
    assert store.get_bytes("contended")[0] == b"%d" % winners[0]


def test_if_generation_replaces_only_what_was_read(store: ObjectStore) -> None:
    # Given an object that two writers read
    stale = store.put_bytes("a", b"one")
    # When the first replaces it, then the second's replacement fails
    fresh = store.put_bytes("a", b"two", if_generation=stale)
    with pytest.raises(Conflict):
        store.put_bytes("a", b"three", if_generation=stale)
    assert store.get_bytes("a") == (b"two", fresh)


def test_if_generation_of_a_missing_object_fails(store: ObjectStore) -> None:
    with pytest.raises(Conflict):
        store.put_bytes("a", b"one", if_generation=7)
    with pytest.raises(NotFound):
        store.get_bytes("a")


def test_no_increment_is_lost(store: ObjectStore) -> None:
    # Given a counter and writers that repeat on Conflict
    store.put_bytes("counter", b"0")

    def increment() -> None:
        for _ in range(5):
            while True:
                data, generation = store.get_bytes("counter")
                try:
                    store.put_bytes("counter", b"%d" % (int(data) + 1), if_generation=generation)
                    break
                except Conflict:
                    continue

    run_all([increment] * 4)
    # Then every increment is there
    assert store.get_bytes("counter")[0] == b"20"


def test_missing_objects(store: ObjectStore) -> None:
    with pytest.raises(NotFound):
        store.get_bytes("missing")
    chunks: list[bytes] = []
    with pytest.raises(NotFound):
        store.download("missing/deep/down", chunks.append)
    assert chunks == []
    store.delete("missing")  # no error
    assert [*store.list("missing")] == []


def test_a_folder_of_objects_is_no_object(store: ObjectStore) -> None:
    store.put_bytes("a/b", b"one")
    with pytest.raises(NotFound):
        store.get_bytes("a")
    with pytest.raises(NotFound):
        store.get_bytes("a/b/c")
    store.delete("a")
    assert store.get_bytes("a/b")[0] == b"one"


def test_lists_by_prefix_in_order(store: ObjectStore) -> None:
    # Given objects with sizes
    keys = ["dog/current", "dog/v1/manifest.json", "dog/v1/unet/x", "dog2/current", "cat/current"]
    before_s = time.time() - 5
    for key in keys:
        store.put_bytes(key, key.encode())
    # When they are listed by prefix, then exactly those come, in order
    assert [info.key for info in store.list()] == sorted(keys)
    assert [info.key for info in store.list("dog")] == sorted(k for k in keys if k.startswith("dog"))
    assert [info.key for info in store.list("dog/")] == sorted(k for k in keys if k.startswith("dog/"))
    assert [info.key for info in store.list("dog/v1/man")] == ["dog/v1/manifest.json"]
    assert [*store.list("dog/v2")] == []
    info = next(iter(store.list("cat/")))
    assert info.size_bytes == len("cat/current")
    assert before_s < info.updated_s < time.time() + 5


def test_delete_removes(store: ObjectStore) -> None:
    store.put_bytes("a/b/c", b"one")
    store.put_bytes("a/d", b"two")
    store.delete("a/b/c")
    assert [info.key for info in store.list()] == ["a/d"]
    store.put_bytes("a/b/c", b"again", if_absent=True)
    assert store.get_bytes("a/b/c")[0] == b"again"


@pytest.mark.parametrize("size_bytes", [1, 1 << 20, (9 << 20) + 7, (40 << 20) + 1])
def test_files_of_every_size(store: ObjectStore, tmp_path: Path, size_bytes: int) -> None:
    # Given files on both sides of the limits of single and chunked uploads
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size_bytes))
    # When one is stored and read
    store.put_file("folder/file", path, if_absent=True)
    chunks: list[bytes] = []
    assert store.download("folder/file", chunks.append) == size_bytes
    # Then the bytes are the same, and came in pieces that fit in memory
    assert b"".join(chunks) == path.read_bytes()
    assert max(len(chunk) for chunk in chunks) < 3 << 20


def test_put_file_if_absent_keeps_the_first(store: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"one")
    (tmp_path / "two").write_bytes(b"two")
    store.put_file("a", tmp_path / "one", if_absent=True)
    with pytest.raises(Conflict):
        store.put_file("a", tmp_path / "two", if_absent=True)
    assert store.get_bytes("a")[0] == b"one"
    store.put_file("a", tmp_path / "two")
    assert store.get_bytes("a")[0] == b"two"


def test_the_sink_ends_a_download(store: ObjectStore, tmp_path: Path) -> None:
    # Given an object of several chunks and a sink that has enough after the first
    path = tmp_path / "file"
    path.write_bytes(os.urandom(5 << 20))
    store.put_file("a", path)

    class Enough(BaseException):
        pass

    calls = 0

    def sink(chunk: bytes) -> None:
        nonlocal calls
        calls += 1
        raise Enough

    # Then its own exception comes out, and the sink is not asked again
    with pytest.raises(Enough):
        store.download("a", sink)
    assert calls == 1


def test_get_bytes_has_a_limit(store: ObjectStore) -> None:
    store.put_bytes("a", b"x" * 1001)
    assert len(store.get_bytes("a", max_bytes=1001)[0]) == 1001
    with pytest.raises(CorruptModel):
        store.get_bytes("a", max_bytes=1000)


def test_put_bytes_is_for_small_objects(store: ObjectStore) -> None:
    with pytest.raises(ValueError, match="put_file"):
        store.put_bytes("a", bytes(5 << 20))


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys_are_refused_by_every_call(store: ObjectStore, tmp_path: Path, key: str) -> None:
    (tmp_path / "file").write_bytes(b"x")
    calls: list[Callable[[], object]] = [
        lambda: store.put_file(key, tmp_path / "file"),
        lambda: store.put_bytes(key, b"x"),
        lambda: store.get_bytes(key),
        lambda: store.download(key, len),
        lambda: store.delete(key),
    ]
    if key and not key.endswith("/"):
        calls.append(lambda: [*store.list(key)])
    for call in calls:
        with pytest.raises(InvalidField):
            call()


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "modelids",
            "s3://modelids",
            "http://modelids",
            "gs://",
            "gs://A",
            "gs:///x",
            "gs://b/../c",
            "gs://b/.x",
        ),
        *(
            "file://relative/path",
            "file:",
            "file:relative",
            "gs://user:secret@bucket",
            "gs://bucket:99",
            "file://[x",
        ),
        *("gs://bucket?x=1", "file:///a\0b", "gs://bucket/a b"),
    ],
)
def test_unknown_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidField) as caught:
        open_store(url, timeout_s=1, retry_total_s=1)
    assert "bucket_url" in caught.value.message


def test_opens_a_folder(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/new%20bucket", timeout_s=1, retry_total_s=1)
    store.put_bytes("a", b"one")
    assert (tmp_path / "new bucket" / "a").read_bytes() == b"one"


def test_opens_a_bucket(gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    store = open_store("gs://modelids/some/prefix", timeout_s=5, retry_total_s=5)
    store.put_bytes("a", b"one")
    assert (gcs.objects / "some/prefix/a").read_bytes() == b"one"
    assert [info.key for info in store.list()] == ["a"]


def run_all(calls: list[Callable[[], None]]) -> None:
    """Run the calls at once, each in a thread, and raise what any of them raised."""
    with ThreadPoolExecutor(len(calls)) as pool:
        for future in [pool.submit(call) for call in calls]:
            future.result()
