"""The images' files agree with each other and with the commands that a user has from the first README."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from enlight.servicekit.settings import child_environment

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = Path(sys.executable).parent / "docker-compose"
WITH_TORCH = ("dreambooth-api", "dreambooth-base", "realesrgan", "upsampler")
SERVICES = {
    "bgrem": 4000,
    "dashboard": 8050,
    "dreambooth-api": 5000,
    "main-api": 8040,
    "realesrgan": 11111,
    "upsampler": 4455,
}
IMAGES = {
    "bgrem": "enlightdev/bgrem",
    "dreambooth-api": "enlightdev/enlightaidreamboothapi",
    "dreambooth-base": "enlightdev/enlightaidreambooth",
    "dashboard": "enlightdev/dashboard",
    "main-api": "enlightdev/main-api",
    "realesrgan": "enlightdev/realesrganapi",
    "upsampler": "enlightdev/upsampler",
}


def dockerfile(folder: str) -> str:
    return (ROOT / folder / "Dockerfile").read_text()


def torch_stage(folder: str) -> str:
    """From the name of the base image to the layer with PyTorch, without the comments."""
    text = dockerfile(folder)
    stage = text[text.index("ARG PYTHON_IMAGE") : text.index("FROM torch AS build")]
    return re.sub(r"^#.*\n", "", stage, flags=re.MULTILINE).strip()


def test_images_with_pytorch_share_its_layer() -> None:
    assert "torch torchvision" in torch_stage(WITH_TORCH[0])
    for folder in WITH_TORCH:
        assert torch_stage(folder) == torch_stage(WITH_TORCH[0]), folder
        assert dockerfile(folder).count("\nFROM torch\n") == 1, f"{folder} does not end on that layer"


@pytest.mark.parametrize(("folder", "port"), SERVICES.items())
def test_a_service_listens_on_the_port_that_the_users_command_publishes(folder: str, port: int) -> None:
    text = dockerfile(folder)
    prefix = folder.upper().replace("-", "_")
    assert re.findall(r"^EXPOSE (.*)$", text, flags=re.MULTILINE) == [str(port)]
    assert {f"{prefix}_PORT={port}", f"{prefix}_HOST=0.0.0.0"} <= set(text.split())
    assert text.rstrip().splitlines()[-1].startswith("CMD ["), "the users' commands name none"
    assert f"-p {port}:{port} " in (ROOT / folder / "README.md").read_text() or folder == "main-api"


@pytest.mark.parametrize(("folder", "image"), IMAGES.items())
def test_an_image_has_the_name_that_the_users_command_has(folder: str, image: str) -> None:
    builds = (ROOT / "dev-scripts/test-containers.sh").read_text()
    assert f"[{folder}]={image.removeprefix('enlightdev/')}" in re.sub(r"\s+", " ", builds)


def test_docker_build_names_the_base_image_as_the_users_command_does(tmp_path: Path) -> None:
    (tmp_path / "docker").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "docker").chmod(0o755)
    # A copy, so that its wheels are there whether they have been made here or not
    folder = tmp_path / "dreambooth-base"
    (folder / "wheels").mkdir(parents=True)
    script = folder / "docker-build.sh"
    script.write_text((ROOT / "dreambooth-base/docker-build.sh").read_text())
    done = subprocess.run(
        ["bash", script, "--build-arg", "DEVICE=cpu"],
        env=child_environment({"PATH": f"{tmp_path}:{os.environ['PATH']}"}),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    image = IMAGES["dreambooth-base"]
    assert done.stdout.split() == [
        "build", "--build-arg", "DEVICE=cpu", ".", "-t", f"{image}:latest", "-t", f"{image}:cu113"
    ]  # fmt: skip


@pytest.mark.parametrize("files", [["docker-compose.yml"], ["docker-compose.yml", "docker-compose.gpu.yml"]])
def test_the_development_container_has_the_checkout_and_takes_its_sources(files: list[str]) -> None:
    folder = ROOT / "dreambooth-base"
    arguments = [argument for file in files for argument in ("-f", folder / file)]
    done = subprocess.run(
        [COMPOSE, *arguments, "config", "--format", "json"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    service = json.loads(done.stdout)["services"]["dreambooth"]
    (mount,) = service["volumes"]
    assert (Path(mount["source"]), mount["target"]) == (ROOT, "/code")
    assert service["image"] == IMAGES["dreambooth-base"]
    assert "ports" not in service
    assert ("deploy" in service) == ("docker-compose.gpu.yml" in files)
    (sources,) = re.findall(r"PYTHONPATH=(\S+)", dockerfile("dreambooth-base"))
    for source in sources.split(":"):
        assert (ROOT / Path(source).relative_to("/code") / "enlight").is_dir(), source
