"""The worker as it is started: with a real queue, database, bucket and trainer, stopped and killed on its way."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rq
from embedded_servers import EmbeddedServer, valkey_server
from tiny_training import RecordingChannel
from waiting import is_running, wait_until
from worker_site import LIMIT_S, WorkerSite

from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.dreambooth_api.model_store import ModelStore
from enlight.dreambooth_api.requests import TrainingRequest
from enlight.dreambooth_api.trainer import Trainer
from enlight.jobkit.dispatcher import SERIALIZER, TRAIN_QUEUE, Dispatcher, connect_queue
from enlight.jobkit.jobs import Job

WORKER = "enlight.dreambooth_api.worker"
STEPS = 60
EVERY = 5
SAMPLE_EVERY = 6


@pytest.fixture
def queued_site(
    tmp_path: Path, models_folder: Path, mongo: EmbeddedServer, valkey: EmbeddedServer, job_photos: tuple[Path, ...]
) -> Iterator[WorkerSite]:
    with WorkerSite(tmp_path, models_folder, mongo.url, valkey.url, job_photos) as site:
        yield site


@pytest.fixture
def dispatch(valkey: EmbeddedServer) -> Iterator[Callable[[Job], None]]:
    dispatcher = Dispatcher(valkey.url, timeout_s=1)

    def dispatch(job: Job) -> None:
        assert dispatcher.dispatch(job.id)

    yield dispatch
    dispatcher.close()


def _undisturbed(site: WorkerSite, job: Job, photos: tuple[Path, ...]) -> dict[str, str]:
    """SHA-256 of the files that a trainer publishes of the same request when nothing happens to it."""
    settings = site.settings("undisturbed", bucket_url="")
    request = TrainingRequest(**{**job.request, "photos": photos, "sample_prompt": None})
    base = BaseCatalogue(settings.models_folder).bases()[request.base_name]
    store = ModelStore(settings.open_models_bucket())
    outcome = Trainer(RecordingChannel(), settings.trainer_config(base, request, settings.work_folder), store).run()
    return {path: entry.sha256 for path, entry in store.manifest(outcome.model_id, outcome.version).files.items()}


def test_a_training_that_was_stopped_and_killed_publishes_what_an_undisturbed_one_does(
    queued_site: WorkerSite, dispatch: Callable[[Job], None], job_photos: tuple[Path, ...]
) -> None:
    site = queued_site

    # Given a job whose worker is stopped behind its first checkpoint
    job = site.add_job(
        model_id="m-disturbed",
        max_training_steps=STEPS,
        sample_prompt="a photo of sks dog",
        sample_every_steps=SAMPLE_EVERY,
    )
    dispatch(job)
    with site.process(WORKER, name="stopped", checkpoint_every_steps=EVERY) as worker:
        site.wait_for(job, lambda job: site.checkpoints(job))
        assert worker.end(signal.SIGTERM) == 0
    stopped = site.job(job)
    assert (stopped.state, stopped.attempt, stopped.lost_attempts) == ("queued", 1, 0)

    # And whose next one loses its trainer, and then is killed itself, each behind a newer checkpoint
    with site.process(WORKER, name="killed", checkpoint_every_steps=EVERY) as worker:
        for attempt in (2, 3):
            dispatch(job)
            site.wait_for(job, lambda _: site.checkpoints(job, attempt))  # noqa: B023 -- called within the loop
            (trainer,) = worker.trainers()
            if attempt == 2:
                os.kill(trainer, signal.SIGKILL)
            else:
                worker.end(signal.SIGKILL)
            assert wait_until(lambda: not is_running(trainer))  # noqa: B023 -- called within the loop
            assert site.reap(job).state == "queued"

    # When a last one takes over, with a work folder that knows nothing of the job
    newest_step = int(site.checkpoints(job)[-1].partition("-")[0])
    dispatch(job)
    with site.process(WORKER, name="last", checkpoint_every_steps=EVERY) as worker:
        done = site.wait_for(job, lambda job: job.ended)
        assert worker.end(signal.SIGTERM) == 0
    assert done.progress is not None

    # Then it went on from the bucket's newest checkpoint, and published the same bytes, once
    assert (done.state, done.attempt, done.lost_attempts) == ("succeeded", 4, 2)
    assert done.result is not None
    assert done.result["resumed_from_step"] == newest_step > EVERY
    assert site.hashes(job) == _undisturbed(site, job, job_photos)
    # And no sample is missing or there twice, nor does the curve of the losses go back
    assert sorted(sample.step for sample in done.samples) == list(range(SAMPLE_EVERY, STEPS + 1, SAMPLE_EVERY))
    assert site.folders(job) == {"samples"}
    steps = [step for step, _ in site.histories.losses(job.id)]
    assert steps == sorted(set(steps))
    assert steps[-1] == STEPS


def test_the_queue_names_jobs_and_has_no_other_power(
    queued_site: WorkerSite, valkey: EmbeddedServer, dispatch: Callable[[Job], None], tmp_path: Path
) -> None:
    # Given a queue with calls of other functions in it, as JSON and as a pickle, and commands
    site = queued_site
    job = site.add_job(photos=0)
    connection = connect_queue(valkey.url, timeout_s=1)
    touched = [tmp_path / "json", tmp_path / "pickle"]
    json_queue = rq.Queue(TRAIN_QUEUE, connection=connection, serializer=SERIALIZER)
    json_queue.enqueue_call("os.system", args=[f"touch {touched[0]}"])
    rq.Queue(TRAIN_QUEUE, connection=connection).enqueue_call("os.system", args=[f"touch {touched[1]}"])

    # When a worker comes by
    dispatch(job)
    with site.process(WORKER) as worker:
        done = site.wait_for(job, lambda job: job.ended)
        assert worker.end(signal.SIGTERM) == 0

    # Then it does the job, and nothing else
    assert done.reason is not None
    assert done.reason["code"] == "job_failed"
    assert not any(path.exists() for path in touched)
    assert json_queue.get_job_ids() == []
    connection.close()


def test_a_worker_outlives_its_queue(
    tmp_path: Path, models_folder: Path, mongo: EmbeddedServer, job_photos: tuple[Path, ...]
) -> None:
    with (
        valkey_server(tmp_path / "valkey") as valkey,
        WorkerSite(tmp_path, models_folder, mongo.url, valkey.url, job_photos) as site,
        site.process(WORKER) as worker,
    ):
        # Given a worker that listens to a queue that dies
        assert wait_until(lambda: "Listening" in worker.output(), LIMIT_S)
        valkey.kill()
        assert wait_until(lambda: "the queue is away" in worker.output() or "not connect" in worker.output(), LIMIT_S)

        # When the queue comes back, empty
        valkey.start()
        job = site.add_job(photos=0)
        dispatcher = Dispatcher(valkey.url, timeout_s=1)
        assert dispatcher.dispatch(job.id)
        dispatcher.close()

        # Then the worker takes what is in it
        assert site.wait_for(job, lambda job: job.ended).state == "failed"
        assert worker.end(signal.SIGTERM) == 0


def test_a_data_folder_has_one_worker(queued_site: WorkerSite) -> None:
    with queued_site.process(WORKER) as first:
        assert wait_until(lambda: "Listening" in first.output(), LIMIT_S)
        with queued_site.process(WORKER) as second:
            assert second.wait() == 1
        assert "another worker uses" in first.output()
        assert first.end(signal.SIGTERM) == 0
