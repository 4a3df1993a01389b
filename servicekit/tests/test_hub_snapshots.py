"""A snapshot of a repository: the hub's own client against a hub on loopback."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from small_hub import COMMIT, small_hub

from enlight.servicekit.hub_snapshots import recorded_commit

REPOSITORY = "maker/model"
FILES = {
    "model_index.json": b"{}",
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": b"weights",
    "unet/diffusion_pytorch_model.bin": b"a pickle",
    "unet/evil.py": b"import os",
    "README.md": b"not wanted",
}
WANTED = ("model_index.json", "unet/*")


def fetch(hub: str, folder: Path, *required: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, because the client reads the hub's address when it is imported."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from enlight.servicekit.hub_snapshots import fetch_snapshot\n"
        "from enlight.servicekit.registry_wheels import FetchError\n"
        "try:\n"
        f"    print(fetch_snapshot({REPOSITORY!r}, Path(sys.argv[1]), revision=None, wanted={WANTED!r}, "
        f"required={required!r}))\n"
        "except FetchError as error:\n"
        "    sys.exit(str(error))\n"
    )
    home = folder.parent / "home"
    return subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        env={"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HOME": str(home), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_what_is_wanted_comes_whole_and_pickles_and_programs_do_not(tmp_path: Path) -> None:
    folder, asked = tmp_path / "model", list[str]()
    with small_hub(REPOSITORY, FILES, asked) as hub:
        done = fetch(hub, folder, "model_index.json")
    assert (done.returncode, done.stdout.strip()) == (0, COMMIT), done.stderr
    expected = {"model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"}
    assert set(asked) == expected
    for name in expected:
        assert (folder / name).read_bytes() == FILES[name]
    assert recorded_commit(folder) == COMMIT
    assert not folder.with_name("model.partial").exists()


def test_a_snapshot_that_lacks_what_is_needed_does_not_appear(tmp_path: Path) -> None:
    with small_hub(REPOSITORY, FILES, []) as hub:
        done = fetch(hub, tmp_path / "model", "vae/config.json")
    assert done.returncode != 0
    assert f"at commit {COMMIT} lacks vae/config.json" in done.stderr
    assert "Traceback" not in done.stderr
    assert recorded_commit(tmp_path / "model") is None
    assert not (tmp_path / "model").exists()


def test_a_hub_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    with small_hub(REPOSITORY, FILES, []) as gone:
        pass
    done = fetch(gone, tmp_path / "model")
    assert done.returncode != 0
    assert "maker/model could not be fetched from the hub" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "model").exists()
