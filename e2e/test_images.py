"""The services' images: each one runs without root on a read-only file system, gets healthy, works, and drains."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
import requests
from clients import POCKET, ROOT
from container_engine import docker, needs_image
from gateways import surroundings
from PIL import Image
from waiting import wait_until

from enlight.servicekit.local_process import free_port
from enlight.servicekit.settings import child_environment

pytestmark = [pytest.mark.containers, pytest.mark.timeout(600)]
READY_TIMEOUT_S = 120
PHOTO = ROOT / "demo/photos/robot-1.png"
BGREM = "enlightdev/bgrem"
DREAMBOOTH = "enlightdev/enlightaidreamboothapi"
REALESRGAN = "enlightdev/realesrganapi"
UPSAMPLER = "enlightdev/upsampler"
MAIN_API = "enlightdev/main-api"
BASE = "enlightdev/enlightaidreambooth:cu113"


def marked(image: str) -> object:
    """The image as a parameter of a test that is skipped where it is not built."""
    return pytest.param(image, marks=needs_image(image), id=image.rpartition("/")[2])


@contextmanager
def running(image: str, container_port: int, **settings: str) -> Iterator[tuple[str, str]]:
    """Name and address of a container on a file system that it cannot write to."""
    name, port = f"enlight-test-{secrets.token_hex(4)}", free_port()
    given = [argument for variable, value in settings.items() for argument in ("--env", f"{variable}={value}")]
    try:
        docker(
            "run", "--detach", "--name", name, "--read-only", "--tmpfs", "/tmp:exec", "--cap-drop", "ALL",
            "--security-opt", "no-new-privileges", "--publish", f"127.0.0.1:{port}:{container_port}", *given, image,
        )  # fmt: skip
        yield name, f"http://127.0.0.1:{port}"
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, timeout=60, check=False)


def as_base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()


def healthy(name: str) -> bool:
    return docker("inspect", "--format", "{{.State.Health.Status}}", name).strip() == "healthy"


def assert_drains(name: str) -> None:
    """SIGTERM ends it before Docker would insist, and as if nothing were amiss."""
    docker("stop", "-t", "60", name)
    assert docker("inspect", "--format", "{{.State.ExitCode}}", name).strip() == "0", docker("logs", name)


@pytest.mark.parametrize("image", [marked(image) for image in (MAIN_API, DREAMBOOTH, BGREM, REALESRGAN, UPSAMPLER)])
def test_an_image_has_no_root_a_health_check_and_no_build_tools_of_ours(image: str) -> None:
    (config,) = json.loads(docker("image", "inspect", "--format", "[{{json .Config}}]", image))
    assert config["User"] == "10001"
    assert config["Entrypoint"] == ["tini", "--"]
    assert config["Healthcheck"]["Test"][0] == "CMD"
    # Nothing of the build is in its layers: no wheels, no sources, no files of the checkout that git ignores
    listing = docker("run", "--rm", "--entrypoint", "ls", image, "-a", "/srv/enlight", "/").split()
    assert "gunicorn.conf.py" in listing
    assert not {"build", "wheels", ".env", ".git"} & set(listing)


@pytest.mark.parametrize("_", [marked(BGREM)])
def test_bgrem_cuts_out(_: str) -> None:
    with running(BGREM, 4000, BGREM_CPU_THREADS="1", NUMBA_DEBUG_CACHE="1") as (name, url):
        assert wait_until(lambda: healthy(name), READY_TIMEOUT_S), docker("logs", name)
        answer = requests.post(
            f"{url}/v1/cutout?model=u2netp", data=PHOTO.read_bytes(), headers={"Content-Type": "image/png"}, timeout=60
        )
        assert (answer.status_code, answer.content[:4]) == (200, b"\x89PNG"), answer.text
        # The matting came with the image: nothing of it was compiled
        said = docker("logs", name)
        assert "[cache] data loaded from" in said
        assert "[cache] data saved to" not in said
        assert_drains(name)


@pytest.mark.parametrize("_", [marked(REALESRGAN)])
def test_realesrgan_enlarges(_: str) -> None:
    with running(REALESRGAN, 11111) as (name, url):
        assert wait_until(lambda: healthy(name), READY_TIMEOUT_S), docker("logs", name)
        body = {"input_string": as_base64(PHOTO), "model_name": "realesr-animevideov3", "out_resolution": 1024}
        answer = requests.post(f"{url}/upsampler", json=body, timeout=300).json()
        assert answer["status"] == "true", answer
        with Image.open(BytesIO(base64.b64decode(answer["image"]))) as picture:
            assert max(picture.size) == 1024
        assert_drains(name)


@pytest.mark.parametrize("_", [marked(UPSAMPLER)])
def test_upsampler_serves_and_says_that_its_weights_are_missing(_: str) -> None:
    with running(UPSAMPLER, 4455) as (name, url):
        assert wait_until(lambda: healthy(name), READY_TIMEOUT_S), docker("logs", name)
        assert requests.get(f"{url}/", timeout=10).json()["hostname"]
        answer = requests.post(f"{url}/upsampler", json={"image": as_base64(PHOTO), "prompt": "a robot"}, timeout=60)
        assert (answer.status_code, answer.json()["status"]) == (503, "false"), answer.text
        assert "fetch_model" in answer.json()["message"]
        assert_drains(name)


@pytest.mark.parametrize("_", [marked(DREAMBOOTH)])
def test_dreambooth_api_makes_a_picture(_: str) -> None:
    settings = {"DREAMBOOTH_API_DEFAULT_BASE_MODEL": POCKET, "DREAMBOOTH_API_CPU_THREADS": "1"}
    with running(DREAMBOOTH, 5000, **settings) as (name, url):
        assert wait_until(lambda: healthy(name), READY_TIMEOUT_S), docker("logs", name)
        body = {"prompt": "a red robot", "model_id": POCKET}
        answer = requests.post(f"{url}/v1/generations", json=body, timeout=120)
        assert (answer.status_code, len(answer.json()["images"])) == (200, 1), answer.text
        assert_drains(name)


@pytest.mark.parametrize("_", [marked(BASE)])
@pytest.mark.parametrize("code", ["installed", "mounted"])
def test_the_base_image_trains_with_the_code_that_is_mounted_or_else_with_its_own(code: str, _: str) -> None:
    name = f"enlight-test-{secrets.token_hex(4)}"
    mounted = code == "mounted"
    mount = ("--volume", f"{ROOT}:/code:ro") if mounted else ()
    subject = ("--model-id", "robot", "--instance-prompt", "a sks robot")
    length = ("--base-model", POCKET, "--max-training-steps", "2")
    try:
        # As the user's command does; a shell waits in it
        docker("run", "-it", "-d", "--name", name, *mount, BASE)
        found = docker("exec", name, "python", "-c", "import enlight.dreambooth_api.trainer as t; print(t.__file__)")
        assert found.startswith("/code/dreambooth-api/src/" if mounted else "/opt/enlight/lib/"), found
        docker("exec", name, "mkdir", "-p", "/root/INPUT", "/root/OUTPUT", "/root/Generation")
        docker("cp", str(PHOTO), f"{name}:/root/INPUT/")
        if not mounted:
            docker("cp", str(ROOT / "dreambooth-script"), f"{name}:/root/")
        scripts = "/code/dreambooth-script" if mounted else "/root/dreambooth-script"
        said = docker("exec", "--workdir", "/root", name, "python", f"{scripts}/train.py", *subject, *length)
        assert "robot is trained: 2 steps" in said, said
        started_s = time.monotonic()
        docker("stop", "-t", "60", name)
        assert time.monotonic() - started_s < 60, "it does not end when it is asked to"
    finally:
        subprocess.run(["docker", "rm", "--force", "--volumes", name], capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("_", [marked(MAIN_API)])
def test_start_service_runs_the_gateway_with_main_env(_: str, tmp_path: Path) -> None:
    with surroundings(tmp_path) as around:
        settings, port, name = around.settings(), free_port(), f"enlight-test-{secrets.token_hex(4)}"
        # Given a folder of somebody's own
        (tmp_path / "main.env").write_text("# ours\nMAIN_API_HOST=127.0.0.1\nMAIN_API_LOG_LEVEL=nonsense\n")
        script = tmp_path / "start_service.sh"
        script.write_text((ROOT / "main-api/start_service.sh").read_text())
        given = {
            "ENLIGHT_NAME": name, "MAIN_API_PORT": str(port), "MAIN_API_KEYS": "off", "MAIN_API_LOG_LEVEL": "info",
            "MAIN_API_MONGO_URL": settings.mongo_url, "MAIN_API_QUEUE_URL": settings.queue_url,
            "MAIN_API_CACHE_URLS": json.dumps(settings.cache_urls), "MAIN_API_DEFAULT_BASE_MODEL": POCKET,
        }  # fmt: skip
        try:
            # When it is started from elsewhere, twice; what the environment says wins
            for _again in range(2):
                subprocess.run(["bash", str(script)], env=child_environment(given), check=True, timeout=60)
            assert wait_until(lambda: healthy(name), READY_TIMEOUT_S), docker("logs", name)
            answer = requests.get(f"http://127.0.0.1:{port}/v1/trainings", timeout=10)
            assert answer.json() == {"trainings": [], "next": None}
            assert_drains(name)
        finally:
            subprocess.run(["docker", "rm", "--force", name], capture_output=True, timeout=60, check=False)
            subprocess.run(["docker", "volume", "rm", name], capture_output=True, timeout=60, check=False)
