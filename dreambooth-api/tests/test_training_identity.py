from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_base import build_tiny_base
from tiny_training import make_config, make_request, write_photos

from enlight.dreambooth_api.bases import PRESETS_FILE
from enlight.dreambooth_api.requests import SAMPLE_FIELDS, TrainerConfig, TrainingRequest
from enlight.dreambooth_api.training_identity import training_fingerprint


@pytest.fixture
def config(tmp_path: Path) -> TrainerConfig:
    base = build_tiny_base(tmp_path / "base")
    return make_config(tmp_path, base, make_request(write_photos(tmp_path / "photos", 2)))


def test_what_does_not_change_the_weights_does_not_change_the_identity(config: TrainerConfig, tmp_path: Path) -> None:
    # Given the same job in another folder, with other checkpoints and another place of the same photos
    photos = tuple(Path(shutil.copy(photo, tmp_path / f"copy-{photo.name}")) for photo in config.request.photos)
    other = dataclasses.replace(
        config,
        request=dataclasses.replace(config.request, photos=photos),
        job_folder=tmp_path / "elsewhere",
        checkpoint_every_steps=1,
        progress_every_s=0.0,
        gradient_checkpointing=True,
        version="7",
    )
    assert training_fingerprint(other) == training_fingerprint(config)


@pytest.mark.parametrize(
    "field",
    [
        field.name
        for field in dataclasses.fields(TrainingRequest)
        if field.name not in ("photos", "preset", *SAMPLE_FIELDS)
    ],
)
def test_every_parameter_of_the_request_counts(config: TrainerConfig, field: str) -> None:
    value = getattr(config.request, field)
    changed = not value if isinstance(value, bool) else value + ("x" if isinstance(value, str) else 1)
    changes: dict[str, Any] = {field: changed}
    other = dataclasses.replace(config, request=dataclasses.replace(config.request, **changes))
    assert training_fingerprint(other) != training_fingerprint(config)


def test_neither_the_preset_s_name_nor_the_file_of_presets_counts(config: TrainerConfig) -> None:
    # The values of a preset are parameters of the request, and those count; names and descriptions train nothing
    before = training_fingerprint(config)
    named = dataclasses.replace(config, request=dataclasses.replace(config.request, preset="lora"))
    assert training_fingerprint(named) == before
    (config.base.folder / PRESETS_FILE).write_text("{}")
    assert training_fingerprint(config) == before


def _change_a_photo(config: TrainerConfig) -> TrainerConfig:
    photo = config.request.photos[0]
    photo.write_bytes(photo.read_bytes() + b"x")
    return config


def _swap_photos(config: TrainerConfig) -> TrainerConfig:
    swapped = config.request.photos[::-1]
    return dataclasses.replace(config, request=dataclasses.replace(config.request, photos=swapped))


def _train_the_base_again(config: TrainerConfig) -> TrainerConfig:
    build_tiny_base(config.base.folder, seed=1)
    return config


def _change_the_noise_schedule(config: TrainerConfig) -> TrainerConfig:
    build_tiny_base(config.base.folder, prediction_type="v_prediction")
    return config


def _take_another_revision(config: TrainerConfig) -> TrainerConfig:
    return dataclasses.replace(config, base=dataclasses.replace(config.base, revision="1" * 40))


def _train_in_fp16(config: TrainerConfig) -> TrainerConfig:
    return dataclasses.replace(config, mixed_precision="fp16")


@pytest.mark.parametrize(
    "change",
    [
        _change_a_photo,
        _swap_photos,
        _train_the_base_again,
        _change_the_noise_schedule,
        _take_another_revision,
        _train_in_fp16,
    ],
)
def test_photos_base_and_precision_count(
    config: TrainerConfig, change: Callable[[TrainerConfig], TrainerConfig]
) -> None:
    before = training_fingerprint(config)
    assert training_fingerprint(change(config)) != before
