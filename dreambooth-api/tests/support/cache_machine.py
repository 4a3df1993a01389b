"""Random sequences of operations by several processes on one cache and one bucket, some of them killed on the way.

The rules are what processes may do; the invariants are what must hold after each of them, seen from outside. The
same machine runs over the code and over each of its mutants.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cache_worker import Nursery, Worker, WorkerConfig, WorkerDied
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
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

from enlight.dreambooth_api.model_store import ModelStore
from enlight.servicekit.directory_store import DirectoryStore

MODEL_IDS = ("m0", "m1", "m2", "m3")
MODEL_BYTES = 40_000
MANIFEST_ROOM = 1_500
QUOTA_BYTES = 2 * (MODEL_BYTES + MANIFEST_ROOM)
WORKERS = 3

model_ids = st.sampled_from(MODEL_IDS)
worker_numbers = st.integers(0, WORKERS - 1)


@dataclass
class Use:
    """A lease that a worker holds."""

    model_id: str
    version: str
    content: Content
    damaged: bool = False


@dataclass
class Seat:
    """A worker and what it is doing."""

    worker: Worker
    uses: dict[str, Use] = field(default_factory=dict)
    waiting_for: str | None = None
    """Model of a lease that began and has not ended."""
    slot: str = ""
    acceptable: set[str] = field(default_factory=set)
    """Versions that were current since that lease began."""


class CacheMachine(RuleBasedStateMachine):
    """Three processes, four models, room for two.

    No rule has a precondition: who wins a race decides what is paused, and hypothesis wants the same choices to lead
    to the same rules. A rule that suits no paused process lets it go on first.
    """

    mutant = ""
    nursery: Nursery

    @initialize()
    def start(self) -> None:
        """An empty cache, and a bucket with one version of each model."""
        self._stack = memory_folder()
        self.folder = self._stack.__enter__()
        self.bucket, self.cache = self.folder / "bucket", self.folder / "cache"
        self.log = self.folder / "log"
        self.gate = self.folder / "gate"
        self.store = ModelStore(DirectoryStore(self.bucket))
        self.config = WorkerConfig(
            f"file://{self.bucket}",
            str(self.cache),
            str(self.log),
            quota_bytes=QUOTA_BYTES,
            room_wait_s=0.0,
            mutant=self.mutant,
        )
        self.seeds = 0
        self.versions: dict[tuple[str, str], Content] = {}
        self.current: dict[str, str] = {}
        for model_id in MODEL_IDS:
            self._publish(model_id)
        self.seats = [Seat(self._new_worker()) for _ in range(WORKERS)]
        self.paused: Seat | None = None
        self.gets_before_pause = 0
        self.damaged_folders: set[str] = set()

    @rule(number=worker_numbers, model_id=model_ids)
    def lease(self, number: int, model_id: str) -> None:
        """A process uses a model; while it is being downloaded by a paused process, it has to wait."""
        seat = self.seats[number]
        if seat.waiting_for is not None or len(seat.uses) == 2:
            return
        self._begin(seat, model_id)
        seat.worker.start("lease", model_id=model_id, slot=seat.slot)
        if self.paused is None or self.paused.waiting_for != model_id:
            self._end(seat, seat.worker.finish())

    @rule(number=worker_numbers, model_id=model_ids)
    def lease_and_pause(self, number: int, model_id: str) -> None:
        """A process begins to use a model and stops in the middle of its download, if it needs one."""
        self.resume()
        seat = self.seats[number]
        if seat.waiting_for is not None or len(seat.uses) == 2:
            return
        self.gate.touch()
        self.gets_before_pause = len(self._gets())
        self._begin(seat, model_id)
        seat.worker.start("lease", model_id=model_id, slot=seat.slot, gate=str(self.gate))
        answer = seat.worker.finish()
        if answer == {"paused": True}:
            self.paused = seat
        else:
            self.gate.unlink()
            self._end(seat, answer)

    @rule()
    def resume(self) -> None:
        """The paused process goes on; it was the only one to download, and whoever waited for it has the model too."""
        if self.paused is None:
            return
        seat, self.paused = self.paused, None
        model_id, versions = seat.waiting_for, set(seat.acceptable)
        self.gate.unlink()
        self._end(seat, seat.worker.finish())
        self._end_waiting()
        gets = [
            key
            for key in self._gets()[self.gets_before_pause :]
            if tuple(key.split("/")[:2]) in {(model_id, version) for version in versions}
        ]
        assert len(gets) == len(set(gets)), f"downloaded more than once: {gets}"

    @rule(model_id=model_ids)
    def herd(self, model_id: str) -> None:
        """The model is trained again, and every process uses it at once: each file is downloaded once."""
        self.resume()
        self._publish(model_id)
        before = len(self._gets())
        for seat in self.seats:
            seat.worker.start("use", model_id=model_id)
        answers = [seat.worker.finish() for seat in self.seats]
        for answer in answers:
            self._check_answer(model_id, {self.current[model_id]}, answer, errors={"storage_full"})
        gets = self._gets()[before:]
        if not any("error" in answer for answer in answers):
            assert len(gets) == len(set(gets)), f"downloaded more than once: {gets}"

    @rule(number=worker_numbers)
    def release(self, number: int) -> None:
        """A process ends its oldest use."""
        seat = self.seats[number]
        if seat.waiting_for is None and seat.uses:
            slot = next(iter(seat.uses))
            del seat.uses[slot]
            seat.worker.call("release", slot=slot)

    @rule(number=worker_numbers)
    def kill(self, number: int) -> None:
        """A process is killed, whatever it is doing; whoever waits for it takes over."""
        seat = self.seats[number]
        self._kill(seat)
        if self.paused is seat:
            self.paused = None
            self.gate.unlink()
            self._end_waiting()

    @rule(number=worker_numbers, model_id=model_ids, steps=st.integers(0, 25))
    def die_between_pieces(self, number: int, model_id: str, steps: int) -> None:
        """A process is killed before some call to the bucket, or some piece of a download."""
        self._die_in_use(number, model_id, calls_to_live=steps)

    @rule(number=worker_numbers, model_id=model_ids, lines=st.integers(0, 1500))
    def die_between_lines(self, number: int, model_id: str, lines: int) -> None:
        """A process is killed before some line of the code."""
        self._die_in_use(number, model_id, lines_to_live=lines)

    @rule(model_id=model_ids)
    def publish(self, model_id: str) -> None:
        """The model is trained again."""
        self.resume()
        self._publish(model_id)

    @rule(number=worker_numbers, model_id=model_ids, steps=st.integers(0, 14))
    def die_publishing(self, number: int, model_id: str, steps: int) -> None:
        """A publisher is killed before some call to the bucket, and its job's next attempt finishes the work."""
        self.resume()
        seat = self.seats[number]
        if seat.waiting_for is not None:
            return
        self.seeds += 1
        version, folder = f"v{self.seeds:06d}", self.folder / f"trained-{self.seeds}"
        try:
            seat.worker.call(
                "publish",
                model_id=model_id,
                seed=self.seeds,
                folder=str(folder),
                version=version,
                calls_to_live=steps,
            )
        except WorkerDied:
            self._kill(seat)
        assert half_published(self.bucket) == []
        content = write_model(folder, self.seeds)
        self.store.publish(model_id, folder, DESCRIPTION, version=version)
        self._note(model_id, version, content)

    @rule(model_id=model_ids, choice=st.integers(0, 1 << 30), cut=st.booleans())
    def damage_cached(self, model_id: str, choice: int, *, cut: bool) -> None:
        """A bit of a cached model flips, or one of its files is cut."""
        self.resume()
        files = sorted(
            path
            for path in self.cache.glob(f"models/{model_id}/*/**/*")
            if path.is_file() and path.name != "lease.lock"
        )
        if not files:
            return
        path = files[choice % len(files)]
        damage(path, choice, cut=cut)
        version = path.relative_to(self.cache / "models" / model_id).parts[0]
        self.damaged_folders.add(str(self.cache / "models" / model_id / version))
        for seat in self.seats:
            for use in seat.uses.values():
                use.damaged |= (use.model_id, use.version) == (model_id, version)

    @rule(number=worker_numbers, model_id=model_ids, choice=st.integers(0, 1 << 30), cut=st.booleans())
    def damage_bucket(self, number: int, model_id: str, choice: int, *, cut: bool) -> None:
        """A process uses a model whose files in the bucket are damaged: from the cache, or not at all."""
        self.resume()
        seat = self.seats[number]
        if seat.waiting_for is not None:
            return
        version = self.current[model_id]
        files = sorted(path for path in (self.bucket / model_id / version).rglob("*") if path.is_file())
        path = files[choice % len(files)]
        before = path.read_bytes()
        damage(path, choice, cut=cut)
        answer = seat.worker.call("use", model_id=model_id)
        path.write_bytes(before)
        self._check_answer(model_id, {version}, answer, errors={"corrupt_model", "storage_full"})

    @rule(number=worker_numbers, model_id=model_ids)
    def remove(self, number: int, model_id: str) -> None:
        """A process removes a model from the cache."""
        self.resume()
        seat = self.seats[number]
        if seat.waiting_for is None:
            assert isinstance(seat.worker.call("remove", model_id=model_id), int)

    @rule(model_id=model_ids)
    def fill_up(self, model_id: str) -> None:
        """Every process that can uses a model: what makes room scarce."""
        start = MODEL_IDS.index(model_id)
        for number in range(WORKERS):
            self.lease(number, MODEL_IDS[(start + number) % len(MODEL_IDS)])

    @rule(number=worker_numbers, model_id=model_ids)
    def overlap(self, number: int, model_id: str) -> None:
        """A process is in the middle of a download while all the others use models, then goes on."""
        self.lease_and_pause(number, model_id)
        self.fill_up(MODEL_IDS[(MODEL_IDS.index(model_id) + 1) % len(MODEL_IDS)])
        self.never_over_quota()
        self.resume()

    @invariant()
    def never_over_quota(self) -> None:
        """Counted from outside, downloads in progress and what is being removed included."""
        used = cache_bytes(self.cache)
        assert used <= QUOTA_BYTES, f"{used} bytes are used of {QUOTA_BYTES}"

    @invariant()
    def never_half_a_model(self) -> None:
        """What the cache holds as committed is whole, unless it was damaged here."""
        assert set(half_models(self.cache)) <= self.damaged_folders

    @invariant()
    def never_evicts_what_is_in_use(self) -> None:
        """Every leased file is where it was, with its bytes."""
        for seat in self.seats:
            for use in seat.uses.values():
                folder = self.cache / "models" / use.model_id / use.version / "files"
                assert use.damaged or content_of(folder) == use.content, f"{use.model_id} is in use and gone"

    def teardown(self) -> None:
        """Afterwards: what killed processes left is swept by whoever comes next."""
        if not hasattr(self, "seats"):
            return
        try:
            self._finish()
        finally:
            for seat in self.seats:
                seat.worker.kill()
            self._stack.__exit__(None, None, None)

    def _finish(self) -> None:
        self.resume()
        if self.mutant:
            return
        last = self.seats[0]
        for slot in [*last.uses]:
            last.worker.call("release", slot=slot)
        for model_id in MODEL_IDS:
            answer = last.worker.call("use", model_id=model_id)
            self._check_answer(model_id, {self.current[model_id]}, answer, errors={"storage_full"})
        self._kill(last)
        last.worker.wait_ready()
        assert [*(self.cache / "downloads").iterdir()] == []
        assert [*(self.cache / "trash").iterdir()] == []

    def _begin(self, seat: Seat, model_id: str) -> None:
        self.seeds += 1
        seat.waiting_for, seat.slot = model_id, str(self.seeds)
        seat.acceptable = {self.current[model_id]}

    def _end(self, seat: Seat, answer: dict[str, Any]) -> None:
        model_id, seat.waiting_for = seat.waiting_for, None
        assert model_id is not None
        if self._check_answer(model_id, seat.acceptable, answer, errors={"storage_full"}):
            version = answer["version"]
            seat.uses[seat.slot] = Use(model_id, version, self.versions[model_id, version])

    def _end_waiting(self) -> None:
        for seat in self.seats:
            if seat.waiting_for is not None:
                self._end(seat, seat.worker.finish())

    def _check_answer(self, model_id: str, versions: set[str], answer: dict[str, Any], *, errors: set[str]) -> bool:
        if "error" in answer:
            assert answer["error"] in errors, answer
            if answer["error"] == "storage_full":
                assert self._room_is_short(model_id), f"there is room for {model_id}: {answer}"
            return False
        assert answer["version"] in versions, f"{answer['version']} is not current"
        assert answer["content"] == self.versions[model_id, answer["version"]], "wrong bytes were served"
        # What is served is whole: a copy that was damaged has been replaced.
        folder = self.cache / "models" / model_id / answer["version"]
        if not half_models_in(folder):
            self.damaged_folders.discard(str(folder))
        return True

    def _room_is_short(self, model_id: str) -> bool:
        taken = {(use.model_id, use.version) for seat in self.seats for use in seat.uses.values()}
        taken |= {(seat.waiting_for, "") for seat in self.seats if seat.waiting_for not in (None, model_id)}
        return len(taken) >= 2

    def _die_in_use(self, number: int, model_id: str, **death: int) -> None:
        self.resume()
        seat = self.seats[number]
        if seat.waiting_for is not None:
            return
        try:
            answer = seat.worker.call("use", model_id=model_id, **death)
        except WorkerDied:
            self._kill(seat)
        else:
            self._check_answer(model_id, {self.current[model_id]}, answer, errors={"storage_full"})

    def _kill(self, seat: Seat) -> None:
        seat.worker.kill()
        seat.worker, seat.uses, seat.waiting_for = self._new_worker(), {}, None

    def _publish(self, model_id: str) -> None:
        self.seeds += 1
        folder = self.folder / f"trained-{self.seeds}"
        content = write_model(folder, self.seeds)
        version = f"v{self.seeds:06d}"
        self.store.publish(model_id, folder, DESCRIPTION, version=version)
        shutil.rmtree(folder)
        self._note(model_id, version, content)

    def _note(self, model_id: str, version: str, content: Content) -> None:
        self.versions[model_id, version] = content
        self.current[model_id] = version

    def _new_worker(self) -> Worker:
        return self.nursery.worker(self.config)

    def _gets(self) -> list[str]:
        return [line.split(" ", 1)[1] for line in self.log.read_text().splitlines()] if self.log.exists() else []


def damage(path: Path, choice: int, *, cut: bool) -> None:
    """Flip a bit of the file, or cut it, where ``choice`` says."""
    chance = random.Random(choice)
    data = bytearray(path.read_bytes())
    if cut or not data:
        del data[chance.randrange(len(data) + 1) // 2 :]
    else:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(bytes(data))


def half_models_in(folder: Path) -> bool:
    """Whether this one committed version is not whole."""
    return str(folder) in half_models(folder.parent.parent.parent)
