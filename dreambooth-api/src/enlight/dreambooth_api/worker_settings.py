"""Settings of the worker, read once from ``DREAMBOOTH_WORKER_*`` and passed down as an argument."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from enlight.dreambooth_api.trainer_settings import TrainerSettings
from enlight.servicekit.object_store import ObjectStore, open_store


class WorkerSettings(TrainerSettings):
    """Every field is the environment variable ``DREAMBOOTH_WORKER_<FIELD>``; units are in the names."""

    model_config = SettingsConfigDict(env_prefix="DREAMBOOTH_WORKER_", frozen=True, extra="forbid")

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    metrics_host: str = Field("127.0.0.1", description="Address of the metrics' port; in a container 0.0.0.0.")
    metrics_port: int = Field(
        0, ge=0, le=65535, description="Port that answers Prometheus under `/metrics`, one for each worker; 0: none."
    )
    mongo_url: str = Field("mongodb://127.0.0.1:27117", repr=False, description="MongoDB: the jobs.")
    mongo_database: str = Field("enlight", min_length=1, max_length=63, description="Name of the database.")
    mongo_timeout_s: float = Field(5, gt=0, le=60, description="Limit of one call to MongoDB.")
    queue_url: str = Field(
        "redis://127.0.0.1:6390/0", repr=False, description="Redis or Valkey of the queue, which only wakes workers."
    )
    jobs_url: str = Field(
        "", description="Bucket of jobs' photos and checkpoints; empty: `job-objects` in the data folder."
    )
    lease_s: float = Field(
        30, gt=0, le=3600, description="A worker that is silent this long has lost its job; as main-api has it."
    )
    training_hang_timeout_s: float = Field(
        900, gt=0, description="A trainer that is silent this long is killed, and its job given up to another worker."
    )
    checkpoint_poll_s: float = Field(
        1, gt=0, le=600, description="Time between two looks for a new checkpoint to upload."
    )

    def open_jobs_bucket(self) -> ObjectStore:
        """Where jobs' photos and checkpoints are. Raises: InvalidField, StorageUnavailable."""
        return self._open(self.jobs_url or (self.data_folder.absolute() / "job-objects").as_uri())

    def open_models_bucket(self) -> ObjectStore:
        """Where models are published. Raises: InvalidField, StorageUnavailable."""
        return self._open(self.bucket_config().bucket_url)

    @property
    def work_folder(self) -> Path:
        """Work folders of the job at hand; this worker's alone."""
        return self.data_folder.absolute() / "worker"

    def _open(self, url: str) -> ObjectStore:
        return open_store(url, timeout_s=self.storage_timeout_s, retry_total_s=self.storage_retry_total_s)
