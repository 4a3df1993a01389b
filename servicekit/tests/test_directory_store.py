"""DirectoryStore: what is particular to a folder."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from memory_folder import memory_folder

from enlight.servicekit.directory_store import DirectoryStore
from enlight.servicekit.errors import Conflict, NotFound, StorageUnavailable


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "bucket"


@pytest.fixture
def memory() -> Iterator[Path]:
    with memory_folder() as folder:
        yield folder


@pytest.fixture
def store(root: Path) -> DirectoryStore:
    return DirectoryStore(root)


def test_objects_are_plain_files(store: DirectoryStore, root: Path) -> None:
    store.put_bytes("dog/v1/manifest.json", b"{}")
    assert (root / "dog/v1/manifest.json").read_bytes() == b"{}"


def test_a_vanished_folder_is_no_empty_bucket(store: DirectoryStore, root: Path, tmp_path: Path) -> None:
    # Given a bucket whose volume goes away
    store.put_bytes("a", b"one")
    root.rename(tmp_path / "unmounted")
    (tmp_path / "file").write_bytes(b"x")
    # When it is used, then nothing claims that the object is missing, and nothing is made in its place
    for call in (
        lambda: store.get_bytes("a"),
        lambda: store.download("a", len),
        lambda: [*store.list()],
        lambda: store.put_bytes("a", b"two"),
        lambda: store.put_file("a", tmp_path / "file"),
        lambda: store.delete("a"),
    ):
        with pytest.raises(StorageUnavailable, match="gone"):
            call()
    assert not root.exists()


def test_a_folder_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageUnavailable):
        DirectoryStore(tmp_path / "file" / "bucket")


def test_links_lead_nowhere(store: DirectoryStore, root: Path, tmp_path: Path) -> None:
    # Given a link inside of the bucket to a file outside of it
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "link").symlink_to(tmp_path / "secret")
    # Then it is neither read nor listed
    with pytest.raises(StorageUnavailable):
        store.get_bytes("link")
    assert [*store.list()] == []
    # And writing over it replaces the link, not the file
    store.put_bytes("link", b"one")
    assert (tmp_path / "secret").read_bytes() == b"secret"
    assert store.get_bytes("link")[0] == b"one"


def test_works_without_hard_links(root: Path) -> None:
    # Given a filesystem that knows no hard links
    def refuse(source: Path, target: Path) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    store = DirectoryStore(root, link=refuse)
    # When an object is made twice, then only the first wins
    store.put_bytes("a", b"one", if_absent=True)
    with pytest.raises(Conflict):
        store.put_bytes("a", b"two", if_absent=True)
    assert store.get_bytes("a")[0] == b"one"


def test_a_full_disk_is_reported(root: Path) -> None:
    def fail(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    store = DirectoryStore(root, link=fail)
    with pytest.raises(StorageUnavailable, match="No space left"):
        store.put_bytes("a", b"one", if_absent=True)
    assert [*store.list()] == []
    assert [*(root / ".tmp").iterdir()] == []


def test_abandoned_uploads_are_removed_at_the_next_start(root: Path) -> None:
    # Given what a killed process left long ago, and an upload that runs now
    DirectoryStore(root)
    (root / ".tmp" / "old").write_bytes(b"x")
    (root / ".tmp" / "new").write_bytes(b"x")
    long_ago = time.time() - 2 * 24 * 3600
    os.utime(root / ".tmp" / "old", (long_ago, long_ago))
    # When the bucket is opened, then only the first is removed
    DirectoryStore(root)
    assert [path.name for path in (root / ".tmp").iterdir()] == ["new"]


KILLED_WRITER = """
import sys
from pathlib import Path
from enlight.servicekit.directory_store import DirectoryStore
store = DirectoryStore(Path(sys.argv[1]))
big = Path(sys.argv[2])
print("ready", flush=True)
number = 0
while True:
    store.put_file(f"run/{number}", big, if_absent=True)
    store.put_bytes("pointer", b"%09d" % number * 1000)
    number += 1
"""


def test_kill_leaves_whole_objects_only(memory: Path) -> None:
    # Given writers of 2 MiB objects and of a pointer that is overwritten again and again
    root, big = memory / "bucket", memory / "big"
    store = DirectoryStore(root)
    big.write_bytes(os.urandom(2 << 20))
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    print("seed", seed)
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED_WRITER, str(root), str(big)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        with process.stdout:
            process.stdout.readline()
            # When one is killed at a random moment
            time.sleep(chance.uniform(0.0, 0.1))
            process.send_signal(signal.SIGKILL)
            process.wait()
        # Then whatever is there is whole
        for info in store.list("run/"):
            assert info.size_bytes == 2 << 20
            store.delete(info.key)
        try:
            pointer, _ = store.get_bytes("pointer")
        except NotFound:
            continue
        assert len(pointer) == 9000
        assert pointer == pointer[:9] * 1000
