"""Settings of dreambooth-api, read once from ``DREAMBOOTH_API_*`` and passed down as an argument."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from enlight.dreambooth_api.requests import StoreConfig
from enlight.dreambooth_api.trainer_settings import TrainerSettings
from enlight.dreambooth_api.training_defaults import TrainingDefaults
from enlight.servicekit.service_settings import MIB, HttpSettings

GIB = 1024**3


class Settings(TrainingDefaults, TrainerSettings, HttpSettings):
    """Every field is the environment variable ``DREAMBOOTH_API_<FIELD>``; units are in the names."""

    model_config = SettingsConfigDict(env_prefix="DREAMBOOTH_API_", frozen=True, extra="forbid")

    port: int = Field(5000, ge=1, le=65535, description="Port to listen on.")

    model_cache_folder: Path | None = Field(
        None,
        description="Local cache of models, may be shared by containers; empty: `model-cache` in the data folder.",
    )
    model_cache_quota_bytes: int = Field(20 * GIB, gt=0, description="Quota of the local cache of models.")
    model_fetch_timeout_s: float = Field(600, gt=0, description="Limit of bringing one model from the bucket.")
    model_alias_ttl_s: float = Field(
        5,
        ge=0,
        le=3600,
        description="How long a model's current version is believed without asking the bucket.",
    )

    max_inference_requests: int = Field(
        32, ge=1, le=1024, description="Generations admitted at once, running and waiting; one more gets 503."
    )
    max_images_per_request: int = Field(50, ge=1, le=1000, description="Largest num_image of one request.")
    max_batch_images: int = Field(10, ge=1, le=256, description="Images denoised together, across requests.")
    batch_window_s: float = Field(
        0.02, ge=0, le=1, description="How long an idle engine waits for more requests to join a batch."
    )
    inference_timeout_s: float = Field(600, gt=0, description="Limit of one generation, waiting included; then 504.")
    gpu_cache_bytes: int = Field(8 * GIB, ge=0, description="Quota of fine-tuned weights kept on the GPU.")
    host_cache_bytes: int = Field(16 * GIB, ge=0, description="Quota of fine-tuned weights kept in host memory.")
    max_resident_bases: int = Field(1, ge=1, le=16, description="Base models kept on the GPU at once.")
    encoder_threads: int = Field(4, ge=1, le=64, description="Threads that encode pictures.")
    engine_start_timeout_s: float = Field(600, gt=0, description="Limit of the engine's start.")
    engine_hang_timeout_s: float = Field(
        300, gt=0, description="An engine that is busy and silent this long is killed and started again."
    )

    training_slots: int = Field(1, ge=1, le=16, description="Trainings that run at once.")
    max_waiting_trainings: int = Field(
        4,
        ge=0,
        le=1000,
        description="Trainings that may wait for a slot; 0: a busy service answers 503 at once.",
    )
    max_training_waiters: int = Field(
        16,
        ge=1,
        le=1000,
        description="Clients of `/train` that wait for a training's end at once; one more gets 503.",
    )
    max_training_attempts: int = Field(
        3,
        ge=1,
        le=10,
        description="A trainer that dies is started again from its checkpoint, at most this often in all.",
    )
    max_event_streams: int = Field(16, ge=1, le=1000, description="Event streams open at once; one more gets 503.")
    checkpoint_retention_s: float = Field(
        24 * 3600,
        ge=0,
        description="How long the checkpoints of an unfinished training are kept for an identical request.",
    )
    max_train_body_bytes: int = Field(256 * MIB, ge=1, description="Largest body of a training request.")

    @property
    def http_threads(self) -> int:
        """One for each admitted generation, waiting client and event stream, and the spare ones."""
        return self.max_inference_requests + self.max_training_waiters + self.max_event_streams + self.spare_threads

    @property
    def jobs_folder(self) -> Path:
        """Work folders of trainings, one per distinct request."""
        return self.data_folder.absolute() / "jobs"

    @property
    def trainings_folder(self) -> Path:
        """Records of the trainings accepted on ``/v1/trainings``."""
        return self.data_folder.absolute() / "trainings"

    def store_config(self) -> StoreConfig:
        """Bucket and model cache, as the engine gets them."""
        return StoreConfig(
            **dataclasses.asdict(self.bucket_config()),
            cache_folder=(self.model_cache_folder or self.data_folder / "model-cache").absolute(),
            cache_quota_bytes=self.model_cache_quota_bytes,
            alias_ttl_s=self.model_alias_ttl_s,
            fetch_timeout_s=self.model_fetch_timeout_s,
        )
