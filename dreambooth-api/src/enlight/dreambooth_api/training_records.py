"""Records of trainings on disk: what a restarted service needs to go on with the ones it had accepted. No torch."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from enlight.dreambooth_api.photo_preflight import PhotoWarning
from enlight.dreambooth_api.requests import TrainingOutcome, TrainingRequest
from enlight.dreambooth_api.training_jobs import FINAL_STATES, TrainingJob, now
from enlight.servicekit import atomic_files
from enlight.servicekit.errors import ServiceError, WireError, error_from_wire, error_to_wire

_log = logging.getLogger(__name__)

ENDED_KEPT = 1000
"""Records of ended trainings kept; the oldest go first."""


class TrainingRecords:
    """Writes each detached training's record atomically, and reads them all at start.

    Args:
        trainings_folder: One JSON file per accepted training.
        jobs_folder: One work folder per distinct request: photos and checkpoints.
    """

    def __init__(self, trainings_folder: Path, jobs_folder: Path) -> None:
        self._trainings_folder = trainings_folder
        self._jobs_folder = jobs_folder
        trainings_folder.mkdir(parents=True, exist_ok=True)
        jobs_folder.mkdir(parents=True, exist_ok=True)

    def job_folder(self, fingerprint: str) -> Path:
        """Work folder of the trainings with this fingerprint."""
        return self._jobs_folder / fingerprint

    def photo_paths(self, fingerprint: str, count: int) -> tuple[Path, ...]:
        """Where the photos of a job lie."""
        return tuple(self.job_folder(fingerprint) / "photos" / f"{index:02d}" for index in range(count))

    def write_photos(self, paths: Sequence[Path], photos: Sequence[bytes]) -> None:
        """Stores the uploaded photos; a restart finds all of them, or the job's record is not there either."""
        for path, photo in zip(paths, photos, strict=True):
            path.parent.mkdir(parents=True, exist_ok=True)
            atomic_files.write_bytes(path, photo)

    def save(self, job: TrainingJob) -> None:
        """Writes the job's record; only trainings that outlive their client have one."""
        if job.detached:
            atomic_files.write_json(self._path(job.id), _to_json(job))

    def save_success(self, job: TrainingJob, outcome: TrainingOutcome) -> None:
        """Writes the record of a job that is about to be told to have succeeded."""
        if job.detached:
            ended = {"state": "succeeded", "outcome": dataclasses.asdict(outcome), "finished_at": now()}
            atomic_files.write_json(self._path(job.id), _to_json(job) | ended)

    def load(self) -> list[TrainingJob]:
        """Every readable record, oldest first. A job that had not ended is queued again."""
        jobs = []
        for path in sorted(self._trainings_folder.glob("tr-*.json")):
            try:
                jobs.append(self._from_json(json.loads(path.read_bytes())))
            except (ValueError, KeyError, TypeError):
                # Written atomically, so this is damage to the disk or a foreign file: say so, keep it, go on.
                _log.exception("unreadable training record %s left alone", path)
        return jobs

    def prune(self, jobs: Sequence[TrainingJob]) -> list[TrainingJob]:
        """Forgets the oldest ended jobs beyond `ENDED_KEPT`; returns the rest."""
        ended = [job for job in jobs if job.ended]
        dropped = {job.id for job in ended[: max(0, len(ended) - ENDED_KEPT)]}
        for job_id in dropped:
            self._path(job_id).unlink(missing_ok=True)
        return [job for job in jobs if job.id not in dropped]

    def remove_folder(self, fingerprint: str) -> None:
        """Removes photos and checkpoints of a job."""
        shutil.rmtree(self.job_folder(fingerprint), ignore_errors=True)

    def sweep_folders(self, *, in_use: set[str], older_than_s: float) -> None:
        """Removes work folders that no job uses and nothing has touched for ``older_than_s``."""
        limit = time.time() - older_than_s
        for folder in self._jobs_folder.iterdir():
            newest = max((path.stat().st_mtime for path in [folder, *folder.glob("*")]), default=0.0)
            if folder.name not in in_use and newest <= limit:
                self.remove_folder(folder.name)

    def _path(self, job_id: str) -> Path:
        return self._trainings_folder / f"{job_id}.json"

    def _from_json(self, record: dict[str, Any]) -> TrainingJob:
        request = dict(record["request"])
        request["photos"] = self.photo_paths(record["fingerprint"], request["photos"])
        job = TrainingJob(
            record["id"],
            fingerprint=record["fingerprint"],
            request=TrainingRequest(**request),
            folder=self.job_folder(record["fingerprint"]),
            detached=True,
            warnings=tuple(_warning_from_json(warning) for warning in record["warnings"]),
            attempt=record["attempt"],
            created_at=record["created_at"],
            request_id=record.get("request_id"),
        )
        job.started_at = record["started_at"]
        if record["state"] == "succeeded":
            job.succeed(TrainingOutcome(**record["outcome"]))
        elif record["state"] in FINAL_STATES:
            error = error_from_wire(WireError(**record["error"]))
            (job.fail if record["state"] == "failed" else job.end_cancelled)(error)
        job.finished_at = record["finished_at"]
        return job


def _to_json(job: TrainingJob) -> dict[str, Any]:
    request = dataclasses.asdict(job.request)
    request["photos"] = len(job.request.photos)
    return {
        "id": job.id,
        "fingerprint": job.fingerprint,
        "state": job.state,
        "attempt": job.attempt,
        "created_at": job.created_at,
        "request_id": job.request_id,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "warnings": [dataclasses.asdict(warning) for warning in job.warnings],
        "request": request,
        "outcome": dataclasses.asdict(job.outcome) if job.outcome else None,
        "error": _error_to_json(job.error),
    }


def _warning_from_json(warning: dict[str, Any]) -> PhotoWarning:
    return PhotoWarning(warning["code"], warning["message"], tuple(warning["photos"]))


def _error_to_json(error: ServiceError | None) -> dict[str, Any] | None:
    return dataclasses.asdict(error_to_wire(error)) if error else None
