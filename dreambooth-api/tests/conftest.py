"""What the worker's tests share: a real database, and a site for a worker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedded_servers import EmbeddedServer, mongo_server, valkey_server
from tiny_base import build_tiny_base
from tiny_training import write_photos
from worker_site import WorkerSite


@pytest.fixture(scope="module")
def mongo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with mongo_server(tmp_path_factory.mktemp("mongo") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    with valkey_server(tmp_path_factory.mktemp("valkey") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds a tiny base under the name of ``enlight/pocket``."""
    folder = tmp_path_factory.mktemp("bases")
    build_tiny_base(folder / "pocket")
    return folder


@pytest.fixture(scope="module")
def job_photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write_photos(tmp_path_factory.mktemp("photos"), 3)


@pytest.fixture
def site(
    tmp_path: Path,
    models_folder: Path,
    mongo: EmbeddedServer,
    job_photos: tuple[Path, ...],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[WorkerSite]:
    """A site without a queue, where workers in this process find the scripted trainer."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "support"), prepend=os.pathsep)
    with WorkerSite(tmp_path, models_folder, mongo.url, "redis://127.0.0.1:1/0", job_photos) as site:
        yield site
