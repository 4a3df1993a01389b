"""What a job leaves on its way out: the trained model until it is published, the outcome once it is."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from enlight.dreambooth_api.model_files import save_model_files
from enlight.dreambooth_api.requests import TrainerConfig, TrainingOutcome
from enlight.dreambooth_api.sealed_folders import BrokenSealError, check_seal, sealed_folder
from enlight.servicekit import atomic_files

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRecord:
    """How the training of a finished model went."""

    version: str
    """Version to publish it as: chosen once, so that a second try cannot publish a second version."""
    steps: int
    resumed_from_step: int
    final_loss: float
    train_s: float


class TrainingResults:
    """``finished/`` and ``published.json`` of a job's work folder.

    Args:
        folder: The work folder.
        fingerprint: Identity of the job; what another one left is not used.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._finished = folder / "finished"
        self._published = folder / "published.json"
        self._fingerprint = fingerprint

    @property
    def model_folder(self) -> Path:
        """The files of the finished model."""
        return self._finished / "model"

    def save_finished(
        self, parameters: Mapping[str, torch.Tensor], config: TrainerConfig, record: TrainingRecord
    ) -> None:
        """Write the trained model and its record, whole or not at all.

        Raises:
            JobFailed: the model is of no use.
            OSError: there is no room.
        """
        with sealed_folder(self._finished) as folder:
            model_folder = folder / self.model_folder.name
            model_folder.mkdir()
            save_model_files(parameters, config.request, config.base.folder, model_folder)
            described = dataclasses.asdict(record) | {"fingerprint": self._fingerprint}
            (folder / "record.json").write_text(json.dumps(described))

    def load_finished(self) -> TrainingRecord | None:
        """The record of a finished model that waits to be published; None, and nothing there, without one."""
        if not self._finished.exists():
            return None
        try:
            check_seal(self._finished)
            described: dict[str, Any] = json.loads((self._finished / "record.json").read_bytes())
            if described.pop("fingerprint") != self._fingerprint:
                raise ValueError("it belongs to another job")
            return TrainingRecord(**described)
        except (BrokenSealError, OSError, ValueError, KeyError, TypeError) as error:
            _log.warning("the finished model is not used: %s", error)
            shutil.rmtree(self._finished, ignore_errors=True)
            return None

    def save_published(self, outcome: TrainingOutcome) -> None:
        """Note that the model is in the bucket."""
        atomic_files.write_json(
            self._published, {"fingerprint": self._fingerprint, "outcome": dataclasses.asdict(outcome)}
        )

    def load_published(self) -> TrainingOutcome | None:
        """What ``save_published`` noted; None without it."""
        try:
            described = json.loads(self._published.read_bytes())
            if described["fingerprint"] != self._fingerprint:
                return None
            return TrainingOutcome(**described["outcome"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def remove_finished(self) -> None:
        """Give the room back."""
        shutil.rmtree(self._finished, ignore_errors=True)
