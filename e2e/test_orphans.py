"""A worker that is stopped beyond its lease and then goes on beside the one that took its training: one commits.

Two workers, a gateway, Valkey, SecantusDB, a bucket: real ones. Each round stops a worker with its trainer at a
random moment, waits until the other one has its training, and wakes the first up at another random moment.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import psutil
import pytest
import requests
from local_suite import LocalSuite
from suite_trainings import start_training, training
from waiting import wait_until

from enlight.dreambooth_api.model_store import ModelStore
from enlight.jobkit.database import open_database
from enlight.jobkit.job_store import JobStore
from enlight.jobkit.jobs import Job
from enlight.servicekit.directory_store import DirectoryStore
from enlight.servicekit.errors import NotFound

LEASE_S = 1.0
STEPS = 6
WORKERS = ("worker", "worker-2")
SETTINGS = {
    "MAIN_API_": {
        "LEASE_S": str(LEASE_S),
        "REAP_EVERY_S": "0.1",
        "EVENT_POLL_S": "0.05",
        "MAX_TRAINING_ATTEMPTS": "10",  # on a busy machine a worker may lose its lease without being stopped
    },
    "DREAMBOOTH_API_": {"CPU_THREADS": "1"},
    "DREAMBOOTH_WORKER_": {
        "LEASE_S": str(LEASE_S),
        "CHECKPOINT_EVERY_STEPS": "2",
        "CHECKPOINT_POLL_S": "0.05",
        "PROGRESS_EVERY_S": "0.05",
        "CPU_THREADS": "1",
        "TRAINING_STOP_GRACE_S": "1",  # an orphan's trainer that still loads torch is not waited for
    },
}
LIMIT_S = 120.0  # of any one thing: starting a trainer takes half a minute on a busy machine

Place = Literal["publishing", "published", "anywhere", "training", "committed"]
PLACES: tuple[Place, ...] = ("publishing", "published", "anywhere", "training", "committed")
SPANS_S: dict[Place, float] = {
    "publishing": 0.15,
    "published": 0.8,
    "anywhere": 4.0,
    "training": 0.5,
    "committed": 0.0,
}
"""From where to where, about, the random moment lies. It may be too late, then the round is played again."""


@dataclass(frozen=True)
class Site:
    """A suite with two workers, and a look behind its gateway."""

    folder: Path
    suite: LocalSuite
    jobs: JobStore
    objects: DirectoryStore
    models: ModelStore

    def job(self, job_id: str) -> Job:
        job = self.jobs.find(job_id)
        assert job is not None
        return job

    def wait_for_another_worker(self, job_id: str, *, than: str | None) -> Job:
        """The job, once another worker has taken it than the named one, or it has ended."""
        assert wait_until(lambda: (job := self.job(job_id)).worker != than or job.ended, LIMIT_S), job_id
        return self.job(job_id)

    def wait_for_a_moment(self, job: Job, place: Place, chance: random.Random) -> None:
        """Until a random moment of the job's attempt, or the job's end."""
        version = f"-a{job.attempt:04d}/"

        def has_come() -> bool:
            match place:
                case "anywhere":
                    return True
                case "training":
                    return _has_steps(self.job(job.id))
                case "publishing" | "published":
                    key = version + ("manifest.json" if place == "published" else "")
                    return any(key in info.key for info in self.objects.list(f"{job.model_id}/"))
                case "committed":
                    return self.job(job.id).committed_version is not None

        assert wait_until(lambda: has_come() or self.job(job.id).ended, LIMIT_S), job
        time.sleep(chance.uniform(0, SPANS_S[place]))

    def assert_nothing_uncommitted_is_current(self, job: Job) -> None:
        """What everybody gets under the model's name, if anything, is what the database says is the job's."""
        with suppress(NotFound):
            current = self.models.current_version(job.model_id)
            assert self.job(job.id).committed_version == current

    def workers_are_idle(self) -> bool:
        """Whether no attempt is under way: each has a folder as long as it lasts."""
        return not any(any((self.folder / name / "worker").glob("*")) for name in WORKERS)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("orphans")
    with LocalSuite(folder / "data", folder, services=("dreambooth-api",), workers=2, settings=SETTINGS) as suite:
        database = open_database(suite.database_url, "enlight", timeout_s=10)
        with database.client:
            objects = DirectoryStore(folder / "data/modelids")
            jobs = JobStore(database, lease_s=LEASE_S)
            yield Site(folder / "data", suite, jobs, objects, ModelStore(objects))


@pytest.mark.timeout(900)  # half a minute where nothing else runs
def test_an_orphan_and_its_heir_never_both_commit(site: Site) -> None:
    play(site, rounds=3)


@pytest.mark.long
@pytest.mark.parametrize("piece", range(10))
def test_an_orphan_and_its_heir_never_both_commit_in_100_rounds(site: Site, piece: int) -> None:
    play(site, rounds=10)


def play(site: Site, *, rounds: int) -> None:
    """Plays so many rounds in which the first worker was stopped before its training's end."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    outcomes: Counter[str] = Counter()
    number = 0
    while (played := outcomes.total() - outcomes["too late"]) < rounds:
        place = PLACES[played % len(PLACES)]
        began_s = time.monotonic()
        outcome = _play_one(site, f"toy-{seed}-{number}", place, chance)
        print(f"{number}: {outcome}, {time.monotonic() - began_s:.1f} s", flush=True)
        outcomes[outcome] += 1
        assert outcomes["too late"] <= 5 + 2 * rounds, outcomes
        number += 1
    print(dict(outcomes))


def _play_one(site: Site, name: str, place: Place, chance: random.Random) -> str:
    """One round; gives where the first worker was stopped, and whose version the training's is."""
    job_id = start_training(site.suite, name, steps=STEPS)
    with ThreadPoolExecutor(1) as pool:
        followed = pool.submit(_followed_states, site.suite, job_id)
        # Given a worker that is stopped in the middle of its training
        first = site.wait_for_another_worker(job_id, than=None)
        site.wait_for_a_moment(first, place, chance)
        with _stopped(first):
            site.assert_nothing_uncommitted_is_current(first)
            second = site.wait_for_another_worker(job_id, than=first.worker)
            too_late = second.worker == first.worker  # it had ended by then
            if not too_late:
                # When another one has taken it, and the first goes on
                site.wait_for_a_moment(second, chance.choice(PLACES), chance)
                site.assert_nothing_uncommitted_is_current(first)
        assert wait_until(lambda: site.job(job_id).ended, LIMIT_S), site.job(job_id)
        at_the_end = training(site.suite, job_id)
        assert wait_until(site.workers_are_idle, LIMIT_S)
        states = followed.result(LIMIT_S)
    # Then the training succeeds, once, and what is seen of it afterwards does not change
    assert at_the_end is not None
    assert at_the_end["state"] == "succeeded", at_the_end
    assert training(site.suite, job_id) == at_the_end
    # And no state that was ever seen went backwards
    ranks = [_rank(state, attempt) for state, attempt in states]
    assert ranks == sorted(set(ranks)), states
    assert states[-1][0] == "succeeded"
    # And there is one version, of which every byte is right, and which everybody gets
    version = at_the_end["model_version"]
    assert site.models.versions(first.model_id) == [version]
    assert site.models.current_version(first.model_id) == version
    with TemporaryDirectory() as copy:
        site.models.download(site.models.manifest(first.model_id, version), Path(copy))
    # And nothing else is in the bucket or before the tenant's eyes
    names = {info.key.split("/")[1] for info in site.objects.list(f"{first.model_id}/")}
    assert names == {version, "current"}
    shown = requests.get(f"{site.suite.url}/v1/models/{name}", timeout=30).json()
    assert [(each["version"], each["current"]) for each in shown["versions"]] == [(version, True)], shown
    assert_pictures_say_what_ran(site.suite, name, version)
    if too_late:
        return "too late"
    # And the orphan's own version is the training's only if it was before the other one took it
    its_own = version.endswith(f"-a{first.attempt:04d}")
    assert not its_own or second.committed_version == version
    whose = "its own" if its_own else "the heir's"
    return f"stopped {place}, {whose} version"


def assert_pictures_say_what_ran(suite: LocalSuite, name: str, version: str) -> None:
    """Pictures of the model, through the gateway: their headers, and the body where it has the fields, tell of it."""
    asked = {"model_id": name, "prompt": "a sks robot", "num_images": 2, "num_inference_steps": 3, "seed": 11}
    answer = requests.post(f"{suite.url}/v1/generations", json=asked, timeout=LIMIT_S)
    assert answer.status_code == 200, answer.text
    headers, body = answer.headers, answer.json()
    assert body["model_id"] == name
    assert (body["model_version"], body["seed"], body["num_inference_steps"]) == (version, 11, 3)
    assert headers["X-Model-Version"] == version
    assert (headers["X-Seed"], headers["X-Steps"], headers["X-Scheduler"]) == ("11", "3", body["scheduler"])
    assert (headers["X-Batch-Images"], headers["X-Cache-Tier"]) == (str(body["batch_images"]), body["cache_tier"])
    assert body["batch_images"] == 2
    assert body["cache_tier"] == "bucket", "nobody has used the model before"
    assert float(headers["X-Queued-Seconds"]) == body["queued_s"] >= 0
    assert float(headers["X-Run-Seconds"]) == body["run_s"] > 0
    # The seed's route has no such fields: its headers say it
    asked = {"model_id": name, "prompt": "a sks robot", "num_image": 1}
    answer = requests.post(f"{suite.url}/inference", json=asked, timeout=LIMIT_S)
    assert answer.status_code == 200, answer.text
    headers = answer.headers
    assert (headers["X-Model-Version"], headers["X-Scheduler"]) == (version, body["scheduler"])
    assert (headers["X-Steps"], headers["X-Batch-Images"]) == ("25", "1")
    assert headers["X-Cache-Tier"] in ("resident", "gpu", "host"), "it is in memory by now"
    assert int(headers["X-Seed"]) >= 0
    assert float(headers["X-Queued-Seconds"]) >= 0
    assert float(headers["X-Run-Seconds"]) > 0


def _followed_states(suite: LocalSuite, job_id: str) -> list[tuple[str, int]]:
    """State and attempt, as the training's events tell them to a client until the end."""
    states: list[tuple[str, int]] = []
    with requests.get(f"{suite.url}/v1/trainings/{job_id}/events", stream=True, timeout=LIMIT_S) as stream:
        event = ""
        for line in stream.iter_lines(decode_unicode=True):
            name, _, value = line.partition(": ")
            if name == "event":
                event = value
            elif name == "data" and event == "state":
                told = json.loads(value)
                before = states[-1][1] if states else 0
                states.append((told["state"], told.get("attempt", before)))
    return states


def _rank(state: str, attempt: int) -> tuple[int, int]:
    """Grows with every change that a training may make: it waits, runs, waits for its next attempt, ..., has ended."""
    return attempt, {"running": 0, "queued": 1}.get(state, 2)


def _has_steps(job: Job) -> bool:
    return job.progress is not None and job.progress["step"] > 0


@contextmanager
def _stopped(job: Job) -> Iterator[None]:
    """Within it, the job's worker and its trainer are stopped: SIGSTOP, then SIGCONT, as a machine that is paused."""
    assert job.worker is not None
    worker = psutil.Process(int(job.worker.rpartition(":")[2]))
    stopped = [worker]
    try:
        worker.suspend()
        assert wait_until(lambda: worker.status() == psutil.STATUS_STOPPED)  # from now on it starts no more children
        for child in worker.children(recursive=True):
            stopped.append(child)
            with suppress(psutil.NoSuchProcess):
                child.suspend()
        yield
    finally:
        for process in stopped:
            with suppress(psutil.NoSuchProcess):
                process.resume()
