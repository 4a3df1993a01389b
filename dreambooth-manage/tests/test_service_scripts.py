"""`service_start.sh` and `service_stop.sh` on a Docker engine, with two containers on the CPU and nginx before them."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from clients import PHOTOS, POCKET
from container_engine import docker, has_image, needs_image
from waiting import wait_until

from enlight.servicekit.local_process import free_port
from enlight.servicekit.settings import child_environment

FOLDER = Path(__file__).resolve().parents[1]
IMAGE = "enlightdev/enlightaidreamboothapi"
NGINX_IMAGE = "nginx:1.28-bookworm"
NGINX_STAND_IN = "enlight-test-nginx"
ANSWER_TIMEOUT_S = 240
pytestmark = [pytest.mark.containers, pytest.mark.timeout(600), *needs_image(IMAGE)]


@dataclass(frozen=True)
class Site:
    """One suite of containers with names, a network and a port of its own."""

    name: str = field(default_factory=lambda: f"enlight-test-{secrets.token_hex(4)}")
    port: int = field(default_factory=free_port)
    network: str = field(default_factory=lambda: f"10.233.{secrets.randbelow(200) + 30}")

    def run(self, script: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        given = {
            "ENLIGHT_NAME": self.name, "ENLIGHT_PORT": str(self.port), "ENLIGHT_NETWORK": self.network,
            "ENLIGHT_NGINX_IMAGE": NGINX_IMAGE if has_image(NGINX_IMAGE) else NGINX_STAND_IN,
            "DREAMBOOTH_API_DEFAULT_BASE_MODEL": POCKET, "DREAMBOOTH_API_CPU_THREADS": "1", **settings,
        }  # fmt: skip
        command = ["bash", str(FOLDER / script), *arguments]
        return subprocess.run(
            command, env=child_environment(given), text=True, capture_output=True, timeout=500, check=False
        )

    def start(self, **settings: str) -> str:
        done = self.run("service_start.sh", GPUS="none", CONTAINERS="2", **settings)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def container_url(self, number: int) -> str:
        """A container's own address, beside nginx."""
        return f"http://{self.network}.{10 + number}:5000"

    def inspect(self, container: str) -> dict[str, Any]:
        (found,) = json.loads(docker("inspect", f"{self.name}-{container}"))
        assert isinstance(found, dict)
        return found

    def left(self) -> dict[str, list[str]]:
        """What the engine has of this suite."""
        of_ours = ("--filter", f"name={self.name}", "--format")
        return {
            "containers": docker("ps", "--all", *of_ours, "{{.Names}}").split(),
            "networks": docker("network", "ls", *of_ours, "{{.Name}}").split(),
            "volumes": docker("volume", "ls", *of_ours, "{{.Name}}").split(),
        }


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site()
    try:
        site.start()
        yield site
    finally:
        site.run("service_stop.sh", "--volumes")


def train(url: str, model: str, steps: int) -> requests.Response:
    body = {
        "INSTANCE_PROMPT": "a sks robot", "OUTPUT_DIR": model, "IMAGE_LIST": PHOTOS, "MAX_TRAINING_STEPS": steps,
        "LR": 1e-4,
    }  # fmt: skip
    return requests.post(f"{url}/train", json=body, timeout=ANSWER_TIMEOUT_S)


def infer(url: str, model: str) -> requests.Response:
    body = {"prompt": "a sks robot", "model_id": model}
    headers = {} if model == POCKET else {"X-Model-Id": model}  # the base is at hand everywhere
    return requests.post(f"{url}/v1/generations", json=body, headers=headers, timeout=ANSWER_TIMEOUT_S)


def requests_seen(site: Site, number: int) -> int:
    """How many requests for pictures the container has logged."""
    return docker("logs", f"{site.name}-{number}").count(': "POST /v1/generations ')


def test_only_nginx_is_published_and_only_on_loopback(site: Site) -> None:
    published = {name: site.inspect(name)["HostConfig"]["PortBindings"] for name in ("0", "1", "nginx")}
    assert published == {"0": {}, "1": {}, "nginx": {"2333/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(site.port)}]}}


def test_each_container_is_read_only_without_root_and_without_capabilities(site: Site) -> None:
    for name in ("0", "1", "nginx"):
        container = site.inspect(name)
        assert container["HostConfig"]["ReadonlyRootfs"] is True
        assert container["HostConfig"]["CapDrop"] == ["ALL"]
        assert docker("exec", f"{site.name}-{name}", "id", "-u").strip() != "0"


def test_started_again_it_leaves_what_runs_alone(site: Site) -> None:
    before = [site.inspect(name)["Id"] for name in ("0", "1", "nginx")]
    assert site.start().count("runs already") == 3
    assert [site.inspect(name)["Id"] for name in ("0", "1", "nginx")] == before


def test_one_trains_while_the_other_makes_pictures_and_both_have_the_model_from_one_download(site: Site) -> None:
    # Given a training that is under way on one of them
    answers: list[requests.Response] = []
    training = threading.Thread(target=lambda: answers.append(train(site.url, "my-robot", 150)))
    training.start()
    # When pictures are asked for, then they come before it has ended
    assert infer(site.url, POCKET).status_code == 200
    assert training.is_alive(), "the training ended too early for this test to say anything"
    training.join(ANSWER_TIMEOUT_S)
    assert (answers[0].status_code, answers[0].json()["model_id"]) == (200, "my-robot")
    # And the copy that the first fetches is the one that the second uses
    inodes = []
    for number in (0, 1):
        assert infer(site.container_url(number), "my-robot").status_code == 200
        inodes.append(
            docker("exec", f"{site.name}-{number}", "find", "/data/model-cache/models/my-robot", "-name",
                   "manifest.json", "-printf", "%i %C@ ")
        )  # fmt: skip
    assert len(inodes[0].split()) == 2
    assert inodes[1] == inodes[0]


def test_pictures_are_spread_and_a_model_keeps_its_container(site: Site) -> None:
    before = [requests_seen(site, number) for number in (0, 1)]
    for number in range(12):
        # None of these models exists: it is only about where the question goes.
        assert infer(site.url, f"no-such-model-{number}").status_code == 404
    spread = [requests_seen(site, number) - before[number] for number in (0, 1)]
    assert sum(spread) == 12
    assert min(spread) > 0
    before = [requests_seen(site, number) for number in (0, 1)]
    for _ in range(6):
        infer(site.url, "no-such-model-0")
    assert sorted(requests_seen(site, number) - before[number] for number in (0, 1)) == [0, 6]


def test_a_killed_container_costs_no_picture_and_comes_back(site: Site) -> None:
    # Given requests under way at both
    statuses: list[int] = []
    clients = [
        threading.Thread(target=lambda: statuses.extend(infer(site.url, POCKET).status_code for _ in range(4)))
        for _ in range(4)
    ]
    for client in clients:
        client.start()
    assert wait_until(lambda: len(statuses) >= 2, timeout_s=120)
    # When one is killed with all that it runs
    os.kill(site.inspect("0")["State"]["Pid"], signal.SIGKILL)
    for client in clients:
        client.join(ANSWER_TIMEOUT_S)
    # Then every request has had its answer, and the engine has started the container again
    assert statuses == [200] * 16
    assert wait_until(lambda: site.inspect("0")["State"].get("Health", {}).get("Status") == "healthy", timeout_s=240)
    assert site.inspect("0")["RestartCount"] == 1
    assert infer(site.container_url(0), POCKET).status_code == 200


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"GPUS": "0;1"}, "GPUS is neither none nor numbers"),
        ({"GPUS": "none", "CONTAINERS": "0"}, "CONTAINERS is not a number from 1 to 99"),
        ({"GPUS": "0", "CONTAINERS": "2"}, "CONTAINERS is for GPUS=none"),
        ({"GPUS": "none", "ENLIGHT_IMAGE": "localhost:9/no-such-image"}, "there is no image localhost:9/no-such-image"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_started(settings: dict[str, str], said: str) -> None:
    site = Site()
    done = site.run("service_start.sh", **settings)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert site.left() == {"containers": [], "networks": [], "volumes": []}


def test_fewer_containers_are_fewer_and_stop_leaves_the_volume_only() -> None:
    site = Site()
    try:
        site.start()
        done = site.run("service_start.sh", GPUS="none", CONTAINERS="1")
        assert done.returncode == 0, done.stderr
        assert sorted(site.left()["containers"]) == [f"{site.name}-0", f"{site.name}-nginx"]
        assert requests.get(f"{site.url}/ready", timeout=10).status_code == 200
        for _ in range(2):  # nothing to stop is no error
            assert site.run("service_stop.sh").returncode == 0
            assert site.left() == {"containers": [], "networks": [], "volumes": [site.name]}
    finally:
        stopped = site.run("service_stop.sh", "--volumes")
    assert stopped.returncode == 0, stopped.stderr
    assert site.left() == {"containers": [], "networks": [], "volumes": []}
