"""Memory of a machine, and of containers under both versions of the kernel's control groups."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from enlight.servicekit.host_memory import MemoryUse, host_memory

MIB = 1 << 20
MEMINFO = "MemTotal:        8388608 kB\nMemFree:          524288 kB\nMemAvailable:    6291456 kB\nHugePages_Total:  0\n"
MACHINE = MemoryUse(2048 * MIB, 8192 * MIB)
NO_LIMIT = {"": "max", "memory/": str(2**63 - 4096)}
"""As the two versions say it, by where their files are."""
NAMES = {
    "": ("memory.max", "memory.current", "inactive_file"),
    "memory/": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text(MEMINFO)
    return tmp_path / "proc"


def write(cgroup: Path, version: str, limit: str) -> Path:
    limit_name, usage_name, cached_name = NAMES[version]
    folder = cgroup / version
    folder.mkdir(parents=True)
    (folder / limit_name).write_text(f"{limit}\n")
    (folder / usage_name).write_text(f"{700 * MIB}\n")
    (folder / "memory.stat").write_text(f"anon 1\n{cached_name} {200 * MIB}\n")
    return cgroup


@pytest.mark.parametrize("version", NAMES)
def test_a_container_s_limit_counts_and_its_cached_files_are_free(proc: Path, tmp_path: Path, version: str) -> None:
    cgroup = write(tmp_path / "cgroup", version, str(1024 * MIB))
    assert host_memory(proc, cgroup) == MemoryUse(500 * MIB, 1024 * MIB)


@pytest.mark.parametrize("version", NAMES)
def test_without_a_limit_it_is_the_machine(proc: Path, tmp_path: Path, version: str) -> None:
    assert host_memory(proc, write(tmp_path / "cgroup", version, NO_LIMIT[version])) == MACHINE
    assert host_memory(proc, tmp_path / "none") == MACHINE


def test_a_limit_above_the_machine_is_none(proc: Path, tmp_path: Path) -> None:
    assert host_memory(proc, write(tmp_path / "cgroup", "", str(16384 * MIB))) == MACHINE


def test_this_machine_has_memory_of_which_some_is_used() -> None:
    memory = host_memory()
    assert 0 < memory.used_bytes < memory.total_bytes <= psutil.virtual_memory().total
