"""A GPU with little memory, for tests of what happens when it runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def room_bytes(more_bytes: int, device: torch.device) -> Iterator[None]:
    """Lets this process allocate so much more GPU memory than it holds now."""
    torch.cuda.empty_cache()
    total_bytes = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(device) + more_bytes) / total_bytes, device)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)


@contextmanager
def left_bytes(free_bytes: int, device: torch.device) -> Iterator[None]:
    """Takes the GPU's memory from all processes, until so much is left."""
    torch.cuda.empty_cache()
    torch.cuda.synchronize(device)  # makes the context first, which takes memory itself
    taken_bytes = torch.cuda.mem_get_info(device)[0] - free_bytes
    ballast = torch.empty(taken_bytes, dtype=torch.uint8, device=device)
    try:
        yield
    finally:
        del ballast
        torch.cuda.empty_cache()
