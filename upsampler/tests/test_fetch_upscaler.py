"""The command that brings the model: one commit, no pickles, whole or not at all."""

from __future__ import annotations

import fnmatch
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from upsampler_service import tiny_settings

from enlight.servicekit.hub_snapshots import recorded_commit
from enlight.upsampler import fetch_model
from enlight.upsampler.weights import MODEL, REVISION, ModelFolder


class Hub:
    """In the place of the hub's client: a repository in a folder, with what ours has beside the needed files."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self.asked: list[tuple[str, str]] = []
        self.fail_after: int | None = None
        for extra in ("x4-upscaler-ema.ckpt", "unet/diffusion_pytorch_model.bin", "tokenizer/evil.py", "README.md"):
            (repository / extra).write_text("extra")

    def snapshot_download(
        self, name: str, *, revision: str, local_dir: Path, allow_patterns: list[str], ignore_patterns: list[str]
    ) -> None:
        self.asked.append((name, revision))
        paths = [path.relative_to(self.repository) for path in self.repository.rglob("*") if path.is_file()]
        wanted = [
            path
            for path in paths
            if any(fnmatch.fnmatch(str(path), pattern) for pattern in allow_patterns)
            and not any(fnmatch.fnmatch(str(path), pattern) for pattern in ignore_patterns)
        ]
        for count, path in enumerate(wanted):
            if count == self.fail_after:
                raise ConnectionError("the line was cut")
            (local_dir / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.repository / path, local_dir / path)


@pytest.fixture
def hub(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    made = Hub(Path(shutil.copytree(tiny_folder, tmp_path / "hub")))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", made.snapshot_download)
    return made


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    settings = tiny_settings(tmp_path / "models" / "upscaler")
    (tmp_path / "models").mkdir()

    def given(_: Any) -> Any:
        return settings

    monkeypatch.setattr(fetch_model, "load_settings", given)
    return settings.weights_folder


def test_it_brings_the_pinned_commit_and_writes_it_down(hub: Hub, folder: Path) -> None:
    assert fetch_model.main([]) == 0
    assert hub.asked == [(MODEL, REVISION)]
    assert ModelFolder(folder).missing() == []
    assert recorded_commit(folder) == ModelFolder(folder).commit == REVISION
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".json", ".safetensors", ".txt"}
    assert not folder.with_name("upscaler.partial").exists()


def test_a_model_that_is_there_is_left_alone(hub: Hub, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fetch_model.main([])
    assert fetch_model.main([]) == 0
    assert len(hub.asked) == 1
    assert "already there" in capsys.readouterr().out


def test_a_cut_line_leaves_no_folder_and_the_next_call_ends_the_work(
    hub: Hub, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.fail_after = 3
    assert fetch_model.main([]) == 1
    assert not folder.exists()
    said = capsys.readouterr().err
    assert "the line was cut" in said
    assert "Run the command again" in said
    hub.fail_after = None
    assert fetch_model.main(["--revision", "0123abcd"]) == 0
    assert recorded_commit(folder) == "0123abcd"


def test_a_commit_without_safetensors_is_refused(hub: Hub, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (hub.repository / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    assert fetch_model.main([]) == 1
    assert not folder.exists()
    assert "lacks unet/diffusion_pytorch_model.safetensors" in capsys.readouterr().err


def test_no_commit_is_recorded_for_a_folder_that_came_another_way(tiny_folder: Path) -> None:
    assert ModelFolder(tiny_folder).commit is None
