"""One job and what can become of it, with a scripted trainer around which the worker is real."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest
from embedded_servers import EmbeddedServer
from lone_worker import SCRIPTED_TRAINER
from waiting import wait_until
from worker_site import LEASE_S, WorkerSite

from enlight.dreambooth_api.training_attempt import TrainingAttempt
from enlight.dreambooth_api.worker_job import work_on
from enlight.jobkit.job_leases import JobLeases, LeaseLost
from enlight.servicekit.errors import NotFound


def test_a_job_is_done_and_nothing_of_it_stays(site: WorkerSite) -> None:
    job = site.add_job(instance_prompt="publish")
    done = site.work_here(job)

    # Then its version is the model's, the result says so, and photos and work folder are gone
    assert done.state == "succeeded"
    assert done.result is not None
    assert done.result["version"] == done.committed_version == site.models.current_version(job.model_id)
    assert list(site.objects.list(f"{job.id}/")) == []
    assert list(site.settings().work_folder.iterdir()) == []


def test_a_job_is_worked_on_once(site: WorkerSite) -> None:
    job = site.add_job(instance_prompt="publish")
    first = site.work_here(job)

    # When the queue hands it out again
    again = site.work_here(job)

    # Then nothing happens
    assert again == first


def test_a_second_job_of_a_model_replaces_the_first(site: WorkerSite) -> None:
    first, second = (site.work_here(site.add_job(instance_prompt="publish")) for _ in range(2))
    assert site.models.current_version("m-0001") == second.committed_version
    assert site.models.versions("m-0001") == [first.committed_version, second.committed_version]


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"photos": 2}, "job_failed", "Photo 02 of the training is no longer there."),
        ({"instance_prompt": "fill-memory"}, "out_of_gpu_memory", "It does not fit."),
    ],
)
def test_what_another_attempt_would_meet_again_ends_the_job(
    site: WorkerSite, changes: dict[str, object], code: str, message: str
) -> None:
    job = site.work_here(site.add_job(**changes))  # type: ignore[arg-type]
    assert job.state == "failed"
    assert job.reason == {"code": code, "message": message, "details": {}}
    assert site.folders(job) == {"photos"}  # for another try


def test_a_base_without_weights_ends_the_job(site: WorkerSite, tmp_path: Path) -> None:
    job = site.work_here(site.add_job(), models_folder=tmp_path / "none")
    assert job.state == "failed"
    assert job.reason is not None
    assert job.reason["code"] == "weights_unavailable"


def test_a_job_that_kills_its_trainers_fails_after_three(site: WorkerSite) -> None:
    job = site.add_job(instance_prompt="die")
    for attempt in (1, 2, 3):
        assert site.work_here(job).attempt == attempt
        job = site.reap(job)
    assert (job.state, job.lost_attempts) == ("failed", 3)
    assert job.reason is not None
    assert job.reason["code"] == "worker_lost"


def test_a_worker_s_time_stays_with_the_job_whatever_became_of_the_worker(site: WorkerSite) -> None:
    # Given a worker that is killed when it has renewed its lease
    job = site.add_job(instance_prompt="wait publish")
    with site.process("lone_worker", job.id) as killed:
        renewed = site.wait_for(job, lambda job: job.gpu_seconds >= LEASE_S)
        killed.end(signal.SIGKILL)
    lost = site.reap(job)
    assert lost.state == "queued"
    assert lost.gpu_seconds >= renewed.gpu_seconds

    # When the next one has it until somebody cancels it
    with site.process("lone_worker", job.id, name="next") as worker:
        site.wait_for(job, lambda job: job.gpu_seconds >= lost.gpu_seconds + LEASE_S)
        site.store.request_cancel("ann", job.id)
        worker.wait()

    # Then each attempt has its time, and the job all of it
    over = site.job(job)
    first, second = over.unrecorded_attempts
    assert (first.outcome, second.outcome) == ("lost", "cancelled")
    assert min(first.gpu_seconds, second.gpu_seconds) >= LEASE_S - 0.1
    assert over.gpu_seconds == pytest.approx(first.gpu_seconds + second.gpu_seconds, abs=0.1)


def test_a_cancelled_job_ends_as_such(site: WorkerSite) -> None:
    # Given a job whose trainer runs
    job = site.add_job(instance_prompt="wait publish")
    thread = threading.Thread(target=site.work_here, args=(job,))
    thread.start()
    site.wait_for(job, lambda job: job.progress)

    # When somebody cancels it
    begun_s = time.monotonic()
    site.store.request_cancel("ann", job.id)
    thread.join()

    # Then it ends soon, and nothing is published
    assert time.monotonic() - begun_s < 5
    assert site.job(job).state == "cancelled"
    assert site.models.versions(job.model_id) == []
    assert site.folders(job) == {"photos"}


def test_a_stopping_worker_gives_its_job_back(site: WorkerSite) -> None:
    job = site.add_job(instance_prompt="wait publish")
    with site.process("lone_worker", job.id) as worker:
        site.wait_for(job, lambda job: job.progress)
        worker.end(signal.SIGTERM)
    job = site.job(job)
    assert (job.state, job.attempt, job.lost_attempts) == ("queued", 1, 0)
    assert len(list(site.objects.list(f"{job.id}/photos/"))) == 3


def test_a_worker_that_stops_before_its_trainer_runs_gives_its_job_back(site: WorkerSite) -> None:
    job, closing = site.add_job(), threading.Event()
    closing.set()
    work_on(job.id, site.settings(), closing)
    job = site.job(job)
    assert (job.state, job.lost_attempts) == ("queued", 0)


def test_a_worker_without_its_bucket_claims_nothing(site: WorkerSite, tmp_path: Path) -> None:
    job = site.add_job(instance_prompt="publish")
    (tmp_path / "jobs").rename(tmp_path / "away")
    (tmp_path / "jobs").write_text("no folder")
    assert site.work_here(job) == job


def test_a_bucket_that_goes_away_before_the_training_costs_no_attempt(site: WorkerSite, tmp_path: Path) -> None:
    # Given a claimed job, and a bucket that went away afterwards
    leases = JobLeases(site.database, lease_s=LEASE_S)
    job = leases.claim(site.add_job(instance_prompt="publish").id, "worker")
    assert job is not None
    (tmp_path / "jobs").rename(tmp_path / "away")

    # When it is worked on
    history = site.history(job)
    attempt = TrainingAttempt(job, leases, history, site.objects, site.models, site.settings(), threading.Event())
    attempt.run()

    # Then it goes back to the queue, and no attempt was lost
    job = site.job(job)
    assert (job.state, job.attempt, job.lost_attempts) == ("queued", 1, 0)


@pytest.mark.parametrize("round_", range(3))
def test_a_worker_that_was_paused_behind_its_publication_commits_nothing(site: WorkerSite, round_: int) -> None:
    # Given a worker that is paused between publication and commit, until its lease ran out
    job = site.add_job(instance_prompt="publish-and-pause-the-worker", model_id=f"m-{round_}")
    with site.process("lone_worker", job.id, name="first") as first:
        site.wait_for(job, lambda _: first.stopped())
        assert site.reap(job).state == "queued"
        (orphan,) = site.models.versions(job.model_id)
        with pytest.raises(NotFound):
            site.models.current_version(job.model_id)

        # When the next worker takes over while it wakes up, later, or before
        if round_ == 0:
            first.send(signal.SIGCONT)
        with site.process("lone_worker", job.id, name="second") as second:
            site.wait_for(job, lambda _: second.stopped())
            if round_ == 1:
                first.send(signal.SIGCONT)
                first.wait()
            second.send(signal.SIGCONT)
            second.wait()
        first.send(signal.SIGCONT)
        first.wait()

    # Then the second one's version is the job's, and the only one
    done = site.job(job)
    assert (done.state, done.attempt, done.lost_attempts) == ("succeeded", 2, 1)
    assert done.committed_version != orphan
    assert site.models.current_version(job.model_id) == done.committed_version
    assert site.models.versions(job.model_id) == [done.committed_version]


@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_what_was_published_for_a_job_that_ended_meanwhile_is_removed(site: WorkerSite, end: str) -> None:
    # Given a worker that is paused between publication and commit, until its job has ended without a model
    job = site.add_job(instance_prompt="publish-and-pause-the-worker")
    with site.process("lone_worker", job.id) as paused:
        site.wait_for(job, lambda _: paused.stopped())
        assert len(site.models.versions(job.model_id)) == 1
        if end == "cancelled":
            site.store.request_cancel("ann", job.id)
        else:
            site.store.max_attempts = 1
        assert site.reap(job).state == end

        # When it wakes up
        paused.send(signal.SIGCONT)
        assert paused.wait() == 0

    # Then nothing of it stays: no other attempt comes that would remove it
    assert site.models.versions(job.model_id) == []
    assert site.job(job).state == end


def test_a_version_whose_attempt_may_still_commit_it_is_left(site: WorkerSite) -> None:
    # Given an attempt that published its version and was told, wrongly or by a lost answer, that it has lost its job
    job = site.add_job(instance_prompt="publish")
    leases = JobLeases(site.database, lease_s=LEASE_S)

    class Forgetful(JobLeases):
        def commit(self, job_id: str, attempt: int, version: str) -> None:
            raise LeaseLost("so it seems")

    claimed = leases.claim(job.id, "worker")
    assert claimed is not None
    attempt = TrainingAttempt(
        claimed,
        Forgetful(site.database, lease_s=LEASE_S),
        site.history(claimed),
        site.objects,
        site.models,
        site.settings(),
        threading.Event(),
        trainer=SCRIPTED_TRAINER,
    )
    with pytest.raises(LeaseLost):
        attempt.run()

    # Then its version stays, since it is the newest attempt of a running job
    assert len(site.models.versions(job.model_id)) == 1


def test_a_worker_that_was_paused_behind_its_commit_does_not_bring_the_old_version_back(site: WorkerSite) -> None:
    # Given a worker that is paused between commit and alias, until its lease ran out
    job = site.add_job(instance_prompt="publish")
    with site.process("lone_worker", job.id, "alias") as paused:
        site.wait_for(job, lambda _: paused.stopped())
        assert site.reap(job).state == "queued"
        (committed,) = site.models.versions(job.model_id)

        # When another finishes the job without training again, and a newer job of the model is done
        finished = site.work_here(job, "other")
        assert (finished.state, finished.committed_version) == ("succeeded", committed)
        assert finished.result is not None
        assert (finished.result["version"], finished.result["final_loss"]) == (committed, 0.5)
        newer = site.work_here(site.add_job(instance_prompt="publish"))

        # Then its awakening changes nothing
        paused.send(signal.SIGCONT)
        paused.wait()
    assert site.job(job) == finished
    assert site.models.current_version(job.model_id) == newer.committed_version
    # And the version that it published and committed stays
    assert site.models.versions(job.model_id) == [committed, newer.committed_version]


def test_a_trained_model_waits_for_a_database_that_is_away(
    site: WorkerSite, mongo: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a job whose trainer runs
    job = site.add_job(instance_prompt="wait-for-go publish")
    thread = threading.Thread(target=site.work_here, args=(job,), kwargs={"mongo_timeout_s": 0.5})
    thread.start()
    site.wait_for(job, lambda job: job.state == "running")

    # When the database hangs for longer than a call may take, as the training ends
    mongo.pause()
    (site.settings().work_folder / "go").touch()
    wait_until(lambda: "what became of the job cannot be told" in caplog.text)
    mongo.resume()
    thread.join()

    # Then the job is done by the same attempt
    job = site.job(job)
    assert (job.state, job.attempt) == ("succeeded", 1)
