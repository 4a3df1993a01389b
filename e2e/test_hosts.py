"""Trainings on more than one machine: a host with a worker is cut off and dies, and the other one ends its job.

Three hosts, made of network namespaces: one has the gateway, the queue, the database and the bucket, two a worker each.
``make test-hosts`` runs this.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import requests
from clients import PHOTOS
from separate_hosts import can_make_hosts
from suite_on_hosts import BUCKET, SuiteOnHosts, suite_on_hosts
from waiting import wait_until

from enlight.dreambooth_api.model_store import ModelStore
from enlight.jobkit.database import open_database
from enlight.jobkit.job_store import JobStore
from enlight.jobkit.jobs import Job
from enlight.main_api.keys.key_store import KeyStore
from enlight.servicekit.gcs_store import GcsStore

TRAININGS = 20
STEPS = 60
CHECKPOINT_EVERY_STEPS = 5
ENDED_BEFORE = 3
"""Trainings that each host has ended before the first one is cut off."""
LEASE_S = 5.0
LIMIT_S = 1200.0
"""Of any one thing. A trainer takes ten seconds on a machine that does nothing else."""
SETTINGS = {
    "MAIN_API_": {"MAX_QUEUED_TRAININGS": str(TRAININGS), "REAP_EVERY_S": "0.5", "STORAGE_RETRY_TOTAL_S": "10"},
    "DREAMBOOTH_WORKER_": {
        "CHECKPOINT_EVERY_STEPS": str(CHECKPOINT_EVERY_STEPS),
        "CHECKPOINT_POLL_S": "0.1",
        "PROGRESS_EVERY_S": "0.1",
        "CPU_THREADS": "1",
        "STORAGE_RETRY_TOTAL_S": "10",
    },
}

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not can_make_hosts(), reason="needs root and network namespaces"),
]


@dataclass(frozen=True)
class Site:
    """The suite, and a look behind its gateway."""

    suite: SuiteOnHosts
    key: str
    jobs: JobStore
    job_objects: GcsStore
    models: ModelStore

    def start(self, name: str) -> str:
        """Id of a training, accepted."""
        body = {
            "model_id": name,
            "instance_prompt": "a sks robot",
            "photos": PHOTOS,
            "max_training_steps": STEPS,
            "train_batch_size": 1,
        }
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = requests.post(f"{self.suite.url}/v1/trainings", json=body, headers=headers, timeout=30)
        assert answer.status_code == 202, answer.text
        job_id: str = answer.json()["id"]
        return job_id

    def job(self, job_id: str) -> Job:
        job = self.jobs.find(job_id)
        assert job is not None
        return job

    def host_of(self, job: Job) -> str | None:
        """Name of the host whose worker has the job, or had it last."""
        pids = {str(worker.pid): name for name, worker in self.suite.workers.items()}
        return pids[job.worker.rpartition(":")[2]] if job.worker else None

    def running_on(self, host: str, ids: list[str]) -> Job | None:
        """The job that the host's worker has now."""
        jobs = (self.job(job_id) for job_id in ids)
        return next((job for job in jobs if job.state == "running" and self.host_of(job) == host), None)

    def ended_on(self, host: str, ids: list[str]) -> int:
        """How many of the trainings the host's worker has ended."""
        jobs = (self.job(job_id) for job_id in ids)
        return sum(job.ended and self.host_of(job) == host for job in jobs)

    def has_checkpoint(self, job: Job | None) -> bool:
        """Whether another worker could go on with the job."""
        found = self.job_objects.list(f"{job.id}/checkpoints/") if job else []
        return any(info.key.endswith("/seal.json") for info in found)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("hosts")
    with suite_on_hosts(["first", "second"], folder, lease_s=LEASE_S, settings=SETTINGS) as suite:
        database = open_database(suite.mongo_url, "enlight", timeout_s=10)
        with database.client:
            job_objects, models = (
                GcsStore(BUCKET, prefix=prefix, timeout_s=10, retry_total_s=30, endpoint=suite.bucket_url)
                for prefix in ("jobs", "models")
            )
            key = KeyStore(database).create("anna", "user")[1].text
            yield Site(suite, key, JobStore(database, lease_s=LEASE_S), job_objects, ModelStore(models))


@pytest.mark.timeout(3600)
def test_a_host_that_is_cut_off_and_dies_costs_no_training(site: Site) -> None:
    began_s = time.monotonic()
    ids = [site.start(f"toy-{number}") for number in range(TRAININGS)]
    # Given hosts that have shared the trainings for a while, one of the first host's with a checkpoint in the bucket
    assert wait_until(lambda: min(site.ended_on(host, ids) for host in ("first", "second")) >= ENDED_BEFORE, LIMIT_S)
    assert wait_until(lambda: site.has_checkpoint(site.running_on("first", ids)), LIMIT_S)
    orphan = site.running_on("first", ids)
    assert orphan is not None
    # When the first host is cut off, and dies while nobody sees it
    cut_off_s = time.monotonic()
    site.suite.hosts["first"].cut_off()
    assert wait_until(lambda: site.host_of(site.job(orphan.id)) == "second", LIMIT_S), site.job(orphan.id)
    print(f"the other host had the training {time.monotonic() - cut_off_s:.1f} s after the cut")
    assert site.suite.hosts["first"].kill() > 0
    # Then every training ends, once, the cut off one from its checkpoint
    assert wait_until(lambda: all(site.job(job_id).ended for job_id in ids), LIMIT_S)
    jobs = {job_id: site.job(job_id) for job_id in ids}
    assert Counter(job.state for job in jobs.values()) == {"succeeded": TRAININGS}
    assert {job_id: job.attempt for job_id, job in jobs.items() if job.attempt != 1} == {orphan.id: 2}
    resumed = jobs[orphan.id].progress
    assert resumed is not None
    assert resumed["resumed_from_step"] >= CHECKPOINT_EVERY_STEPS
    # And each model has one version, of which every byte is right
    for job in jobs.values():
        assert site.models.versions(job.model_id) == [job.committed_version]
        assert site.models.current_version(job.model_id) == job.committed_version
        with TemporaryDirectory() as copy:
            site.models.download(site.models.manifest(job.model_id, str(job.committed_version)), Path(copy))
    spread = Counter(site.host_of(job) for job in jobs.values())
    assert spread["second"] > spread["first"] >= ENDED_BEFORE
    print(f"{dict(spread)}, {time.monotonic() - began_s:.0f} s in all")
