from __future__ import annotations

import base64
import io
from pathlib import Path

import pytest
from PIL import Image
from training_samples import catalogue_in, settings_in

from enlight.dreambooth_api.schemas import TrainBody, TrainingBody
from enlight.dreambooth_api.training_requests import TrainingChecker
from enlight.servicekit.errors import BrokenImage, InvalidField, WeightsUnavailable


def photo() -> str:
    file = io.BytesIO()
    Image.new("RGB", (80, 60), "teal").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A machine where the weights of the pocket base are."""
    (tmp_path / "models/pocket").mkdir(parents=True)
    (tmp_path / "models/pocket/model_index.json").touch()
    return tmp_path


def checker(folder: Path, **settings: object) -> TrainingChecker:
    return TrainingChecker(settings_in(folder, **settings), catalogue_in(folder))


def test_the_seed_s_defaults_are_the_defaults(folder: Path) -> None:
    body = TrainBody(INSTANCE_PROMPT="a sks chair", OUTPUT_DIR="chair", IMAGE_LIST=[photo()] * 5)
    request = checker(folder).from_train_body(body).request
    assert (request.max_training_steps, request.train_batch_size, request.learning_rate) == (400, 1, 2e-6)
    assert (request.lr_scheduler, request.lr_warmup_steps) == ("constant", 0)
    assert request.gradient_accumulation_steps == 1
    assert (request.kind, request.prior_preservation, request.train_text_encoder) == ("full", False, False)
    # The one exception: the resolution is the base model's own
    assert request.resolution_px == 64


def test_service_settings_reach_what_the_seed_has_no_field_for(folder: Path) -> None:
    body = TrainBody(INSTANCE_PROMPT="a sks chair", OUTPUT_DIR="chair", IMAGE_LIST=[photo()])
    chosen = {"training_kind": "lora", "lora_rank": 4, "prior_preservation": True, "num_class_images": 7}
    request = checker(folder, **chosen, train_text_encoder=True).from_train_body(body).request
    assert (request.kind, request.lora_rank, request.lora_alpha, request.train_text_encoder) == ("lora", 4, 4, True)
    assert (request.prior_preservation, request.class_prompt, request.num_class_images) == (True, "a chair", 7)


def test_what_the_body_says_wins_over_the_settings(folder: Path) -> None:
    body = TrainingBody(
        model_id="chair",
        instance_prompt="a sks chair",
        photos=[photo()],
        kind="full",
        prior_preservation=False,
        seed=0,
        train_text_encoder=False,
    )
    service = checker(folder, training_kind="lora", prior_preservation=True, training_seed=5, train_text_encoder=True)
    request = service.from_training_body(body).request
    assert (request.kind, request.prior_preservation, request.seed, request.train_text_encoder) == (
        "full",
        False,
        0,
        False,
    )
    assert (request.class_prompt, request.num_class_images) == ("", 0)


def test_prior_preservation_without_a_class_is_refused(folder: Path) -> None:
    body = TrainingBody(model_id="x", instance_prompt="sks", photos=[photo()], prior_preservation=True)
    with pytest.raises(InvalidField, match="class_prompt"):
        checker(folder).from_training_body(body)


def test_the_broken_photo_is_named_by_its_place(folder: Path) -> None:
    half = base64.b64encode(base64.b64decode(photo())[:60]).decode()
    body = TrainingBody(model_id="x", instance_prompt="sks", photos=[photo(), half])
    with pytest.raises(BrokenImage, match=r"photos\[1\]"):
        checker(folder).from_training_body(body)


@pytest.mark.parametrize(("count", "warned"), [(1, True), (2, True), (3, False), (20, False)])
def test_few_photos_are_worth_a_warning(folder: Path, count: int, warned: bool) -> None:
    body = TrainingBody(model_id="x", instance_prompt="a sks chair", photos=[photo()] * count)
    found = checker(folder).from_training_body(body).warnings
    assert ("too_few" in [warning.code for warning in found]) is warned


def test_missing_weights_are_known_before_any_photo_is_decoded(tmp_path: Path) -> None:
    body = TrainingBody(model_id="x", instance_prompt="a sks chair", photos=["not even base64"])
    with pytest.raises(WeightsUnavailable):
        checker(tmp_path).from_training_body(body)
