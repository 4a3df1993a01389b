"""Which device a worker runs on."""

from __future__ import annotations

import torch

from enlight.servicekit.errors import JobFailed

DEVICE_PATTERN = r"auto|cpu|cuda(:\d+)?"


def choose_device(name: str) -> torch.device:
    """The device that the setting names; ``auto`` is the first GPU, or the CPU without one.

    Raises:
        JobFailed: there is no such device.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    device = torch.device("cuda:0" if name in ("auto", "cuda") else name)
    if (device.index or 0) >= torch.cuda.device_count():
        raise JobFailed(f"There is no device {name} on this machine; the device setting names it.")
    torch.cuda.set_device(device)
    torch.zeros(1, device=device)  # makes the context now, so that a GPU that is not there is noticed at the start
    return device


def device_state(device: torch.device) -> dict[str, object]:
    """What a worker publishes of its device, for ``/ready``, ``/metrics`` and ``/v1/status``.

    That is its name, what this process holds of a GPU's memory, and what everybody does.
    """
    if device.type != "cuda":
        return {"device": str(device), "device_name": "CPU", "gpu_memory_bytes": 0}
    free_bytes, total_bytes = torch.cuda.mem_get_info(device)
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device),
        "gpu_memory_bytes": torch.cuda.memory_reserved(device),
        "device_memory_used_bytes": total_bytes - free_bytes,
        "device_memory_total_bytes": total_bytes,
    }
