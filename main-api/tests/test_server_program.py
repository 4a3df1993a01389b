"""`python server.py`: the gateway with the settings of main.env, unless told otherwise."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from gateways import MODELS_FOLDER, Surroundings, surroundings

from enlight.servicekit.local_process import LocalProcess, free_port
from enlight.servicekit.local_service import settings_environment

FOLDER = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def around(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Surroundings]:
    with surroundings(tmp_path_factory.mktemp("program")) as servers:
        yield servers


def test_main_env_names_the_contracts_ports() -> None:
    lines = (FOLDER / "main.env").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert given["MAIN_API_PORT"] == "8040"
    assert given["MAIN_API_QUEUE_URL"].endswith(":6390/0")
    assert json.loads(given["MAIN_API_REALESRGAN_URLS"]) == ["http://127.0.0.1:11111"]


def test_it_serves_with_the_files_settings(around: Surroundings, tmp_path: Path) -> None:
    # Given the folder with a main.env of somebody's own, started from elsewhere
    folder = tmp_path / "main-api"
    folder.mkdir()
    for name in ("server.py", "gunicorn.conf.py"):
        shutil.copy(FOLDER / name, folder / name)
    settings, port = around.settings(), free_port()
    given = {
        "HOST": "127.0.0.1", "PORT": port, "KEYS": "off", "DATA_FOLDER": tmp_path / "data",
        "MONGO_URL": settings.mongo_url, "MONGO_DATABASE": settings.mongo_database, "QUEUE_URL": settings.queue_url,
        "CACHE_URLS": json.dumps(settings.cache_urls), "MODELS_FOLDER": MODELS_FOLDER, "LOG_LEVEL": "nonsense",
    }  # fmt: skip
    (folder / "main.env").write_text(
        "# ours\n" + "".join(f"MAIN_API_{name}={value}\n" for name, value in given.items())
    )
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return requests.get(f"{url}/ready", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    program = LocalProcess(
        "the gateway",
        [sys.executable, str(folder / "server.py")],
        # What the environment says wins.
        environment=settings_environment("MAIN_API_", {"DEFAULT_BASE_MODEL": "enlight/pocket", "LOG_LEVEL": "info"}),
        log=tmp_path / "log",
        is_ready=ready,
        ready_timeout_s=60,
    )
    with program:
        assert requests.get(f"{url}/v1/trainings", timeout=10).json() == {"trainings": [], "next": None}
        assert program.stop() == 0
