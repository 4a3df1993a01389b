"""The ways to train that the sweep compares, at any learning rate and number of steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from prompts import class_prompt, instance_prompt
from protocol import PICTURE_SIZE_PX, seed_for

from enlight.dreambooth_api.requests import TrainingRequest
from enlight.models.subjects import subject_named

METHODS: dict[str, dict[str, Any]] = {
    "full": {},
    "lora": {"kind": "lora"},
    "full-prior": {"prior_preservation": True, "num_class_images": 16},
    "full-text-encoder": {"train_text_encoder": True},
    "lora-text-encoder": {"kind": "lora", "train_text_encoder": True},
    "full-text-encoder-prior": {"train_text_encoder": True, "prior_preservation": True, "num_class_images": 8},
}
"""By the names of the base's presets: what they change in a training of the whole U-Net."""


@dataclass(frozen=True)
class TrainingChoice:
    """One point of a sweep."""

    method: str
    learning_rate: float
    steps: int
    lr_scheduler: str = "cosine"
    batch_size: int = 4
    lora_rank: int = 8

    @property
    def name(self) -> str:
        """For people, and as the name of a row."""
        rank = f" r{self.lora_rank}" if self.lora_rank else ""
        return f"{self.method}{rank} {self.learning_rate:g} {self.lr_scheduler} {self.steps}×{self.batch_size}"

    def request(self, subject: str) -> TrainingRequest:
        """The training of this subject; without photos, which the job takes itself."""
        thing = subject_named(subject)
        described: dict[str, Any] = {
            "model_id": "fidelity",
            "base_name": "enlight/pocket",
            "instance_prompt": instance_prompt(thing),
            "photos": (),
            "max_training_steps": self.steps,
            "resolution_px": PICTURE_SIZE_PX,
            "train_batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "lr_scheduler": self.lr_scheduler,
            "lr_warmup_steps": 0,
            "gradient_accumulation_steps": 1,
            "seed": seed_for("training", subject),
            "kind": "full",
            "lora_rank": self.lora_rank,
            "lora_alpha": self.lora_rank,
            "prior_preservation": False,
            "prior_loss_weight": 1.0,
            "class_prompt": "",
            "num_class_images": 0,
            "train_text_encoder": False,
            "max_grad_norm": 1.0,
        }
        described |= METHODS[self.method]
        if described["prior_preservation"]:
            described["class_prompt"] = class_prompt(thing)
        return TrainingRequest(**described)
