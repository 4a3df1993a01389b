"""What a worker needs around it, real and small: a database, a queue, buckets, a base model, and jobs to do."""

from __future__ import annotations

import dataclasses
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lone_worker import SCRIPTED_TRAINER
from tiny_training import make_request

from enlight.dreambooth_api.attempt_history import AttemptHistory
from enlight.dreambooth_api.model_store import ModelStore
from enlight.dreambooth_api.worker_job import work_on
from enlight.dreambooth_api.worker_settings import WorkerSettings
from enlight.jobkit.database import open_database
from enlight.jobkit.job_histories import JobHistories
from enlight.jobkit.job_store import JobStore
from enlight.jobkit.jobs import Job, NewJob
from enlight.servicekit.object_store import ObjectStore, open_store
from enlight.servicekit.settings import variable_name

LEASE_S = 1.0
LIMIT_S = 120.0  # starting a trainer takes half a minute on a busy machine


class WorkerSite:
    """Servers, buckets and folders of one test.

    Args:
        folder: Everything lies below it.
        models_folder: Holds the base ``enlight/pocket``.
        mongo_url: The database server; the site has a database of its own there.
        queue_url: The queue.
        photos: Files that a job's photos are taken from.
    """

    def __init__(
        self, folder: Path, models_folder: Path, mongo_url: str, queue_url: str, photos: tuple[Path, ...]
    ) -> None:
        self._folder = folder
        self._photos = photos
        self._fixed: dict[str, Any] = {
            "models_folder": models_folder,
            "mongo_url": mongo_url,
            "mongo_database": f"test-{secrets.token_hex(6)}",
            "queue_url": queue_url,
            "jobs_url": (folder / "jobs").as_uri(),
            "bucket_url": (folder / "models").as_uri(),
            "device": "cpu",
            "cpu_threads": 1,
            "lease_s": LEASE_S,
            "checkpoint_poll_s": 0.02,
            "progress_every_s": 0.05,
        }
        self.database = open_database(mongo_url, self._fixed["mongo_database"], timeout_s=5)
        self.store = JobStore(self.database, lease_s=LEASE_S)
        self.store.make_indexes()
        self.histories = JobHistories(self.database)
        self.objects: ObjectStore = open_store(self._fixed["jobs_url"], timeout_s=5, retry_total_s=5)
        self.models = ModelStore(open_store(self._fixed["bucket_url"], timeout_s=5, retry_total_s=5))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.database.client.close()

    def settings(self, name: str = "worker", **changes: Any) -> WorkerSettings:
        """Settings of the worker ``name``, which has a data folder of its own."""
        return WorkerSettings(data_folder=self._folder / name, **{**self._fixed, **changes})

    def add_job(self, *, model_id: str = "m-0001", photos: int | None = None, **changes: Any) -> Job:
        """A queued job with its photos in the bucket; ``changes`` are of the request."""
        job_id = f"tr-{time.time_ns():019d}-{secrets.token_hex(5)}"
        keys = [f"{job_id}/photos/{index:02d}" for index in range(len(self._photos))]
        for key, photo in list(zip(keys, self._photos, strict=True))[:photos]:
            self.objects.put_file(key, photo)
        request = dataclasses.asdict(make_request((), base_name="enlight/pocket", **changes))
        del request["photos"]
        job, _ = self.store.create(
            NewJob(
                id=job_id,
                tenant="ann",
                model_name="dog",
                model_id=model_id,
                request=request,
                photo_keys=keys,
                warnings=[],
                idempotency_key=None,
                body_digest="0" * 64,
                webhook_url=None,
            )
        )
        return job

    def work_here(self, job: Job, name: str = "worker", **changes: Any) -> Job:
        """Work on the job in this process, with the scripted trainer; gives it as it is afterwards."""
        work_on(job.id, self.settings(name, **changes), threading.Event(), trainer=SCRIPTED_TRAINER)
        return self.job(job)

    def job(self, job: Job) -> Job:
        """The job as it is now."""
        found = self.store.find(job.id)
        assert found is not None
        return found

    def wait_for(self, job: Job, condition: Callable[[Job], object]) -> Job:
        """The job, once it meets the condition."""
        deadline_s = time.monotonic() + LIMIT_S
        while not condition(found := self.job(job)):
            assert time.monotonic() < deadline_s, f"still {found}"
            time.sleep(0.02)
        return found

    def reap(self, job: Job) -> Job:
        """The job, once its lease ran out and it was taken back."""

        def taken_back(_: Job) -> bool:
            self.store.reap()
            return self.job(job).state != "running"

        self.wait_for(job, taken_back)
        return self.job(job)

    def history(self, job: Job, *, every_s: float = 0.02) -> AttemptHistory:
        """The history of this attempt."""
        return AttemptHistory(self.histories, self.store, self.objects, job, every_s=every_s)

    def folders(self, job: Job) -> set[str]:
        """What kinds of objects the job has in the bucket."""
        return {info.key.split("/")[1] for info in self.objects.list(f"{job.id}/")}

    def checkpoints(self, job: Job, attempt: int | None = None) -> list[str]:
        """Names of the job's sealed checkpoints in the bucket, oldest first; only those of one attempt, if named."""
        keys = [info.key for info in self.objects.list(f"{job.id}/checkpoints/")]
        names = [key.split("/")[2] for key in keys if key.endswith("/seal.json")]
        return [name for name in names if attempt is None or name.endswith(f"-{attempt:04d}")]

    def hashes(self, job: Job) -> dict[str, str]:
        """SHA-256 of the files of the model's current version, which is its only one."""
        version = self.models.current_version(job.model_id)
        assert self.models.versions(job.model_id) == [version]
        return {path: entry.sha256 for path, entry in self.models.manifest(job.model_id, version).files.items()}

    @contextmanager
    def process(self, *arguments: str, name: str = "worker", **changes: Any) -> Iterator[WorkerProcess]:
        """``python -m ...`` with the settings of the worker ``name``; killed at the end."""
        settings = self.settings(name, **changes)
        environment = {
            variable_name(WorkerSettings, field): str(getattr(settings, field))
            for field in ("data_folder", *self._fixed, *changes)
        }
        process = WorkerProcess(arguments, environment, self._folder / f"{name}.log")
        try:
            yield process
        finally:
            process.end(signal.SIGKILL)


class WorkerProcess:
    """A worker in a process of its own."""

    def __init__(self, arguments: tuple[str, ...], environment: Mapping[str, str], log: Path) -> None:
        python_path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env={**os.environ, "PYTHONPATH": python_path, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._log = log

    def trainers(self) -> list[int]:
        """Process ids of its trainers."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children]

    def stopped(self) -> bool:
        """Whether a SIGSTOP holds it."""
        return Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self, number: signal.Signals) -> int:
        """Send it a signal, and wait for its end; gives the exit status."""
        self._process.send_signal(number)
        self._process.send_signal(signal.SIGCONT)
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; gives the exit status."""
        try:
            return self._process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"the worker does not end:\n{self.output()}") from None

    def output(self) -> str:
        """Its log so far."""
        return self._log.read_text()
