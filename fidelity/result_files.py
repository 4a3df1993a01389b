"""Finished jobs on disk: JSON and a strip of the pictures, under a name that tells everything they depend on."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from protocol import PICTURE_SIZE_PX
from subject_jobs import Job, JobResult

from enlight.dreambooth_api.requests import Base
from enlight.models.glyphs import FONT_PATH
from enlight.servicekit import atomic_files

_MEASURING_SCRIPTS = (
    *("protocol.py", "renders.py", "prompts.py", "instance_photos.py", "gallery.py"),
    *("personalised_model.py", "picture_measures.py", "subject_jobs.py"),
)
"""The others of this folder ask for results and show them, but do not make them."""
_COMPUTING_MODULES = (
    *(f"enlight.dreambooth_api.{name}" for name in ("trainer", "training_setup", "training_data", "pipelines", "lora")),
    *(f"enlight.dreambooth_api.{name}" for name in ("lr_schedules", "model_files", "fine_tune", "weight_buffers")),
    *(f"enlight.dreambooth_api.{name}" for name in ("photos", "centre_square", "resident_bases")),
    *(f"enlight.models.{name}" for name in ("backgrounds", "compose", "demo_photos", "drawing", "glyphs", "held_out")),
    *(f"enlight.models.{name}" for name in ("indoor_scenes", "judge", "land_scenes", "sky_and_sea_scenes", "subjects")),
)
_COMPUTING_PACKAGES = ("enlight.dreambooth_api.pure",)


def digest_of_everything(base: Base, judge_folder: Path, device_type: str) -> str:
    """SHA-256 of what all jobs depend on: weights of base and judge, code that computes, font, torch, device type."""
    paths = [Path(__file__).with_name(name) for name in _MEASURING_SCRIPTS]
    paths += [FONT_PATH, *_source_files()]
    described = (torch.__version__, device_type, base.name, base.default_steps, digest_of_weights(base, judge_folder))
    return _digest(paths, "\0".join(map(str, described)))


def digest_of_weights(base: Base, judge_folder: Path) -> str:
    """SHA-256 of names, sizes and bytes of the files of base and judge."""
    return _digest([*_weights_files(base.folder), *_weights_files(judge_folder)], "")


def _digest(paths: Sequence[Path], described: str) -> str:
    digest = hashlib.sha256(described.encode())
    for path in sorted(paths):
        digest.update(f"{path.parent.name}/{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _weights_files(folder: Path) -> list[Path]:
    names = {"training_presets.json"}  # a preset's values are in each job's own request
    suffixes = (".json", ".safetensors", ".txt")
    return [path for path in folder.rglob("*") if path.suffix in suffixes and path.name not in names]


def _source_files() -> list[Path]:
    files = []
    for name in _COMPUTING_MODULES:
        spec = importlib.util.find_spec(name)
        assert spec is not None, name
        assert spec.origin is not None, name
        files.append(Path(spec.origin))
    for name in _COMPUTING_PACKAGES:
        spec = importlib.util.find_spec(name)
        assert spec is not None, name
        for place in spec.submodule_search_locations or ():
            files += Path(place).glob("*.py")
    return [*files, *(path.with_suffix(".csv") for path in files if path.name == "subjects.py")]


class ResultFiles:
    """The results in one folder.

    Args:
        folder: Made when it is not there.
        digest: Of everything that all jobs depend on.
    """

    def __init__(self, folder: Path, digest: str) -> None:
        self._folder = folder
        self._digest = digest
        folder.mkdir(parents=True, exist_ok=True)

    def forget(self) -> None:
        """Removes every result."""
        shutil.rmtree(self._folder)
        self._folder.mkdir(parents=True)

    def key(self, job: Job) -> str:
        """Tells this job from any other one, on other weights or by other code too."""
        request = job.request
        described = {
            "everything": self._digest,
            "subject": job.subject,
            "request": None if request is None else request.identifying(),
            "asked": [asdict(picture) for picture in (*job.asked, *job.prior)],
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]

    def load(self, job: Job) -> dict[str, Any] | None:
        """What was measured; None when the job has not been done yet."""
        path = self._path(job, ".json")
        if not path.is_file():
            return None
        measured: dict[str, Any] = json.loads(path.read_bytes())
        # Two rows with the same numbers are one job, such as a preset and the name that recommends it.
        return measured | {"row": job.row}

    def pictures(self, job: Job) -> tuple[np.ndarray, np.ndarray]:
        """Photos and pictures of a finished job, each (B, H, W, 3) uint8."""
        with Image.open(self._path(job, ".png")) as file:
            strip = np.asarray(file.convert("RGB"))
        side = PICTURE_SIZE_PX
        tiles = strip.reshape(side, -1, side, 3).transpose(1, 0, 2, 3)
        photos = len(tiles) - len(job.asked) - len(job.prior)
        return tiles[:photos], tiles[photos:]

    def save(self, job: Job, result: JobResult) -> None:
        """Keeps a result; the JSON, which says that it is there, comes last."""
        tiles = np.concatenate([result.photos, result.pictures])
        strip = tiles.transpose(1, 0, 2, 3).reshape(PICTURE_SIZE_PX, -1, 3)
        Image.fromarray(strip).save(self._path(job, ".png"))
        atomic_files.write_json(self._path(job, ".json"), result.measured)

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """The jobs that have not been done yet."""
        return [job for job in jobs if self.load(job) is None]

    def _path(self, job: Job, suffix: str) -> Path:
        return self._folder / (self.key(job) + suffix)
