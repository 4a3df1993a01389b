"""How full the memory is in which this process computes: the container's, where it has a limit, else the machine's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryUse:
    """Used by whomever, of what there is."""

    used_bytes: int
    total_bytes: int


def host_memory(proc: Path = _PROC, cgroup: Path = _CGROUP) -> MemoryUse:
    """The memory of the container, or of the machine. What could be given up for others at once is not used."""
    machine = _of_machine(proc)
    # Version 2 of the control groups, then version 1, in which no limit is a number beyond any machine.
    for folder, limit, usage, inactive in (
        (cgroup, "memory.max", "memory.current", "inactive_file"),
        (cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit_bytes, used_bytes = _number(folder / limit), _number(folder / usage)
        if limit_bytes is not None and used_bytes is not None and limit_bytes < machine.total_bytes:
            cached_bytes = _table(folder / "memory.stat").get(inactive, 0)
            return MemoryUse(max(0, used_bytes - cached_bytes), limit_bytes)
    return machine


def _of_machine(proc: Path) -> MemoryUse:
    kib = _table(proc / "meminfo")
    total_bytes, available_bytes = kib["MemTotal:"] * 1024, kib["MemAvailable:"] * 1024
    return MemoryUse(total_bytes - available_bytes, total_bytes)


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _table(path: Path) -> dict[str, int]:
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdecimal()}
