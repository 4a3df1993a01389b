"""What makes two trainings the same, so that one may go on from the other's checkpoint."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from enlight.dreambooth_api.bases import PRESETS_FILE
from enlight.dreambooth_api.requests import TrainerConfig

_SAMPLES = 64
_SAMPLE_BYTES = 4096


def training_fingerprint(config: TrainerConfig) -> str:
    """SHA-256 over everything that the trained weights depend on: request, photos, base and precision."""
    described = config.request.identifying() | {
        "photos": [hashlib.sha256(photo.read_bytes()).hexdigest() for photo in config.request.photos],
        "base": [config.base.name, config.base.revision, _base_digest(config.base.folder)],
        "class_image_steps": config.base.default_steps,
        "mixed_precision": config.mixed_precision,
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _base_digest(folder: Path) -> str:
    """Tells bases of one name apart without reading gigabytes: small files whole, samples of large ones."""
    digest = hashlib.sha256()
    # Presets are no part of the weights: to edit them must not keep a job from its checkpoint.
    for path in sorted(set(folder.rglob("*")) - {folder / PRESETS_FILE}):
        if path.is_file() and path.suffix in (".safetensors", ".json", ".txt"):
            size = path.stat().st_size
            digest.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
            with path.open("rb") as file:
                if size <= _SAMPLES * _SAMPLE_BYTES:
                    digest.update(file.read())
                    continue
                for sample in range(_SAMPLES):
                    file.seek((size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
                    digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
