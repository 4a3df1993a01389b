"""The worker's life behind the routes: killed, full, without weights; and the service as it is deployed."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from answers import assert_error
from bgrem_samples import (
    base64_of,
    cutouts_of,
    file_of,
    picture_of,
    red_square,
    running_app,
    stand_in_settings,
    worker_process,
)
from flask_openapi import OpenAPI
from waiting import wait_until

from enlight.bgrem.requests import CutoutRequest
from enlight.bgrem.weights import MODELS
from enlight.servicekit.errors import Cancelled
from enlight.servicekit.local_service import LocalService

PICTURE = {"input_image": base64_of(red_square()), "model": "u2netp"}
GUNICORN_CONFIG = Path(__file__).parents[1] / "gunicorn.conf.py"


@contextmanager
def posting(app: OpenAPI, count: int) -> Iterator[list[Any]]:
    """``count`` clients that wait for an answer; their answers are there when the block is left."""
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(app.test_client().post("/remove", json=PICTURE)))
        for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    yield answers
    for thread in threads:
        thread.join(60)


def pending(app: OpenAPI) -> object:
    return app.extensions["enlight"].readiness().details["worker"]["pending"]


def test_a_worker_killed_within_a_request_is_answered_and_replaced(tmp_path: Path) -> None:
    with running_app(stand_in_settings(tmp_path)) as app:
        worker = worker_process()
        worker.suspend()
        with posting(app, 1) as answers:
            assert wait_until(lambda: pending(app) == 1)
            worker.kill()
        assert_error(answers[0], 503, "worker_unavailable")
        assert "Retry-After" in answers[0].headers
        assert wait_until(lambda: app.test_client().post("/remove", json=PICTURE).status_code == 200, 30)
        assert worker_process().pid != worker.pid


def test_no_more_requests_wait_than_the_settings_allow(tmp_path: Path) -> None:
    with running_app(stand_in_settings(tmp_path, max_requests=2)) as app:
        worker = worker_process()
        worker.suspend()
        with posting(app, 2) as answers:
            assert wait_until(lambda: pending(app) == 2)
            started_s = time.monotonic()
            assert_error(app.test_client().post("/remove", json=PICTURE), 503, "queue_full")
            assert time.monotonic() - started_s < 2
            worker.resume()
        assert [answer.status_code for answer in answers] == [200, 200]


def test_weights_that_are_missing_or_wrong_are_named_and_cost_no_worker(tmp_path: Path) -> None:
    settings = stand_in_settings(tmp_path)
    (tmp_path / "silueta.onnx").unlink()
    (tmp_path / "u2net.onnx").write_bytes(b"half a downl")
    with running_app(settings) as app:
        client, pid = app.test_client(), worker_process().pid
        body = assert_error(client.post("/remove", json={**PICTURE, "model": "silueta"}), 503, "weights_unavailable")
        assert "silueta.onnx" in body["message"]
        assert "https://" in body["message"]
        assert body["error"]["details"]["file"] == "silueta.onnx"
        assert str(tmp_path) not in body["message"]
        body = assert_error(client.post("/remove", json={**PICTURE, "model": "u2net"}), 503, "corrupt_model")
        assert "u2net.onnx" in body["message"]
        assert client.post("/remove", json=PICTURE).status_code == 200
        assert worker_process().pid == pid
        models = client.get("/v1/models").json
        assert models is not None
        listed = {model["name"]: model["weights_here"] for model in models["models"]}
        assert listed == {name: name != "silueta" for name in MODELS}


def test_a_request_that_nobody_waits_for_is_left_between_steps(tmp_path: Path) -> None:
    cutouts = cutouts_of(stand_in_settings(tmp_path))
    request = CutoutRequest(file_of(red_square()), "file", "u2netp")
    steps: list[int] = []
    cutouts.cut_out(request, lambda: steps.append(1))
    assert len(steps) >= 3
    for last in range(len(steps)):
        done: list[int] = []

        def check(last: int = last, done: list[int] = done) -> None:
            if len(done) == last:
                raise Cancelled
            done.append(1)

        with pytest.raises(Cancelled):
            cutouts.cut_out(request, check)


def test_the_http_process_imports_neither_networks_nor_what_they_need() -> None:
    code = """
import sys
from enlight.bgrem.app import create_app
heavy = {"onnxruntime", "MNN", "rembg", "pymatting", "numba", "skimage", "torch"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalService]:
    folder = tmp_path_factory.mktemp("deployed")
    settings = stand_in_settings(folder / "weights")
    with LocalService(
        "enlight.bgrem.app:create_app()",
        gunicorn_config=GUNICORN_CONFIG,
        env_prefix="BGREM_",
        settings={
            "WEIGHTS_FOLDER": str(settings.weights_folder),
            "WEIGHTS_SHA256": json.dumps(settings.weights_sha256),
            "CPU_THREADS": "1",
        },
        log=folder / "log",
    ) as service:
        yield service


@pytest.mark.parametrize("route", ["remove", "remove-opacity"])
def test_the_seed_s_example_runs_as_it_is(
    deployed: LocalService, route: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    red_square().save("input.jpg", quality=95)
    example = """
import requests
import json
import base64
from PIL import Image

# encode a image to base64 string
encoded_string = base64.b64encode(open("input.jpg", "rb").read()).decode('utf-8')

url = "http://127.0.0.1:4000/remove"

payload = json.dumps({
    "input_image": encoded_string
})

headers = {
  'Content-Type': 'application/json'
}

response = requests.request("POST", url, headers=headers, data=payload)
returned_string = response.json()['output_image']
# Decode the base64 string
# Decode the base64-encoded image
decoded_image = base64.b64decode(returned_string)
with open("output.jpg", "wb") as fh:
    fh.write(decoded_image)
"""
    example = example.replace("http://127.0.0.1:4000/remove", f"{deployed.url}/{route}")
    subprocess.run([sys.executable, "-W", "ignore", "-c", example], check=True, timeout=60, cwd=tmp_path)
    assert picture_of(Path("output.jpg").read_bytes()).size == (96, 64)


def test_rembg_s_clients_post_to_the_deployed_service(deployed: LocalService) -> None:
    answer = requests.post(
        f"{deployed.url}/api/remove", files={"file": file_of(red_square())}, data={"model": "u2netp"}, timeout=60
    )
    assert answer.headers["Content-Type"] == "image/png"
    assert picture_of(answer.content).mode == "RGBA"


def test_a_body_over_the_limit_is_refused(deployed: LocalService) -> None:
    body = io.BytesIO(b"\0" * (40 * 1024 * 1024 + 1))
    answer = requests.post(f"{deployed.url}/v1/cutout", data=body, headers={"Content-Type": "image/png"}, timeout=60)
    assert answer.status_code == 413


def test_the_worker_goes_with_its_service(tmp_path: Path) -> None:
    settings = stand_in_settings(tmp_path)
    with running_app(settings):
        worker = worker_process()
    assert wait_until(lambda: not worker.is_running() or worker.status() == "zombie")


def test_the_worker_is_stopped_with_work_at_hand(tmp_path: Path) -> None:
    with running_app(stand_in_settings(tmp_path)) as app:
        with posting(app, 4) as answers:
            wait_until(lambda: pending(app) != 0, 2)
            app.extensions["enlight"].stop()
        assert {answer.status_code for answer in answers} <= {200, 503}
