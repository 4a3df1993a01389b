"""The service over HTTP: the seed's example, every refusal by its field, and what happens when the worker dies."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from answers import assert_error
from upsampler_service import TinyService, as_base64, decoded, photo, tiny_settings
from waiting import wait_until

from enlight.servicekit.images import encode_jpeg, encode_png
from enlight.servicekit.local_service import LocalService
from enlight.upsampler.weights import MODEL

SERVICE_FOLDER = Path(__file__).resolve().parents[1]
SEED_EXAMPLE = """
import requests
import base64

url = "http://127.0.0.1:4455"

# find get message
response = requests.get(url)
print(response.json())

# input string
input_image_string = base64.b64encode(open("original.png", "rb")\\
                           .read())\\
                           .decode("utf-8")
url = "http://127.0.0.1:4455/upsampler"
resolution = 2048
prompt = "The sofa next to the window"
mblimit = "false"
response = requests.post(url, json={"image": input_image_string,
                                    "prompt": prompt,
                                    "resolution": resolution,
                                    "mblimit": mblimit})
status = response.json()["status"]
if status == "true":
  output_image_string = response.json()["image"]
  # save it as upsample.png
  with open("upsample.png", "wb") as f:
      f.write(base64.b64decode(output_image_string))
"""


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> Iterator[TinyService]:
    service = TinyService(tiny_settings(tiny_folder))
    yield service
    service.stop()


@pytest.fixture(scope="module")
def image() -> str:
    return as_base64(photo(120, 90))


def test_the_seeds_example_runs_unchanged_under_gunicorn(tiny_folder: Path, tmp_path: Path) -> None:
    # Given the service as it is started, on the small model, and a picture
    service = LocalService(
        "enlight.upsampler.app:create_app()",
        gunicorn_config=SERVICE_FOLDER / "gunicorn.conf.py",
        env_prefix="UPSAMPLER_",
        settings={
            "WEIGHTS_FOLDER": str(tiny_folder),
            "DEVICE": "cpu",
            "CPU_THREADS": "1",
            "DEFAULT_STEPS": "1",
        },
        log=tmp_path / "service.log",
    )
    (tmp_path / "original.png").write_bytes(encode_png(photo(320, 240)))

    # When the example is run, on the port that was free
    with service:
        example = SEED_EXAMPLE.replace("127.0.0.1:4455", service.url.removeprefix("http://"))
        done = subprocess.run(
            [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
        )

    # Then it has said who answered, and left the enlarged picture
    assert done.returncode == 0, done.stderr
    assert "'message': 'upsampler is running.'" in done.stdout
    assert "'hostname': " in done.stdout
    assert decoded((tmp_path / "upsample.png").read_bytes()).shape == (1536, 2048, 3)


def test_the_answer_has_the_contracts_fields(tiny: TinyService, image: str) -> None:
    answer = tiny.client.post("/upsampler", json={"image": image, "prompt": "a cat", "resolution": 1024})
    assert answer.status_code == 200, answer.text
    body: Any = answer.json
    assert set(body) == {"status", "image", "message"}
    assert body["status"] == "true"
    data = base64.b64decode(body["image"])
    assert decoded(data).shape == (768, 1024, 3)
    assert body["message"] == f"The picture is a PNG of 1024 x 768 pixels and {len(data):,} bytes."


def test_the_same_request_gives_the_same_picture_at_full_resolution_by_default(tiny: TinyService, image: str) -> None:
    body = {"image": image, "prompt": "a cat", "mblimit": "true"}
    first: Any = tiny.client.post("/upsampler", json=body).json
    second: Any = tiny.client.post("/upsampler", json=body).json
    assert first == second
    # A random network's picture is noise, too large for a PNG of 5 MB
    data = base64.b64decode(first["image"])
    assert decoded(data).shape == (1536, 2048, 3)
    assert data[:3] == b"\xff\xd8\xff"
    assert 4_000_000 < len(data) <= 5_000_000
    assert first["message"].startswith("The picture is a JPEG of 2048 x 1536 pixels")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"resolution": 512}, "resolution"),
        ({"resolution": "2048"}, "resolution"),
        ({"resolution": 2048.0}, "resolution"),
        ({"resolution": True}, "resolution"),
        ({"resolution": None}, "resolution"),
        ({"resolution": [2048]}, "resolution"),
        ({"mblimit": True}, "mblimit"),
        ({"mblimit": "yes"}, "mblimit"),
        ({"mblimit": "True"}, "mblimit"),
        ({"mblimit": None}, "mblimit"),
        ({"prompt": ...}, "prompt"),
        ({"prompt": ""}, "prompt"),
        ({"prompt": " \n"}, "prompt"),
        ({"prompt": "a\0b"}, "prompt"),
        ({"prompt": 3}, "prompt"),
        ({"prompt": ["a"]}, "prompt"),
        ({"prompt": "x" * 2001}, "prompt"),
        ({"prompt": "x" * 100_001}, "prompt"),
        ({"image": ...}, "image"),
        ({"image": 7}, "image"),
        ({"seed": 1}, "seed"),
        ({"Prompt": "a"}, "Prompt"),
    ],
    ids=str,
)
def test_a_wrong_field_is_named(tiny: TinyService, image: str, changes: dict[str, object], field: str) -> None:
    given = {"image": image, "prompt": "a cat", **changes}
    body = {name: value for name, value in given.items() if value is not ...}
    answer = assert_error(tiny.client.post("/upsampler", json=body), 422, "invalid_field", field)
    assert answer["status"] == "false"


@pytest.mark.parametrize(
    ("image", "status", "code"),
    [
        ("", 400, "invalid_request"),
        ("data:image/png;base64,AAAA", 400, "invalid_request"),
        ("not base64!", 400, "invalid_request"),
        (base64.b64encode(b"GIF89a").decode(), 415, "unsupported_image"),
        (base64.b64encode(encode_png(photo(64, 64))[:900]).decode(), 400, "broken_image"),
    ],
)
def test_a_wrong_picture_is_the_clients_error(tiny: TinyService, image: str, status: int, code: str) -> None:
    answer = tiny.client.post("/upsampler", json={"image": image, "prompt": "a cat"})
    assert assert_error(answer, status, code)["status"] == "false"
    assert "image" in answer.text


def test_half_a_surrogate_pair_and_no_json_are_refused(tiny: TinyService) -> None:
    for data in (b'{"image": "AAAA", "prompt": "\\ud800"}', b"{", b"[]"):
        answer = tiny.client.post("/upsampler", data=data, content_type="application/json")
        assert answer.status_code in (400, 422)


def test_bytes_in_and_bytes_out(tiny: TinyService) -> None:
    answer = tiny.client.post(
        "/v1/upscale?resolution=1024&num_inference_steps=1&guidance_scale=0&seed=7&format=jpeg&noise_level=0",
        data=encode_jpeg(photo(120, 90)),
        content_type="image/jpeg",
    )
    assert (answer.status_code, answer.mimetype) == (200, "image/jpeg"), answer.text
    assert decoded(answer.data).shape == (768, 1024, 3)
    assert (answer.headers["X-Seed"], answer.headers["X-Steps"]) == ("7", "1")
    assert float(answer.headers["X-Run-Seconds"]) > 0


@pytest.mark.parametrize("field", ["image", "file"])
def test_a_form_with_its_parameters_beside_the_file(tiny: TinyService, tmp_path: Path, field: str) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(encode_png(photo(90, 120)))
    with path.open("rb") as file:
        answer = tiny.client.post(
            "/v1/upscale?seed=3",
            data={field: file, "resolution": "1024", "num_inference_steps": "1", "prompt": "a cat", "format": "webp"},
        )
    assert (answer.status_code, answer.mimetype) == (200, "image/webp"), answer.text
    assert answer.headers["X-Seed"] == "3"
    assert decoded(answer.data).shape == (1024, 768, 3)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("resolution=512", "resolution"),
        ("resolution=2048.0", "resolution"),
        ("resolution=2_048", "resolution"),
        ("resolution=%D9%A2%D9%A0%D9%A4%D9%A8", "resolution"),
        ("seed=-1", "seed"),
        ("seed=9223372036854775808", "seed"),
        ("seed=1e3", "seed"),
        ("num_inference_steps=0", "num_inference_steps"),
        ("num_inference_steps=251", "num_inference_steps"),
        ("num_inference_steps=", "num_inference_steps"),
        ("guidance_scale=nan", "guidance_scale"),
        ("guidance_scale=inf", "guidance_scale"),
        ("guidance_scale=-0.1", "guidance_scale"),
        ("guidance_scale=51", "guidance_scale"),
        ("noise_level=-1", "noise_level"),
        ("noise_level=351", "noise_level"),
        ("noise_level=20.5", "noise_level"),
        ("format=gif", "format"),
        ("prompt=%00", "prompt"),
        ("negative_prompt=" + "x" * 2001, "negative_prompt"),
        ("mblimit=true", "mblimit"),
        ("seed=1&seed=2", "seed"),
    ],
)
def test_a_wrong_parameter_is_named(tiny: TinyService, query: str, field: str) -> None:
    data = encode_png(photo(64, 64))
    in_query = tiny.client.post(f"/v1/upscale?{query}", data=data, content_type="image/png")
    assert assert_error(in_query, 422, "invalid_field", field)["status"] == "false"


def test_a_wrong_parameter_in_a_form_is_named(tiny: TinyService, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(encode_png(photo(64, 64)))
    for query, form, field in (
        ("", {"noise_level": "x"}, "noise_level"),
        ("", {"steps": "1"}, "steps"),
        ("?seed=1", {"seed": "1"}, "seed"),
    ):
        with path.open("rb") as file:
            answer = tiny.client.post(f"/v1/upscale{query}", data={"image": file, **form})
        assert_error(answer, 422, "invalid_field", field)
    with path.open("rb") as file:
        assert_error(tiny.client.post("/v1/upscale", data={"photo": file}), 422, "invalid_field", "photo")


def test_other_content_types_and_an_empty_body_are_refused(tiny: TinyService) -> None:
    assert_error(tiny.client.post("/v1/upscale", json={"image": ""}), 415, "unsupported_media_type")
    assert_error(tiny.client.post("/v1/upscale", data=b"", content_type="image/png"), 422, "invalid_field", "body")


def test_the_model_is_listed(tiny: TinyService) -> None:
    assert tiny.client.get("/v1/models").json == {
        "models": [
            {
                "id": MODEL,
                "revision": None,
                "weights_here": True,
                "missing_files": [],
                "resolutions": [1024, 2048],
            }
        ]
    }


def test_without_weights_the_service_is_up_and_says_what_to_do(tmp_path: Path, image: str) -> None:
    service = TinyService(tiny_settings(tmp_path / "nothing"))
    try:
        answer = service.client.post("/upsampler", json={"image": image, "prompt": "a cat"})
        body = assert_error(answer, 503, "weights_unavailable")
        for hint in ("python -m enlight.upsampler.fetch_model", "nothing", "UPSAMPLER_WEIGHTS_FOLDER"):
            assert hint in body["message"]
        assert body["status"] == "false"
        assert int(answer.headers["Retry-After"]) > 0
        listed: Any = service.client.get("/v1/models").json
        assert listed["models"][0]["weights_here"] is False
        assert "unet/config.json" in listed["models"][0]["missing_files"]
        # A broken picture is the client's error, with or without weights
        assert_error(service.client.post("/upsampler", json={"image": "AAAA", "prompt": "a"}), 415, "unsupported_image")
    finally:
        service.stop()


def worker_pids() -> set[int]:
    """Process ids of the workers that this process has started."""
    command = ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(os.getpid())]
    children = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return {int(line.split()[0]) for line in children if "enlight.upsampler.worker" in line}


def test_a_killed_worker_is_a_503_and_the_next_request_works(tiny_folder: Path, image: str) -> None:
    others = worker_pids()
    service = TinyService(tiny_settings(tiny_folder))
    try:
        # Given a request that would take minutes
        (pid,) = worker_pids() - others
        killer = subprocess.Popen(
            [sys.executable, "-c", f"import os, time; time.sleep(3); os.kill({pid}, {signal.SIGKILL})"]
        )
        began = time.monotonic()
        answer = service.client.post(
            "/v1/upscale?num_inference_steps=250", data=encode_png(photo(120, 90)), content_type="image/png"
        )
        killer.wait(10)

        # Then it is answered at once, and the service comes back by itself
        body = assert_error(answer, 503, "worker_unavailable")
        assert body["status"] == "false"
        assert time.monotonic() - began < 30
        assert wait_until(lambda: service.client.get("/ready").status_code == 200, 60.0)
        again = service.client.post("/upsampler", json={"image": image, "prompt": "a cat", "resolution": 1024})
        assert again.status_code == 200, again.text
        assert pid not in worker_pids()
    finally:
        service.stop()


def test_the_http_process_never_imports_torch() -> None:
    code = (
        "import sys, enlight.upsampler.app, enlight.upsampler.fetch_model\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'onnxruntime', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
