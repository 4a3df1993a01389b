"""Settings of whatever runs trainers, dreambooth-api and the worker: models, bucket, device, checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from enlight.dreambooth_api.requests import Base, BucketConfig, TrainerConfig, TrainingRequest
from enlight.dreambooth_api.training_defaults import BaseModelSettings


class TrainerSettings(BaseModelSettings):
    """What a trainer's process is started with. A subclass sets the prefix."""

    data_folder: Path = Field(Path("data"), description="Everything that is written lies below this folder.")
    bucket_url: str = Field(
        "", description="`gs://bucket[/prefix]` or `file:///folder`; empty: `modelids` in the data folder."
    )
    storage_timeout_s: float = Field(10, gt=0, le=600, description="Limit of one call to the bucket.")
    storage_retry_total_s: float = Field(
        30, ge=0, le=3600, description="Limit of one bucket operation with all of its retries."
    )

    device: str = Field(
        "auto",
        pattern=r"auto|cpu|cuda(:\d+)?",
        description="`auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1`.",
    )
    cpu_threads: int = Field(0, ge=0, le=256, description="torch threads per process on a CPU; 0: torch's choice.")
    mixed_precision: Literal["auto", "no", "bf16", "fp16"] = Field(
        "auto", description="Autocast type on a GPU (`auto`: bf16 where it can); a CPU trains in fp32."
    )
    gradient_checkpointing: bool = Field(
        default=False, description="Saves GPU memory in training, costs about a fifth of speed."
    )
    checkpoint_every_steps: int = Field(100, ge=1, description="Updates between checkpoints of a training.")
    keep_checkpoints: int = Field(1, ge=1, le=100, description="Checkpoints kept of a training.")
    progress_every_s: float = Field(1.0, gt=0, le=60, description="Time between a trainer's progress messages.")
    training_stop_grace_s: float = Field(
        30, ge=0, le=3600, description="Time a trainer gets to write its checkpoint when its service stops."
    )

    def bucket_config(self) -> BucketConfig:
        """The bucket of models, as the child processes get it."""
        return BucketConfig(
            bucket_url=self.bucket_url or (self.data_folder.absolute() / "modelids").as_uri(),
            timeout_s=self.storage_timeout_s,
            retry_total_s=self.storage_retry_total_s,
        )

    def trainer_config(
        self,
        base: Base,
        request: TrainingRequest,
        job_folder: Path,
        *,
        version: str | None = None,
        move_alias: bool = True,
        sampled_steps: tuple[int, ...] = (),
    ) -> TrainerConfig:
        """What the trainer of one job gets; see `TrainerConfig` for the arguments."""
        return TrainerConfig(
            device=self.device,
            base=base,
            store=self.bucket_config(),
            request=request,
            job_folder=job_folder,
            checkpoint_every_steps=self.checkpoint_every_steps,
            keep_checkpoints=self.keep_checkpoints,
            mixed_precision=self.mixed_precision,
            gradient_checkpointing=self.gradient_checkpointing,
            progress_every_s=self.progress_every_s,
            cpu_threads=self.cpu_threads,
            version=version,
            move_alias=move_alias,
            sampled_steps=sampled_steps,
        )
