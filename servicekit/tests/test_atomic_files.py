"""Atomic files and folders."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from memory_folder import memory_folder

from enlight.servicekit import atomic_files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_write_bytes_makes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    atomic_files.write_bytes(path, b"one")
    assert path.read_bytes() == b"one"
    atomic_files.write_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["file"]


def test_write_bytes_takes_the_longest_name(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 255)
    atomic_files.write_bytes(path, b"one")
    assert path.read_bytes() == b"one"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    # Given a name that cannot be replaced, because it is a folder
    (tmp_path / "file").mkdir()
    with pytest.raises(OSError, match="directory"):
        atomic_files.write_bytes(tmp_path / "file", b"one")
    assert names(tmp_path) == ["file"]
    # And a folder that is not there
    with pytest.raises(FileNotFoundError):
        atomic_files.write_bytes(tmp_path / "missing" / "file", b"one")


def test_write_json_is_strict(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    atomic_files.write_json(path, {"b": 1, "a": "é"})
    assert json.loads(path.read_text("utf-8")) == {"a": "é", "b": 1}
    with pytest.raises(ValueError, match="JSON compliant"):
        atomic_files.write_json(path, float("nan"))
    assert json.loads(path.read_text("utf-8")) == {"a": "é", "b": 1}


def make_folder(folder: Path, text: str) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_text(text)
    return folder


def test_replace_folder_makes_one(tmp_path: Path) -> None:
    atomic_files.replace_folder(make_folder(tmp_path / "new", "one"), tmp_path / "final")
    assert (tmp_path / "final/sub/file").read_text() == "one"
    assert names(tmp_path) == ["final"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_replace_folder_replaces_one(tmp_path: Path, *, can_exchange: bool) -> None:
    # Given a folder, and another to take its place
    make_folder(tmp_path / "final", "old")
    new = make_folder(tmp_path / "new", "new")
    exchange = None if can_exchange else (lambda first, second: False)
    # When it does, then nothing of the old one is left
    atomic_files.replace_folder(new, tmp_path / "final", exchange=exchange)
    assert (tmp_path / "final/sub/file").read_text() == "new"
    assert names(tmp_path) == ["final"]


def test_replace_folder_reports_a_missing_source(tmp_path: Path) -> None:
    make_folder(tmp_path / "final", "old")
    with pytest.raises(FileNotFoundError):
        atomic_files.replace_folder(tmp_path / "missing", tmp_path / "final")
    assert (tmp_path / "final/sub/file").read_text() == "old"


def test_sync_tree_does_not_follow_links(tmp_path: Path) -> None:
    make_folder(tmp_path / "folder", "text")
    (tmp_path / "folder" / "dangling").symlink_to(tmp_path / "nowhere")
    atomic_files.sync_tree(tmp_path / "folder")


def test_sweep_removes_old_temporaries_only(tmp_path: Path) -> None:
    # Given an old temporary file and folder, a young one, and other files
    old_file = atomic_files.temporary_beside(tmp_path / "file")
    old_file.touch()
    old_folder = make_folder(atomic_files.temporary_beside(tmp_path / "folder"), "x")
    for path in (old_file, old_folder):
        os.utime(path, (1_000.0, 1_000.0))
    young = atomic_files.temporary_beside(tmp_path / "file")
    young.touch()
    os.utime(young, (1_990.0, 1_990.0))
    (tmp_path / ".hidden").touch()
    (tmp_path / "file.tmp").touch()
    # When they are swept
    assert atomic_files.sweep_temporaries(tmp_path, older_than_s=100.0, clock=lambda: 2_000.0) == 2
    # Then only the old ones are gone
    assert names(tmp_path) == sorted([young.name, ".hidden", "file.tmp"])


WRITER = """
import sys
from pathlib import Path
from enlight.servicekit import atomic_files
folder = Path(sys.argv[1])
number = 0
while True:
    number += 1
    if number == 2:
        print("ready", flush=True)
    if sys.argv[2] == "naive":
        (folder / "file").write_bytes(b"%08d" % number * 250_000)
        continue
    atomic_files.write_bytes(folder / "file", b"%08d" % number * 250_000)
    new = folder / ".folder.new.tmp"
    if not new.exists():
        new.mkdir()
        for part in range(4):
            (new / str(part)).write_bytes(b"%08d" % number * 1000)
        atomic_files.replace_folder(new, folder / "folder")
"""


def killed_writers(folder: Path, kind: str, *, kills: int) -> int:
    """Kill writers at random moments until something is half there; gives how many it took, 0 for never."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    for kill in range(kills):
        torn = False
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), kind],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert process.stdout is not None
        with process.stdout:
            process.stdout.readline()
            time.sleep(chance.uniform(0.0, 0.05))
            process.send_signal(signal.SIGKILL)
            process.wait()
        if (folder / "file").exists():
            data = (folder / "file").read_bytes()
            torn |= data != data[:8] * 250_000
        if (folder / "folder").exists():
            parts = [path.read_bytes() for path in (folder / "folder").iterdir()]
            torn |= len(parts) != 4 or len(set(parts)) != 1 or len(parts[0]) != 8_000
        if torn:
            return kill + 1
        atomic_files.sweep_temporaries(folder, older_than_s=-1.0)
    return 0


def test_kill_leaves_whole_files_and_folders() -> None:
    with memory_folder() as folder:
        assert killed_writers(folder, "atomic", kills=15) == 0


def test_the_same_kills_tear_a_naive_writer() -> None:
    # A writer that opens the final name is caught by the same test, mostly at the first kill.
    with memory_folder() as folder:
        assert killed_writers(folder, "naive", kills=50) > 0


def test_exchange_reports_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as caught:
        atomic_files._exchange(tmp_path / "a", tmp_path / "b")
    assert caught.value.errno == errno.ENOENT
