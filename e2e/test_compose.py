"""`docker compose up` on a Docker engine, with stand-ins for the images that a registry would give."""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from clients import PHOTOS, ROOT
from compose import FILE, STAND_INS, compose
from container_engine import docker, has_image, needs_image

from enlight.servicekit.local_process import free_port
from enlight.servicekit.settings import child_environment

MAIN_API, DREAMBOOTH, BGREM = "enlightdev/main-api", "enlightdev/enlightaidreamboothapi", "enlightdev/bgrem"
OTHERS = {"realesrgan": "enlightdev/realesrganapi", "upsampler": "enlightdev/upsampler"}
"""Take part where their image is built."""
UP_TIMEOUT_S = 900  # bgrem compiles its matting first, which takes minutes on a busy machine
pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(1800),
    *(mark for image in (MAIN_API, DREAMBOOTH, BGREM) for mark in needs_image(image)),
]


@dataclass(frozen=True)
class Suite:
    """A project of its own on the engine, with folders, ports and addresses of its own."""

    project: str
    nginx_port: int
    main_api_port: int
    dashboard_port: int
    environment: dict[str, str]

    def compose(self, *arguments: str, timeout_s: float = 120) -> str:
        """What the command prints."""
        done = compose(
            ["--project-name", self.project, *arguments],
            files=[FILE, STAND_INS],
            environment=self.environment,
            timeout_s=timeout_s,
        )
        assert done.returncode == 0, f"{arguments}: {done.stderr[-3000:]}\n{self.logs()}"
        return done.stdout

    def logs(self) -> str:
        """The end of every service's log."""
        command = ["--project-name", self.project, "logs", "--tail", "10"]
        return compose(command, files=[FILE, STAND_INS], environment=self.environment).stdout

    def listening(self) -> set[tuple[str, int]]:
        """Where on the host the engine, or a process in one of these containers, takes TCP connections. What else the
        machine runs, other containers as well, may come and go meanwhile."""
        mine = self._containers()
        published_by_others = [
            _published(other) for other in docker("ps", "--quiet", "--no-trunc").split() if other not in mine
        ]
        return {
            (connection.laddr[0], connection.laddr[1])
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr and _is_of(mine, connection.pid)
        }.difference(*published_by_others)

    @property
    def _label(self) -> str:
        return f"label=com.docker.compose.project={self.project}"

    def _containers(self) -> list[str]:
        return docker("ps", "--all", "--quiet", "--no-trunc", "--filter", self._label).split()

    def left(self) -> dict[str, list[str]]:
        """What the engine has of it."""
        return {
            "containers": self._containers(),
            "networks": docker("network", "ls", "--quiet", "--filter", self._label).split(),
            "volumes": docker("volume", "ls", "--quiet", "--filter", self._label).split(),
        }


def _published(container: str) -> set[tuple[str, int]]:
    """Addresses of the host that lead to it; none, where it has gone meanwhile."""
    found = subprocess.run(
        ["docker", "inspect", "--format", "{{json .NetworkSettings.Ports}}", container],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    ).stdout
    return {
        (address["HostIp"], int(address["HostPort"]))
        for addresses in (json.loads(found or "{}") or {}).values()
        for address in addresses or []
    }


def _is_of(containers: Sequence[str], pid: int | None) -> bool:
    if pid is None:
        return True
    try:
        is_engine = psutil.Process(pid).name().startswith(("docker", "containerd"))
        return is_engine or any(container in Path(f"/proc/{pid}/cgroup").read_text() for container in containers)
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def suite(tmp_path: Path) -> Iterator[Suite]:
    folders = {"ENLIGHT_SECRETS": str(tmp_path / "secrets"), "MONGO_FOLDER": str(tmp_path / "mongodb")}
    script = str(ROOT / "dev-scripts/compose-secrets.sh")
    subprocess.run([script], env=child_environment(folders), capture_output=True, check=True, timeout=60)
    nginx_port, main_api_port, dashboard_port = free_port(), free_port(), free_port()
    made = Suite(
        f"enlight-test-{secrets.token_hex(4)}",
        nginx_port,
        main_api_port,
        dashboard_port,
        {
            **folders,
            "ENLIGHT_NGINX_PORT": str(nginx_port),
            "ENLIGHT_MAIN_API_PORT": str(main_api_port),
            "ENLIGHT_DASHBOARD_PORT": str(dashboard_port),
            "ENLIGHT_NETWORK": f"10.233.{100 + secrets.randbelow(100)}",
            "SECANTUSDB": _version_of("secantusdb"),
        },
    )
    try:
        yield made
    finally:
        command = ["--project-name", made.project, "down", "--volumes", "--timeout", "10"]
        compose(command, files=[FILE, STAND_INS], environment=made.environment, timeout_s=180)


def _version_of(package: str) -> str:
    (line,) = [
        line
        for line in (ROOT / "dev-scripts/requirements-dev.txt").read_text().splitlines()
        if line.startswith(f"{package}==")
    ]
    return line.partition("==")[2]


def curl(url: str, body: dict[str, Any], folder: Path, headers: Sequence[str] = ()) -> dict[str, Any]:
    """A POST as the seed's examples say it."""
    sent = folder / "body.json"
    sent.write_text(json.dumps(body))
    given = [word for header in ("Content-Type: application/json", *headers) for word in ("-H", header)]
    command = ["curl", "--silent", "--show-error", "--fail-with-body", "--data", f"@{sent}", *given, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{url}: {done.stdout[:2000]} {done.stderr}"
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def is_png(image: str) -> bool:
    return base64.b64decode(image).startswith(b"\x89PNG")


def test_compose_up_trains_and_infers_at_both_doors_shows_no_other_and_leaves_nothing(
    suite: Suite, tmp_path: Path
) -> None:
    others = [name for name, image in OTHERS.items() if has_image(image)]
    before = suite.listening()
    # When everything is up, in one command
    suite.compose("build", "cache", "nginx", "single", timeout_s=600)
    wanted = ["main-api", "dashboard", "nginx", "dreambooth-worker", "bgrem", *others]
    suite.compose("up", "--no-build", "--wait", "--wait-timeout", str(UP_TIMEOUT_S), *wanted, timeout_s=UP_TIMEOUT_S)

    # Then the host listens where it is meant to and nowhere else
    doors = (suite.nginx_port, suite.main_api_port, suite.dashboard_port)
    assert suite.listening() - before == {("127.0.0.1", port) for port in doors}

    # And nobody gets into the queue without its password
    ping = "exec 3<>/dev/tcp/queue/6379; printf 'PING\\r\\n' >&3; read -r answer <&3; echo $answer"
    assert suite.compose("exec", "-T", "nginx", "bash", "-c", ping).startswith("-NOAUTH")

    # And a training and pictures can be had through nginx
    door = f"http://127.0.0.1:{suite.nginx_port}"
    training = {"INSTANCE_PROMPT": "a sks robot", "OUTPUT_DIR": "direct", "IMAGE_LIST": PHOTOS, "MAX_TRAINING_STEPS": 4}
    assert curl(f"{door}/train", training, tmp_path) == {"message": "Training is done.", "model_id": "direct"}
    picture = {"prompt": "a sks robot on the beach", "model_id": "direct", "num_image": 1}
    (image,) = curl(f"{door}/inference", picture, tmp_path)["images"]
    assert is_png(image)

    # And by key through main-api, where the training is a job that the worker does
    command = ["python", "-m", "enlight.main_api.keys.command", "create", "--tenant", "me", "--scope", "admin"]
    key = suite.compose("exec", "-T", "main-api", *command).strip()
    gateway, authorized = f"http://127.0.0.1:{suite.main_api_port}", [f"Authorization: Bearer {key}"]
    answer = curl(f"{gateway}/train", training | {"OUTPUT_DIR": "by-job"}, tmp_path, authorized)
    assert answer == {"message": "Training is done.", "model_id": "by-job"}
    assert "is published" in suite.compose("logs", "dreambooth-worker")
    (image,) = curl(f"{gateway}/inference", picture | {"model_id": "by-job"}, tmp_path, authorized)["images"]
    assert is_png(image)
    robot = base64.b64encode((ROOT / "demo/photos/robot-1.png").read_bytes()).decode()
    cut_out = curl(f"{gateway}/remove", {"input_image": robot, "model": "u2netp"}, tmp_path, authorized)
    assert is_png(cut_out["output_image"])

    # And nothing is left of it
    assert all(suite.left().values())
    suite.compose("down", "--volumes", timeout_s=300)
    assert suite.left() == {"containers": [], "networks": [], "volumes": []}
    assert suite.listening() <= before
