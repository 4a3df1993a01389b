from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_base import build_tiny_base
from tiny_training import make_config, make_request

from enlight.dreambooth_api.requests import TrainerConfig, TrainingOutcome
from enlight.dreambooth_api.training_results import TrainingRecord, TrainingResults
from enlight.servicekit.errors import JobFailed

RECORD = TrainingRecord(version="v1", steps=3, resumed_from_step=0, final_loss=0.5, train_s=1.5)
OUTCOME = TrainingOutcome(
    model_id="tiny",
    version="v1",
    steps=3,
    resumed_from_step=0,
    final_loss=0.5,
    train_s=1.5,
    total_s=2.5,
    peak_memory_bytes=1000,
    size_bytes=200,
    parameters={"seed": 7},
)
WEIGHTS = {"unet.conv_in.bias": torch.ones(16)}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> TrainerConfig:
    folder = tmp_path_factory.mktemp("folder")
    return make_config(folder, build_tiny_base(folder / "base"), make_request(()))


def test_a_finished_model_waits_for_its_publication(config: TrainerConfig, tmp_path: Path) -> None:
    # Given a finished model
    TrainingResults(tmp_path, "job").save_finished(WEIGHTS, config, RECORD)

    # When another process looks
    results = TrainingResults(tmp_path, "job")

    # Then its record and its files are there
    assert results.load_finished() == RECORD
    assert (results.model_folder / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    results.remove_finished()
    assert results.load_finished() is None


def test_the_finished_model_of_another_job_is_removed(config: TrainerConfig, tmp_path: Path) -> None:
    TrainingResults(tmp_path, "another job").save_finished(WEIGHTS, config, RECORD)
    assert TrainingResults(tmp_path, "job").load_finished() is None
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_finished_model_is_removed(config: TrainerConfig, tmp_path: Path) -> None:
    results = TrainingResults(tmp_path, "job")
    results.save_finished(WEIGHTS, config, RECORD)
    path = results.model_folder / "unet" / "diffusion_pytorch_model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert results.load_finished() is None
    assert list(tmp_path.iterdir()) == []


def test_a_broken_model_leaves_nothing(config: TrainerConfig, tmp_path: Path) -> None:
    results = TrainingResults(tmp_path, "job")
    with pytest.raises(JobFailed):
        results.save_finished({"unet.conv_in.bias": torch.full((16,), float("nan"))}, config, RECORD)
    assert list(tmp_path.iterdir()) == []


def test_a_publication_is_noted(tmp_path: Path) -> None:
    assert TrainingResults(tmp_path, "job").load_published() is None
    TrainingResults(tmp_path, "job").save_published(OUTCOME)
    assert TrainingResults(tmp_path, "job").load_published() == OUTCOME
    assert TrainingResults(tmp_path, "another job").load_published() is None


def test_a_damaged_note_is_none(tmp_path: Path) -> None:
    TrainingResults(tmp_path, "job").save_published(OUTCOME)
    (tmp_path / "published.json").write_bytes(b"{}")
    assert TrainingResults(tmp_path, "job").load_published() is None
