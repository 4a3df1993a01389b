"""How much memory a tile may take where nobody says."""

from __future__ import annotations

from pathlib import Path

import torch

GIB = 1024**3
CPU_MOST_BYTES = 4 * GIB
_LIMIT_FILES = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def default_budget_bytes(device: torch.device) -> int:
    """Half of what is free on a GPU; on a CPU a quarter of the machine's or the container's memory, 4 GiB at most."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        kept_by_torch = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return (free + kept_by_torch) // 2
    return min(CPU_MOST_BYTES, machine_memory_bytes() // 4)


def machine_memory_bytes(meminfo: Path = Path("/proc/meminfo"), limits: tuple[Path, ...] = _LIMIT_FILES) -> int:
    """Memory of the machine, or of the container where that has less."""
    total = int(next(line.split()[1] for line in meminfo.read_text().splitlines() if line.startswith("MemTotal:")))
    given = [total * 1024]
    given += [int(text) for path in limits if path.is_file() and (text := path.read_text().strip()).isdigit()]
    return min(given)
