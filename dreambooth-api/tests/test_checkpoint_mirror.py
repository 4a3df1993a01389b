"""Checkpoints in the bucket: whole or not there, and the one before when one is damaged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import wait_until

from enlight.dreambooth_api.checkpoint_mirror import CheckpointMirror
from enlight.dreambooth_api.checkpoint_names import checkpoint_name, checkpoint_steps
from enlight.dreambooth_api.checkpoint_uploads import CheckpointUploads
from enlight.dreambooth_api.sealed_folders import check_seal, sealed_folder
from enlight.dreambooth_api.sealed_json import seal
from enlight.servicekit.directory_store import DirectoryStore
from enlight.servicekit.errors import (
    InternalError,
    JobCancelled,
    ServiceError,
    StorageUnavailable,
    WorkerUnavailable,
)

JOB = "tr-1"
FILES = ("weights.safetensors", "optimizer.safetensors", "state.json")


class Bench:
    """A bucket, and the folders of the attempts at one job."""

    def __init__(self, folder: Path) -> None:
        self.bucket = folder / "bucket"
        self.store = DirectoryStore(self.bucket)
        self._folder = folder

    def folder(self, attempt: int) -> Path:
        return self._folder / str(attempt) / "checkpoints"

    def mirror(self, attempt: int) -> CheckpointMirror:
        return CheckpointMirror(
            self.store, JOB, attempt, folder=self.folder(attempt), staging=self.folder(attempt).parent / "mirrored"
        )

    def save(self, attempt: int, step: int) -> Path:
        """What a trainer writes."""
        with sealed_folder(self.folder(attempt) / checkpoint_name(step)) as folder:
            for name in FILES:
                (folder / name).write_bytes(f"{name} {step}".encode() * 1000)
        return self.folder(attempt) / checkpoint_name(step)

    def names(self) -> list[str]:
        return sorted({info.key.split("/")[2] for info in self.store.list(f"{JOB}/checkpoints/")})

    def path(self, name: str, file: str) -> Path:
        return self.bucket / JOB / "checkpoints" / name / file


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def uploaded(bench: Bench, attempt: int, *steps: int) -> CheckpointMirror:
    mirror = bench.mirror(attempt)
    for step in steps:
        bench.save(attempt, step)
        assert mirror.upload_new() == step
    return mirror


def test_a_checkpoint_comes_back_byte_by_byte(bench: Bench) -> None:
    # Given a checkpoint in the bucket
    uploaded(bench, 1, 100)

    # When another attempt asks for it
    arrived: list[int] = []
    assert bench.mirror(2).restore(on_bytes=arrived.append) == 100

    # Then it is there, sealed, and as it was
    original, copy = (bench.folder(attempt) / checkpoint_name(100) for attempt in (1, 2))
    assert check_seal(copy) == check_seal(original)
    assert sum(arrived) == sum((copy / name).stat().st_size for name in FILES)


def test_without_a_checkpoint_nothing_is_restored(bench: Bench) -> None:
    assert bench.mirror(1).restore() == 0
    assert checkpoint_steps(bench.folder(1)) == []


def test_the_newest_is_uploaded_once_and_two_are_kept(bench: Bench) -> None:
    mirror = uploaded(bench, 1, 100, 200, 300)
    assert mirror.upload_new() is None
    assert bench.names() == ["00000200-0001", "00000300-0001"]


def test_what_was_restored_is_not_uploaded_again(bench: Bench) -> None:
    uploaded(bench, 1, 100)
    mirror = bench.mirror(2)
    mirror.restore()
    assert mirror.upload_new() is None
    assert bench.names() == ["00000100-0001"]


def _truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


def _lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "truncated": (FILES[0], _truncate),
    "flipped": (FILES[1], _flip),
    "longer": (FILES[0], _lengthen),
    "missing": (FILES[2], Path.unlink),
    "seal truncated": ("seal.json", _truncate),
    "seal missing": ("seal.json", Path.unlink),
    "seal empty": ("seal.json", lambda path: path.write_bytes(b"")),
    "seal of nothing": ("seal.json", lambda path: path.write_bytes(seal({"step": 200}))),
    "seal that leads out": (
        "seal.json",
        lambda path: path.write_bytes(seal({"step": 200, "files": {"../x": {"sha256": "0" * 64, "size_bytes": 1}}})),
    ),
}


@pytest.mark.parametrize(("file", "damage"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    bench: Bench, file: str, damage: Callable[[Path], object]
) -> None:
    # Given two checkpoints, the newer one damaged
    uploaded(bench, 1, 100, 200)
    damage(bench.path("00000200-0001", file))

    # Then the older one is used, and nothing of the newer one is left
    assert bench.mirror(2).restore() == 100
    assert [path.name for path in bench.folder(2).iterdir()] == [checkpoint_name(100)]


def test_no_more_is_written_than_was_uploaded(bench: Bench) -> None:
    # Given a file that grew in the bucket
    uploaded(bench, 1, 100)
    path = bench.path("00000100-0001", FILES[0])
    size_bytes = sum(bench.path("00000100-0001", name).stat().st_size for name in FILES)
    path.write_bytes(path.read_bytes() + bytes(8 << 20))

    # Then its download ends with the first piece too many
    arrived: list[int] = []
    assert bench.mirror(2).restore(on_bytes=arrived.append) == 0
    assert sum(arrived) <= size_bytes


def test_an_upload_that_is_given_up_is_no_checkpoint_until_it_is_finished(bench: Bench) -> None:
    # Given an upload that was given up after its first file
    mirror = uploaded(bench, 1, 100)
    bench.save(1, 200)
    answers = iter([False, True])
    assert mirror.upload_new(give_up=lambda: next(answers)) is None
    assert bench.mirror(2).restore() == 100

    # When it is tried again
    assert mirror.upload_new() == 200

    # Then it is whole
    assert bench.mirror(3).restore() == 200


def test_a_broken_local_checkpoint_is_not_uploaded(bench: Bench) -> None:
    mirror = uploaded(bench, 1, 100)
    _flip(bench.save(1, 200) / FILES[0])
    assert mirror.upload_new() is None
    assert bench.names() == ["00000100-0001"]


def test_a_checkpoint_that_the_trainer_removes_meanwhile_is_still_uploaded(bench: Bench) -> None:
    # Given a trainer that removes its checkpoint while it is uploaded
    mirror = bench.mirror(1)
    folder = bench.save(1, 100)

    def remove() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return False

    # Then it gets there nevertheless
    assert mirror.upload_new(give_up=remove) == 100
    assert bench.mirror(2).restore() == 100


def test_attempts_do_not_touch_each_others_checkpoints(bench: Bench) -> None:
    # Given an attempt that lost its lease, and the one that took over and is ahead
    orphan = uploaded(bench, 1, 100)
    uploaded(bench, 2, 200, 300)

    # When the orphan uploads what is behind
    bench.save(1, 200)
    orphan.upload_new()

    # Then the other's newest ones are untouched
    assert bench.names() == ["00000200-0002", "00000300-0002"]
    assert bench.mirror(3).restore() == 300


def test_uploads_take_up_what_appears(bench: Bench) -> None:
    with CheckpointUploads(bench.mirror(1), every_s=0.01):
        bench.save(1, 100)
        assert wait_until(lambda: bench.names() == ["00000100-0001"] and bench.mirror(2).restore() == 100)


def test_what_goes_before_a_checkpoint_is_there_when_it_is(bench: Bench) -> None:
    # Given something that whoever goes on from the checkpoint does not make again
    seen: list[list[str]] = []
    told: list[str] = []
    with CheckpointUploads(
        bench.mirror(1),
        every_s=0.01,
        before_upload=lambda: seen.append(bench.names()),
        tell=lambda level, message: told.append(f"{level}: {message}"),
    ):
        bench.save(1, 100)
        assert wait_until(lambda: bool(told))
    # Then it went when nothing of the checkpoint was there, once for each, and what became of that is told
    assert (seen, told) == ([[]], ["info: The checkpoint of step 100 is kept."])


@pytest.mark.parametrize(
    ("error", "restored"),
    [(WorkerUnavailable("stopped"), 100), (InternalError("a defect"), 100), (JobCancelled("unwanted"), 0)],
)
def test_the_last_checkpoint_is_uploaded_where_another_attempt_may_need_it(
    bench: Bench, error: ServiceError, restored: int
) -> None:
    bench.save(1, 100)

    def train() -> None:
        with CheckpointUploads(bench.mirror(1), every_s=1000):
            raise error

    with pytest.raises(type(error)):
        train()
    assert bench.mirror(2).restore() == restored


def test_uploads_survive_a_bucket_that_is_away(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    shutil.move(bench.bucket, bench.bucket.with_name("away"))
    with CheckpointUploads(bench.mirror(1), every_s=0.01):
        bench.save(1, 100)
        assert wait_until(lambda: "not in the bucket" in caplog.text)
        shutil.move(bench.bucket.with_name("away"), bench.bucket)
        assert wait_until(lambda: bench.mirror(2).restore() == 100)


def test_a_bucket_that_is_away_is_no_missing_checkpoint(bench: Bench) -> None:
    # Otherwise a training would begin anew while its checkpoint is there
    uploaded(bench, 1, 100)
    shutil.rmtree(bench.bucket)
    bench.bucket.write_text("no folder")
    with pytest.raises(StorageUnavailable):
        bench.mirror(2).restore()
