"""What a worker tells of its attempt: the log, the losses, the samples; and what becomes of it when things fail."""

from __future__ import annotations

import io
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

from embedded_servers import EmbeddedServer
from lone_worker import SCRIPTED_TRAINER
from PIL import Image
from waiting import wait_until
from worker_site import WorkerSite

from enlight.dreambooth_api.requests import TrainerRemark, TrainingProgress, TrainingSample
from enlight.dreambooth_api.training_attempt import TrainingAttempt
from enlight.dreambooth_api.worker_job import work_on
from enlight.jobkit.job_leases import JobLeases
from enlight.jobkit.jobs import Job, sample_key

PROGRESS = TrainingProgress("training", 1, 10, 0, 0.5, 1e-4, None, None, None)


def told(site: WorkerSite, job: Job) -> list[tuple[int, str, str]]:
    return [(line.attempt, line.level, line.message) for line in site.histories.lines(job.id)[0]]


def claimed(site: WorkerSite) -> Job:
    job = site.store.claim(site.add_job().id, "worker-1")
    assert job is not None
    return job


def test_an_attempt_tells_its_way(site: WorkerSite) -> None:
    done = site.work_here(site.add_job(instance_prompt="publish"))
    assert told(site, done) == [
        (1, "info", f"Taken by worker {done.worker}."),
        (1, "info", "Training begins: 2 steps."),
        (1, "info", f"Version {done.committed_version} is published."),
    ]
    assert site.histories.losses(done.id) == [(1, 0.5)]


def test_attempts_that_die_and_those_after_them_tell_theirs(site: WorkerSite) -> None:
    job = site.add_job(instance_prompt="die")
    site.work_here(job)
    site.reap(job)
    site.work_here(job)
    begun = (site.job(job).worker, "Training begins: 2 steps.")
    died = "The attempt ends without a result: The job's process was killed by SIGKILL."
    assert told(site, job) == [
        (1, "info", f"Taken by worker {begun[0]}."),
        (1, "info", begun[1]),
        (1, "error", died),
        (2, "info", f"Taken by worker {begun[0]}. Workers lost before: 1."),
        (2, "info", begun[1]),
        (2, "error", died),
    ]


def test_a_killed_worker_has_told_all_but_the_last_seconds(site: WorkerSite) -> None:
    job = site.add_job(instance_prompt="wait publish")
    with site.process("lone_worker", job.id) as worker:
        assert wait_until(lambda: len(told(site, job)) == 2 and bool(site.histories.losses(job.id)), 60)
        worker.end(signal.SIGKILL)
    assert [message for _, _, message in told(site, job)][1] == "Training begins: 2 steps."
    assert site.histories.losses(job.id) == [(1, 0.5)]


def test_a_training_that_is_tried_on_keeps_the_curve_up_to_its_checkpoint(site: WorkerSite) -> None:
    # Given an attempt that came to step 8
    job = claimed(site)
    with site.history(job) as history:
        for step in (2, 4, 6, 8):
            history.take(replace(PROGRESS, step=step, loss=step / 10))
    # When the next one goes on after step 4
    site.store.release(job.id, 1)
    second = site.store.claim(job.id, "worker-2")
    assert second is not None
    with site.history(second) as history:
        history.take(replace(PROGRESS, step=4, resumed_from_step=4, loss=None))
        history.take(replace(PROGRESS, step=6, resumed_from_step=4, loss=0.9))
    # Then what it does again is not there twice
    assert site.histories.losses(job.id) == [(2, 0.2), (4, 0.4), (6, 0.9)]
    assert (2, "info", "Training goes on after step 4 of 10.") in told(site, job)


def test_what_a_trainer_says_again_as_a_sign_of_life_counts_once(site: WorkerSite) -> None:
    # Given a training with more steps than its curve has points, so that two of them are one point
    job = claimed(site)
    with site.history(job) as history:
        for step, loss in ((1, 0.5), (2, 0.25), (2, 0.25)):
            history.take(replace(PROGRESS, step=step, steps=400, loss=loss))
    assert site.histories.losses(job.id) == [(2, 0.375)]


def test_telling_does_not_wait_for_a_database_that_is_away(site: WorkerSite, mongo: EmbeddedServer) -> None:
    job = claimed(site)
    history = site.history(job)
    with history:
        assert wait_until(lambda: site.histories.begin(job.id, 1) == [], 10)
        mongo.kill()
        begun_s = time.monotonic()
        for number in range(1000):
            history.note("info", f"line {number}")
        history.take(PROGRESS)
        assert time.monotonic() - begun_s < 1  # a call to the database that is away takes five seconds
        mongo.start()
    # What was told meanwhile is there afterwards, as much as is kept, and once
    messages = [message for _, _, message in told(site, job)]
    assert len(messages) == len(set(messages)) <= 500
    assert messages[-1] == "Training begins: 10 steps."
    assert messages[-2] == "line 999"
    assert site.histories.losses(job.id) == [(1, 0.5)]


def test_a_trainer_s_remarks_are_lines(site: WorkerSite) -> None:
    job = claimed(site)
    with site.history(job) as history:
        history.take(TrainerRemark("warning", "The checkpoint could not be written.", "Traceback: no space"))
    (line,) = site.histories.lines(job.id)[0]
    assert (line.level, line.attempt, line.trace) == ("warning", 1, "Traceback: no space")


def test_a_sample_is_in_the_bucket_and_in_the_record(site: WorkerSite) -> None:
    job = claimed(site)
    with site.history(job) as history:
        history.take(TrainingSample(20, b"a picture", 1.25))
        history.flush()
    (sample,) = site.job(job).samples
    assert (sample.step, sample.attempt, sample.seconds, sample.size_bytes) == (20, 1, 1.25, 9)
    assert site.objects.get_bytes(sample_key(job.id, sample))[0] == b"a picture"


def test_the_sample_of_the_last_step_comes_before_the_end(site: WorkerSite) -> None:
    # Given a trainer that ends right behind a sample, and a history that is brought away by nobody else
    leases = JobLeases(site.database, lease_s=30)
    job = leases.claim(site.add_job(instance_prompt="sample publish").id, "worker-1")
    assert job is not None
    history = site.history(job, every_s=1000)
    TrainingAttempt(
        job, leases, history, site.objects, site.models, site.settings(), threading.Event(), trainer=SCRIPTED_TRAINER
    ).run()
    # Then the sample is the job's, which takes none after its end
    done = site.job(job)
    assert (done.state, [sample.step for sample in done.samples]) == ("succeeded", [1])


def test_a_sample_waits_for_a_bucket_that_is_away(site: WorkerSite, tmp_path: Path) -> None:
    job = claimed(site)
    (tmp_path / "jobs").rename(tmp_path / "away")
    (tmp_path / "jobs").write_text("no folder")
    with site.history(job) as history:
        history.take(TrainingSample(20, b"a picture", 1.25))
        history.flush()
        history.flush()
        assert site.job(job).samples == ()
        (tmp_path / "jobs").unlink()
        (tmp_path / "away").rename(tmp_path / "jobs")
    assert [sample.step for sample in site.job(job).samples] == [20]


def test_a_sample_of_an_attempt_that_lost_its_job_is_not_the_job_s(site: WorkerSite) -> None:
    job = claimed(site)
    site.store.release(job.id, 1)
    second = site.store.claim(job.id, "worker-2")
    assert second is not None
    with site.history(job) as late, site.history(second) as now:
        late.take(TrainingSample(20, b"late", 1.0))
        late.flush()
        now.take(TrainingSample(20, b"now", 1.0))
        now.flush()
    (sample,) = site.job(job).samples
    assert (sample.attempt, site.objects.get_bytes(sample_key(job.id, sample))[0]) == (2, b"now")


def test_a_history_does_not_come_back_after_its_job_was_deleted(site: WorkerSite) -> None:
    job = claimed(site)
    site.store.cancelled(job.id, 1)
    site.store.delete("ann", job.id)
    with site.history(job) as history:
        history.note("info", "too late")
    assert site.database["job_histories"].count_documents({}) == 0


def test_a_real_training_s_samples_outlive_it(site: WorkerSite) -> None:
    # Given a job that asks for samples, and a worker whose trainer is the real one
    job = site.add_job(max_training_steps=6, sample_prompt="a photo of sks dog", sample_every_steps=3)
    work_on(job.id, site.settings(checkpoint_every_steps=4), threading.Event())
    done = site.job(job)

    # Then the job has them, of photos and checkpoints nothing is left
    assert (done.state, [sample.step for sample in done.samples]) == ("succeeded", [3, 6])
    assert site.folders(job) == {"samples"}
    for sample in done.samples:
        with Image.open(io.BytesIO(site.objects.get_bytes(sample_key(job.id, sample))[0])) as picture:
            assert (picture.format, picture.size) == ("PNG", (64, 64))
    # And the log says what happened
    assert [message for _, _, message in told(site, job)] == [
        f"Taken by worker {done.worker}.",
        "The base model is being loaded.",
        "The base model is there; the photos are being read.",
        "Training begins: 6 steps.",
        "The checkpoint of step 4 is kept.",
        "All steps are done; the weights are being written.",
        "The model is being published.",
        f"Version {done.committed_version} is published.",
    ]
