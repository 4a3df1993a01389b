"""The service over HTTP: the seed's example, every refusal, a worker that dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import psutil
import pytest
import realesrgan_stand_ins as stand_ins
import requests
from answers import assert_error
from flask_openapi import OpenAPI
from metric_samples import sample
from realesrgan_pictures import photo, png, read
from waiting import wait_until
from werkzeug.test import TestResponse

from enlight.realesrgan.app import create_app
from enlight.realesrgan.settings import Settings
from enlight.servicekit.images import to_base64
from enlight.servicekit.local_service import LocalService

ROOT = Path(__file__).resolve().parents[2]
SMALL = to_base64(png(photo(24, 32)))

# As the document that this project starts from has it, to the letter.
SEED_EXAMPLE = """
import requests
import base64

url = "http://127.0.0.1:11111"

# find get message
response = requests.get(url)
print(response.json())

# input string
input_image_string = base64.b64encode(open("original.png", "rb")\\
                           .read())\\
                           .decode("utf-8")
url = "http://127.0.0.1:11111/upsampler"
model_name = "RealESRGAN_x4plus"
out_resolution = 4096
response = requests.post(url, json={"input_string": input_image_string,
                                    "model_name": model_name,
                                    "out_resolution": out_resolution})
status = response.json()["status"]
print(status)
if status == "true":
  output_image_string = response.json()["image"]
  with open("upsample.png", "wb") as f:
      f.write(base64.b64decode(output_image_string))
"""


def settings(folder: Path, **changes: Any) -> Settings:
    return Settings(
        device="cpu",
        cpu_threads=1,
        weights_folder=folder / "weights",
        weights_sha256=stand_ins.weights_folder(folder / "weights"),
        **changes,
    )


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAPI]:
    made = create_app(settings(tmp_path_factory.mktemp("service")))
    yield made
    made.extensions["enlight"].stop()


def ask(app: OpenAPI, **body: object) -> TestResponse:
    return app.test_client().post("/upsampler", json={"input_string": SMALL, **body})


def send(app: OpenAPI, query: str = "", data: bytes | None = None, content_type: str = "image/png") -> TestResponse:
    data = png(photo(24, 32)) if data is None else data
    return app.test_client().post(f"/v1/upscale?{query}", data=data, content_type=content_type)


def worker_of(pid: int) -> psutil.Process:
    (worker,) = (
        child
        for child in psutil.Process(pid).children(recursive=True)
        if "enlight.realesrgan.worker:main" in child.cmdline()
    )
    return worker


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalService]:
    folder = tmp_path_factory.mktemp("served")
    chosen = settings(folder)
    service = LocalService(
        "enlight.realesrgan.app:create_app()",
        gunicorn_config=ROOT / "realesrgan" / "gunicorn.conf.py",
        env_prefix="REALESRGAN_",
        settings={
            "DEVICE": "cpu",
            "CPU_THREADS": "1",
            "WEIGHTS_FOLDER": str(chosen.weights_folder),
            "WEIGHTS_SHA256": json.dumps(chosen.weights_sha256),
        },
        log=folder / "log",
    )
    service.start()
    yield service
    assert service.stop() == 0


def test_the_seeds_example_runs_unchanged(served: LocalService, tmp_path: Path) -> None:
    (tmp_path / "original.png").write_bytes(png(photo(48, 64)))
    (tmp_path / "example.py").write_text(SEED_EXAMPLE)
    # Its port belongs to whoever runs the suite: the service stands in its way as a proxy.
    environment = {**os.environ, "http_proxy": served.url, "no_proxy": "", "NO_PROXY": ""}
    run = subprocess.run(
        [sys.executable, "example.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    first, second = run.stdout.splitlines()
    assert "'message': 'realesrgan is running.'" in first
    assert second == "true"
    assert read((tmp_path / "upsample.png").read_bytes()).shape == (3072, 4096, 3)


def test_a_client_that_leaves_frees_the_worker(served: LocalService) -> None:
    slow: dict[str, str | int] = {"model_name": "RealESRGAN_x4plus_anime_6B", "out_resolution": 8192}
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(f"{served.url}/v1/upscale", params=slow, data=png(photo(1200, 1200)), headers=PNG, timeout=3)

    def pending() -> int:
        return int(requests.get(f"{served.url}/ready", timeout=10).json()["details"]["worker"]["pending"])

    assert wait_until(lambda: pending() == 0, 30)
    answer = requests.post(f"{served.url}/v1/upscale", data=png(photo(8, 8)), headers=PNG, timeout=30)
    assert answer.status_code == 200


PNG = {"Content-Type": "image/png"}


def test_a_killed_worker_costs_its_request_and_no_other(served: LocalService) -> None:
    answers: list[requests.Response] = []

    def slow() -> None:
        query: dict[str, str | int] = {"model_name": "RealESRGAN_x4plus_anime_6B", "out_resolution": 8192}
        answers.append(
            requests.post(
                f"{served.url}/v1/upscale", params=query, data=png(photo(1200, 1200)), headers=PNG, timeout=60
            )
        )

    thread = threading.Thread(target=slow)
    thread.start()

    def busy() -> bool:
        return bool(requests.get(f"{served.url}/ready", timeout=10).json()["state"] == "busy")

    assert wait_until(busy, 10)
    time.sleep(0.5)
    worker_of(served.pid).kill()
    thread.join()
    assert answers[0].status_code == 503
    assert answers[0].json()["status"] == "false"
    assert answers[0].json()["error"]["code"] == "worker_unavailable"
    assert int(answers[0].headers["Retry-After"]) > 0

    def works() -> bool:
        return requests.post(f"{served.url}/v1/upscale", data=png(photo(8, 8)), headers=PNG, timeout=60).ok

    assert wait_until(works, 30)


def test_the_seeds_fields_and_answer(app: OpenAPI) -> None:
    response = ask(app)
    assert response.status_code == 200
    body = response.json
    assert body is not None
    assert list(body) == ["status", "image", "message"]
    assert body["status"] == "true"
    assert body["message"] == "1024 x 768 pixels from RealESRGAN_x4plus."
    assert response.headers["X-Passes"] == "3"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"out_resolution": 1023}, "out_resolution"),
        ({"out_resolution": 8193}, "out_resolution"),
        ({"out_resolution": "big"}, "out_resolution"),
        ({"out_resolution": "2048"}, "out_resolution"),
        ({"out_resolution": 2048.5}, "out_resolution"),
        ({"out_resolution": True}, "out_resolution"),
        ({"out_resolution": None}, "out_resolution"),
        ({"out_resolution": 10**30}, "out_resolution"),
        ({"denoise_strength": -0.1}, "denoise_strength"),
        ({"denoise_strength": 1.1}, "denoise_strength"),
        ({"denoise_strength": "0.5"}, "denoise_strength"),
        ({"denoise_strength": 0.5}, "denoise_strength"),
        ({"model_name": "RealESRGAN_x2plus", "denoise_strength": 1}, "denoise_strength"),
        ({"model_name": "RealESRGAN_x8plus"}, "model_name"),
        ({"model_name": "../x4plus"}, "model_name"),
        ({"model_name": 4}, "model_name"),
        ({"face_enhance": "true"}, "face_enhance"),
        ({"face_enhance": 1}, "face_enhance"),
        ({"input_string": 3}, "input_string"),
        ({"tile": 256}, "tile"),
    ],
)
def test_a_wrong_value_is_refused_by_its_name(app: OpenAPI, body: dict[str, object], field: str) -> None:
    answer = assert_error(ask(app, **body), 422, "invalid_field", field)
    assert answer["status"] == "false"


def test_a_missing_picture_is_refused_by_its_name(app: OpenAPI) -> None:
    assert_error(app.test_client().post("/upsampler", json={}), 422, "invalid_field", "input_string")


@pytest.mark.parametrize("token", ["NaN", "Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused(app: OpenAPI, token: str) -> None:
    text = f'{{"input_string": "{SMALL}", "model_name": "realesr-general-x4v3", "denoise_strength": {token}}}'
    response = app.test_client().post("/upsampler", data=text, content_type="application/json")
    assert_error(response, 400, "invalid_request")


@pytest.mark.parametrize(
    ("picture", "status", "code"),
    [
        ("", 400, "invalid_request"),
        ("not base64!", 400, "invalid_request"),
        (f"data:image/png;base64,{SMALL}", 400, "invalid_request"),
        (to_base64(b"GIF89a or so"), 415, "unsupported_image"),
        (to_base64(png(photo(64, 64))[:-200]), 400, "broken_image"),
    ],
)
def test_a_picture_that_is_none_is_refused(app: OpenAPI, picture: str, status: int, code: str) -> None:
    answer = assert_error(ask(app, input_string=picture), status, code)
    assert answer["status"] == "false"
    assert "input_string" in answer["message"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("out_resolution=1023", "out_resolution"),
        ("out_resolution=8193", "out_resolution"),
        ("out_resolution=big", "out_resolution"),
        ("out_resolution=2_048", "out_resolution"),
        ("out_resolution=%D9%A2%D9%A0%D9%A4%D9%A8", "out_resolution"),
        ("out_resolution=", "out_resolution"),
        ("out_resolution=2048&out_resolution=4096", "out_resolution"),
        ("denoise_strength=-0.1&model_name=realesr-general-x4v3", "denoise_strength"),
        ("denoise_strength=1.1&model_name=realesr-general-x4v3", "denoise_strength"),
        ("denoise_strength=nan&model_name=realesr-general-x4v3", "denoise_strength"),
        ("denoise_strength=inf&model_name=realesr-general-x4v3", "denoise_strength"),
        ("denoise_strength=0.5", "denoise_strength"),
        ("model_name=x", "model_name"),
        ("face_enhance=maybe", "face_enhance"),
        ("face_enhance=2", "face_enhance"),
        ("format=gif", "format"),
        ("quality=0&format=jpeg", "quality"),
        ("quality=101&format=jpeg", "quality"),
        ("quality=50", "quality"),
        ("scale=4", "scale"),
    ],
)
def test_a_wrong_parameter_is_refused_by_its_name(app: OpenAPI, query: str, field: str) -> None:
    assert_error(send(app, query), 422, "invalid_field", field)


def test_bytes_go_in_and_out(app: OpenAPI) -> None:
    for name in ("png", "jpeg", "webp"):
        response = send(app, f"format={name}&out_resolution=1100")
        assert response.status_code == 200
        assert response.content_type == f"image/{name}"
        assert read(response.data).shape == (825, 1100, 3)
        assert response.headers["X-Width"] == "1100"


@pytest.mark.parametrize("field", ["file", "image"])
def test_a_form_goes_in(app: OpenAPI, field: str) -> None:
    client = app.test_client()

    def post(**form: object) -> TestResponse:
        return client.post("/v1/upscale", data=form, content_type="multipart/form-data")

    picture = (BytesIO(png(photo(24, 32))), "a.png")
    response = post(**{field: picture, "out_resolution": "1100", "model_name": "realesr-general-x4v3"})
    assert response.status_code == 200
    assert read(response.data).shape == (825, 1100, 3)
    picture = (BytesIO(png(photo(24, 32))), "a.png")
    assert_error(post(**{field: picture, "out_resolution": "big"}), 422, "invalid_field", "out_resolution")
    assert_error(post(out_resolution="1100"), 422, "invalid_field", "file")
    twice = client.post("/v1/upscale?format=png", data={field: (BytesIO(b"x"), "a.png"), "format": "jpeg"})
    assert_error(twice, 422, "invalid_field", "format")


def test_other_bodies_are_refused(app: OpenAPI) -> None:
    assert_error(send(app, content_type="text/plain"), 415, "unsupported_media_type")
    assert_error(send(app, data=b""), 422, "invalid_field", "body")
    assert_error(send(app, data=b"\xff\xd8\xff\xe0 no JPEG"), 400, "broken_image")


def test_denoise_strength_changes_the_picture_of_the_model_that_takes_it(app: OpenAPI) -> None:
    def picture(strength: str) -> bytes:
        return bytes(send(app, f"model_name=realesr-general-x4v3{strength}").data)

    assert picture("&denoise_strength=0.5") == picture("")
    assert len({picture(f"&denoise_strength={strength}") for strength in (0, 0.5, 1)}) == 3


def test_a_model_without_weights_says_which_file_goes_where(app: OpenAPI) -> None:
    body = assert_error(ask(app, model_name="RealESRNet_x4plus"), 503, "weights_unavailable")
    assert body["status"] == "false"
    assert body["error"]["details"]["file"] == "RealESRNet_x4plus.pth"
    assert "REALESRGAN_WEIGHTS_FOLDER" in body["message"]
    assert "https://github.com/xinntao/Real-ESRGAN/releases" in body["message"]
    body = assert_error(ask(app, face_enhance=True), 503, "weights_unavailable")
    assert body["error"]["details"]["file"] == "face_detection_yunet_2023mar.onnx"


def test_the_models_say_which_of_them_can_be_used(app: OpenAPI) -> None:
    body = app.test_client().get("/v1/models").json
    assert body is not None
    assert body["default"] == "RealESRGAN_x4plus"
    available = {model["name"]: model["weights_here"] for model in body["models"]}
    assert available == {
        "RealESRGAN_x4plus": True,
        "RealESRNet_x4plus": False,
        "RealESRGAN_x4plus_anime_6B": True,
        "RealESRGAN_x2plus": True,
        "realesr-animevideov3": False,
        "realesr-general-x4v3": True,
    }
    missing = next(model for model in body["models"] if model["name"] == "realesr-animevideov3")["files"]
    assert missing == [
        {
            "any_of": ["realesr-animevideov3.safetensors", "realesr-animevideov3.pth"],
            "present": False,
            "source": "run dev-scripts/fetch-weights",
        }
    ]
    assert [file["present"] for file in body["face_enhance"]] == [False, False]


def test_readiness_and_metrics_show_the_worker(app: OpenAPI) -> None:
    send(app)
    client = app.test_client()
    assert wait_until(lambda: "RealESRGAN_x4plus" in worker_state(app)["loaded"])
    assert worker_state(app)["weights"]["RealESRNet_x4plus"] is False
    assert wait_until(lambda: sample(client.get("/metrics").text, "enlight_pictures_total", operation="upscale") >= 1)
    text = client.get("/metrics").text
    for stage in ("queued", "decode", "run", "encode"):
        assert sample(text, "enlight_stage_duration_seconds_sum", operation="upscale", stage=stage) > 0
    assert sample(text, "enlight_out_of_memory_total") == 0
    assert "enlight_gpu_memory_bytes 0.0" in text
    status = client.get("/v1/status").json
    assert status is not None
    assert {"model_id": "RealESRGAN_x4plus", "version": None, "tier": "resident"} in status["models"]
    assert (status["device"], status["memory_kind"]) == ("cpu", "host")


def worker_state(app: OpenAPI) -> dict[str, Any]:
    body = app.test_client().get("/ready").json
    assert body is not None
    return dict(body["details"]["worker"])


def test_a_request_that_takes_too_long_is_answered_and_dropped(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path, request_timeout_s=2))
    slow = png(photo(1200, 1200))
    assert wait_until(lambda: worker_state(app)["state"] == "ready", 60)
    response = send(app, "model_name=RealESRGAN_x4plus_anime_6B&out_resolution=8192", slow)
    body = assert_error(response, 504, "upstream_timeout")
    assert body["status"] == "false"
    assert "2 s" in body["message"]
    assert wait_until(lambda: worker_state(app)["pending"] == 0, 30)
    app.extensions["enlight"].stop()


def test_work_that_takes_longer_than_a_hang_is_no_hang(tmp_path: Path) -> None:
    hang_timeout_s = 5  # a piece of the work takes a second, on a machine with nothing else to do
    app = create_app(settings(tmp_path, worker_hang_timeout_s=hang_timeout_s))
    assert send(app).status_code == 200
    response = send(app, "model_name=RealESRGAN_x4plus_anime_6B&out_resolution=3072", png(photo(768, 768)))
    assert response.status_code == 200
    assert float(response.headers["X-Network-Seconds"]) > hang_timeout_s, "otherwise this shows nothing"
    assert worker_state(app)["restarts"] == 0
    app.extensions["enlight"].stop()


def test_more_requests_than_admitted_are_told_to_come_again(tmp_path: Path) -> None:
    app = create_app(settings(tmp_path, max_requests=1))
    assert send(app).status_code == 200
    slow = threading.Thread(
        target=send, args=(app, "model_name=RealESRGAN_x4plus_anime_6B&out_resolution=1024", png(photo(256, 256)))
    )
    slow.start()
    assert wait_until(lambda: worker_state(app)["pending"] == 1)
    body = assert_error(send(app), 503, "queue_full")
    assert body["status"] == "false"
    slow.join()
    assert send(app).status_code == 200
    app.extensions["enlight"].stop()


def test_the_http_process_never_imports_torch() -> None:
    code = (
        "import sys, enlight.realesrgan.app, enlight.realesrgan.fetch_weights; "
        "bad = {'torch', 'spandrel', 'torchvision', 'onnxruntime'} & set(sys.modules); sys.exit(str(bad) if bad else 0)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
