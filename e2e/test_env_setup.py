"""env_setup.sh on machines in several states; the commands that would change a machine are stand-ins that remember."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (
    "apt-get curl df docker dpkg dpkg-query id mokutil nvidia-ctk nvidia-smi systemctl uname".split()  # noqa: SIM905
)
LOOKS = ("curl --silent --fail --location --head", "df ", "docker info", "dpkg ", "dpkg-query ", "id ", "mokutil ")
"""How calls begin that change nothing."""


class Machine:
    """A Debian machine with a GPU, root's shell, and nothing of NVIDIA's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("bin", "packages", "broken", "etc/apt/sources.list.d", "usr/share/keyrings"):
            (folder / name).mkdir(parents=True)
        for name in COMMANDS:
            (folder / "bin" / name).symlink_to(ROOT / "e2e" / "support" / "gpu_machine.sh")
        gpu = folder / "sys" / "bus" / "pci" / "devices" / "0000:00:04.0"
        gpu.mkdir(parents=True)
        self.gpu_vendor = gpu / "vendor"
        self.gpu_vendor.write_text("0x10de\n")
        self.os_release = folder / "etc" / "os-release"
        self.os_release.write_text('ID=debian\nVERSION_ID="12"\n')
        (folder / "uid").write_text("0\n")
        (folder / "free_kib").write_text("50000000\n")
        (folder / "secure_boot").write_text("SecureBoot disabled\n")
        self.list = folder / "etc" / "apt" / "sources.list.d" / "nvidia-container-toolkit.list"

    def run(self, *arguments: str) -> tuple[int, str, list[str]]:
        """Exit status, what was said, and the calls that change something."""
        (self.folder / "calls").write_text("")
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        done = subprocess.run(
            [ROOT / "env_setup.sh", *arguments],
            env={"PATH": path, "MACHINE": str(self.folder), "SYSTEM_ROOT": str(self.folder)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        calls = (self.folder / "calls").read_text().splitlines()
        return (
            done.returncode,
            done.stdout,
            [call for call in calls if not call.startswith((*LOOKS, "nvidia-smi", "uname"))],
        )

    def installs(self, calls: list[str]) -> list[str]:
        return [call.rpartition(" -y ")[2] for call in calls if call.startswith("apt-get") and " install " in call]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_from_nothing_over_the_reboot_to_a_run_that_changes_nothing(machine: Machine) -> None:
    # When it is run on a fresh machine
    status, said, calls = machine.run()
    # Then driver and toolkit are installed, Docker is told without a restart, and a reboot is asked for
    assert status == 0, said
    keyring, driver, toolkit = machine.installs(calls)
    assert keyring.endswith("/cuda-keyring_1.1-1_all.deb")
    assert (driver, toolkit) == ("linux-headers-6.1.0-cloud nvidia-open", "nvidia-container-toolkit")
    assert any("/cuda/repos/debian12/x86_64/cuda-keyring_1.1-1_all.deb" in call for call in calls)
    key = "/usr/share/keyrings/nvidia-container-toolkit-keyring.asc"
    assert machine.list.read_text() == (
        f"deb [signed-by={key}] https://nvidia.github.io/libnvidia-container/stable/deb/amd64 /\n"
    )
    assert Path(f"{machine.folder}{key}").read_text() == "key\n"
    assert calls[-2:] == ["nvidia-ctk runtime configure --runtime=docker", "systemctl reload docker"]
    assert "sudo reboot" in said

    # When it is run again before the reboot, then nothing is done but to ask for it
    status, said, calls = machine.run()
    assert (status, calls) == (0, []), said
    assert "sudo reboot" in said

    # When it is run after the reboot, then all is well
    (machine.folder / "driver_loaded").touch()
    status, said, calls = machine.run()
    assert (status, calls) == (0, []), said
    assert "the driver works: GPU 0: Tesla T4" in said
    assert "env_setup: done" in said


def test_a_dry_run_says_it_and_changes_nothing(machine: Machine) -> None:
    (machine.folder / "uid").write_text("1000\n")
    before = sorted(machine.folder.rglob("*"))
    status, said, calls = machine.run("--dry-run")
    assert (status, calls) == (0, []), said
    assert sorted(path for path in machine.folder.rglob("*") if path.name != "calls") == before
    for change in ("install -y linux-headers-6.1.0-cloud nvidia-open", "runtime configure", "reload docker"):
        assert change in said


def test_the_driver_can_be_left_alone(machine: Machine) -> None:
    status, said, calls = machine.run("--skip-driver")
    assert (status, machine.installs(calls)) == (0, ["nvidia-container-toolkit"]), said
    assert "reboot" not in said


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("uid", "1000\n", "must be run as root"),
        ("free_kib", "1000\n", "MiB are free"),
        ("secure_boot", "SecureBoot enabled\n", "Secure Boot is on"),
        ("etc/os-release", "ID=fedora\nVERSION_ID=41\n", "this is fedora41"),
        ("sys/bus/pci/devices/0000:00:04.0/vendor", "0x8086\n", "no NVIDIA GPU"),
        ("broken/curl", "", "gpgkey cannot be reached"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_changed(
    machine: Machine, file: str, text: str, problem: str
) -> None:
    (machine.folder / file).write_text(text)
    status, said, calls = machine.run()
    assert (status, calls) == (1, [])
    assert "nothing was changed" in said
    assert problem in said


def test_a_failed_installation_is_an_error_and_is_made_up_for_by_the_next_run(machine: Machine) -> None:
    broken = machine.folder / "broken" / "apt-get"
    broken.touch()
    assert machine.run("--skip-driver")[0] != 0
    broken.unlink()
    status, said, calls = machine.run("--skip-driver")
    assert (status, machine.installs(calls)) == (0, ["nvidia-container-toolkit"]), said


def test_a_docker_that_does_not_take_the_runtime_is_an_error(machine: Machine) -> None:
    (machine.folder / "broken" / "docker").touch()
    status, said, _ = machine.run("--skip-driver")
    assert status == 1
    assert "systemctl restart docker" in said
