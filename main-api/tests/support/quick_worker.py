"""A worker that takes every training at once and publishes a small model for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from small_models import publish, write_lora

from enlight.jobkit.job_leases import LeaseLost
from enlight.jobkit.jobs import Job
from enlight.main_api.stores import Stores

POLL_S = 0.02


@contextmanager
def quick_worker(stores: Stores, folder: Path) -> Iterator[None]:
    """Works on the jobs of ``stores`` while the block lasts; ``folder`` is its own."""
    over = Event()

    def work() -> None:
        while not over.wait(POLL_S):
            for job_id in stores.jobs.undispatched(0):
                job = stores.jobs.claim(job_id, "quick-worker")
                if job is not None:
                    with suppress(LeaseLost):
                        _train(stores, folder, job)

    thread = Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _train(stores: Stores, folder: Path, job: Job) -> None:
    progress = {
        "phase": "training",
        "step": 1,
        "steps": 2,
        "resumed_from_step": 0,
        "loss": 0.5,
        "learning_rate": 1e-4,
        "steps_per_s": None,
        "remaining_s": None,
        "peak_memory_bytes": None,
    }
    if stores.jobs.renew(job.id, job.attempt, progress):
        stores.jobs.cancelled(job.id, job.attempt)
        return
    manifest = publish(stores.models, job.model_id, write_lora(folder / job.id, seed=1), "lora")
    stores.jobs.commit(job.id, job.attempt, manifest.version)
    stores.jobs.succeed(job.id, job.attempt, {"version": manifest.version})
