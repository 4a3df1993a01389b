"""Devices by name."""

from __future__ import annotations

import pytest
import torch

from enlight.servicekit.errors import JobFailed
from enlight.torchkit.device import choose_device, device_state


def test_devices_by_name() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(JobFailed, match="cuda:63"):
        choose_device("cuda:63")


def test_a_cpu_holds_no_gpu_memory() -> None:
    assert device_state(torch.device("cpu")) == {"device": "cpu", "device_name": "CPU", "gpu_memory_bytes": 0}
