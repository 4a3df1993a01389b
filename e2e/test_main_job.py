"""Photos in, a model of the subject, pictures out."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import requests
from clients import (
    PHOTOS,
    POCKET,
    eventually,
    generation_body,
    get,
    pixels,
    post,
    running_service,
    train_body,
    training_body,
    trainings,
)
from metric_samples import metrics_text, sample
from odd_pictures import saved
from PIL import Image, ImageOps

from enlight.servicekit.local_service import LocalService


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("main-job")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[LocalService]:
    with running_service(folder) as service:
        yield service


@pytest.fixture(scope="module")
def model_id(service: LocalService) -> str:
    answer = post(service, "/train", train_body(OUTPUT_DIR="shared"))
    assert answer.status_code == 200, answer.text
    return "shared"


def test_train_answers_when_the_model_is_in_the_bucket_and_the_local_copy_is_gone(
    service: LocalService, folder: Path
) -> None:
    # When a model is trained by the seed's example
    answer = post(service, "/train", train_body(OUTPUT_DIR="Alex-Model-Fun"))
    # Then the answer is the contract's
    assert (answer.status_code, answer.json()) == (
        200,
        {"message": "Training is done.", "model_id": "Alex-Model-Fun"},
    )
    # And the bucket holds a current version with a manifest of every file, and nothing is left of the job
    model = folder / "data/modelids/Alex-Model-Fun"
    version = json.loads((model / "current").read_text())
    version = version["version"] if isinstance(version, dict) else version
    manifest = json.loads((model / version / "manifest.json").read_text())
    assert manifest["base_name"] == POCKET
    assert "unet/diffusion_pytorch_model.safetensors" in manifest["files"]
    assert list((folder / "data/jobs").iterdir()) == []


def test_inference_gives_pictures_of_the_native_size(service: LocalService, model_id: str) -> None:
    answer = post(service, "/inference", {"prompt": "a sks toy on the beach", "model_id": model_id, "num_image": 3})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"message", "images"}
    assert body["message"] == "Inference is done."
    assert [pixels(image).shape for image in body["images"]] == [(64, 64, 3)] * 3
    assert not np.array_equal(pixels(body["images"][0]), pixels(body["images"][1]))


def test_ten_pictures_is_the_default(service: LocalService, model_id: str) -> None:
    answer = post(service, "/inference", {"prompt": "a sks toy", "model_id": model_id, "size": 32})
    assert [pixels(image).shape for image in answer.json()["images"]] == [(32, 32, 3)] * 10


def test_the_same_seed_gives_the_same_pictures_and_the_answer_says_what_ran(
    service: LocalService, model_id: str
) -> None:
    body = generation_body(model_id=model_id, num_images=2, width=64, height=32)
    first, second = (post(service, "/v1/generations", body).json() for _ in range(2))
    assert first["images"] == second["images"]
    # Image i uses seed + i
    shifted = post(service, "/v1/generations", body | {"seed": 4, "num_images": 1}).json()
    difference = np.abs(pixels(shifted["images"][0]).astype(int) - pixels(first["images"][1])).max()
    assert difference <= 1
    assert pixels(first["images"][0]).shape == (32, 64, 3)
    told = {
        key: first[key] for key in ("seed", "num_inference_steps", "guidance_scale", "width", "height", "base_model")
    }
    assert told == {
        "seed": 3,
        "num_inference_steps": 4,
        "guidance_scale": 7.5,
        "width": 64,
        "height": 32,
        "base_model": POCKET,
    }
    assert first["model_version"]


def test_training_changes_the_pictures_and_only_for_its_own_model(service: LocalService, model_id: str) -> None:
    base = generation_body(num_images=1)
    before = post(service, "/v1/generations", base).json()["images"]
    trained = post(service, "/v1/generations", base | {"model_id": model_id}).json()["images"]
    again = post(service, "/v1/generations", base).json()["images"]
    assert before == again
    assert before != trained


def test_requests_that_arrive_together_are_batched(service: LocalService, model_id: str) -> None:
    body = generation_body(model_id=model_id, num_inference_steps=25)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda seed: post(service, "/v1/generations", body | {"seed": seed}).json(), range(4)))
    assert max(answer["batch_images"] for answer in answers) > 1
    alone = post(service, "/v1/generations", body | {"seed": 2}).json()
    assert np.abs(pixels(alone["images"][0]).astype(int) - pixels(answers[2]["images"][0])).max() <= 1


def test_a_trained_model_paints_over_a_picture(service: LocalService, model_id: str) -> None:
    # Given a picture of an odd size, and a body that asks for neither size nor strength
    picture = Image.fromarray(pixels(PHOTOS[0])).resize((150, 100))
    body = generation_body(model_id=model_id, image=saved(picture, "PNG"))
    # When little and all of it is painted over
    little, much = (post(service, "/v1/generations", body | {"strength": strength}).json() for strength in (0.25, 1.0))
    told = post(service, "/v1/generations", body).json()
    # Then it is brought to a size that the base makes, and less of it stays the larger the strength is
    assert {(answer["width"], answer["height"]) for answer in (little, much, told)} == {(128, 88)}
    assert [answer["strength"] for answer in (little, much, told)] == [0.25, 1.0, 0.8]
    assert told["num_inference_steps"] == 4
    begun = np.asarray(ImageOps.fit(picture, (128, 88), Image.Resampling.LANCZOS)).astype(int)
    changed = [np.abs(pixels(answer["images"][0]) - begun).mean() for answer in (little, much)]
    assert changed[0] < changed[1]


def test_only_what_is_masked_is_painted(service: LocalService, model_id: str) -> None:
    # Given a picture of the size that is made, and a mask of its left half
    picture = Image.fromarray(pixels(PHOTOS[0])).resize((64, 64))
    mask = Image.new("1", (64, 64))
    mask.paste(1, (0, 0, 32, 64))
    body = generation_body(model_id=model_id, image=saved(picture, "PNG"), mask=saved(mask, "PNG"))
    # When it is painted
    answer = post(service, "/v1/generations", body | {"num_images": 2}).json()
    first, second = (pixels(image) for image in answer["images"])
    # Then the right half is the picture's own, and the left half another one with each seed
    assert answer["strength"] == 1.0
    assert np.array_equal(first[:, 32:], np.asarray(picture)[:, 32:])
    assert np.array_equal(second[:, 32:], first[:, 32:])
    assert not np.array_equal(second[:, :32], first[:, :32])


@pytest.mark.parametrize(("image_format", "magic"), [("png", "iVBOR"), ("jpeg", "/9j/"), ("webp", "UklGR")])
def test_formats(service: LocalService, image_format: str, magic: str) -> None:
    answer = post(service, "/v1/generations", generation_body(format=image_format)).json()
    assert answer["images"][0].startswith(magic)


def test_a_started_training_is_followed_by_its_events_to_the_end(service: LocalService) -> None:
    # Given a training accepted with 202
    accepted = post(service, "/v1/trainings", training_body(model_id="followed", kind="lora", lora_rank=2))
    assert accepted.status_code == 202, accepted.text
    location = accepted.headers["Location"]
    # When its events are read to the end
    stream = requests.get(f"{service.url}{location}/events", stream=True, timeout=120)
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    events = [json.loads(line[5:]) for line in stream.iter_lines() if line.startswith(b"data:")]
    # Then they tell the whole story
    assert [event["state"] for event in events if "state" in event] == ["queued", "running", "succeeded"]
    steps = [event["step"] for event in events if event.get("phase") == "training"]
    assert steps == sorted(steps)
    assert steps[-1] == 4
    shown = get(service, location).json()
    assert shown["state"] == "succeeded"
    assert shown["model_version"]
    assert shown["parameters"]["kind"] == "lora"
    # And the LoRA generates
    answer = post(service, "/v1/generations", generation_body(model_id="followed"))
    assert answer.status_code == 200, answer.text


def test_training_again_makes_a_new_version_and_moves_the_alias(service: LocalService) -> None:
    versions = []
    for seed in (0, 1):
        started = post(service, "/v1/trainings", training_body(model_id="again", seed=seed)).json()
        get(service, f"/v1/trainings/{started['id']}/events")
        versions.append(get(service, f"/v1/trainings/{started['id']}").json()["model_version"])
    assert versions[0] != versions[1]
    time.sleep(5.1)  # the alias is believed for five seconds
    assert post(service, "/v1/generations", generation_body(model_id="again")).json()["model_version"] == versions[1]


def test_cancel_ends_a_training_and_publishes_nothing(service: LocalService, folder: Path) -> None:
    started = post(service, "/v1/trainings", training_body(model_id="cancelled", max_training_steps=100_000)).json()
    stream = requests.get(f"{service.url}/v1/trainings/{started['id']}/events", stream=True, timeout=120)
    cancelled = False
    for line in stream.iter_lines(chunk_size=1):
        if b'"phase": "training"' in line and not cancelled:
            cancelled = True
            assert post(service, f"/v1/trainings/{started['id']}/cancel", {}).status_code == 202
    assert get(service, f"/v1/trainings/{started['id']}").json()["state"] == "cancelled"
    assert not (folder / "data/modelids/cancelled").exists()


def test_generations_are_served_while_a_training_runs(service: LocalService) -> None:
    started = post(service, "/v1/trainings", training_body(model_id="busy", max_training_steps=100_000)).json()
    try:
        answer = post(service, "/v1/generations", generation_body())
        assert answer.status_code == 200, answer.text
        assert trainings(service)[0]["state"] == "running"
    finally:
        post(service, f"/v1/trainings/{started['id']}/cancel", {})


def test_few_photos_are_accepted_with_a_warning(service: LocalService) -> None:
    body = train_body(OUTPUT_DIR="few", MAX_TRAINING_STEPS=1)
    body["IMAGE_LIST"] = body["IMAGE_LIST"][:1]
    answer = post(service, "/train", body)
    assert answer.status_code == 200, answer.text
    assert "1 photo" in answer.json()["warnings"][0]


def test_the_root_the_health_routes_the_metrics_and_the_documents(service: LocalService) -> None:
    root = get(service, "/").json()
    assert root["service"] == "dreambooth-api"
    assert get(service, "/live").status_code == 200
    ready = get(service, "/ready").json()
    assert ready["state"] in ("ready", "busy")
    assert "/train" in get(service, "/openapi.json").json()["paths"]
    assert "text/html" in get(service, "/docs").headers["Content-Type"]
    assert sample(metrics_text(service.url), "enlight_trainings_running") == 0
    assert post(service, "/v1/generations", generation_body()).status_code == 200
    eventually(
        lambda: sample(metrics_text(service.url), "enlight_pictures_total", operation="generation") > 0,
        "what the engine tells of itself",
        timeout_s=30,
    )


def test_the_http_side_never_imports_torch() -> None:
    code = (
        "import sys, enlight.dreambooth_api.app, enlight.dreambooth_api.fetch_base\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'google.cloud.storage'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
