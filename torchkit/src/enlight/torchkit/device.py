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
    """What a worker publishes of its device: name and memory held, for ``/ready`` and ``/metrics``."""
    on_gpu = device.type == "cuda"
    return {
        "device": str(device),
        "device_name": torch.cuda.get_device_name(device) if on_gpu else "CPU",
        "gpu_memory_bytes": torch.cuda.memory_reserved(device) if on_gpu else 0,
    }
