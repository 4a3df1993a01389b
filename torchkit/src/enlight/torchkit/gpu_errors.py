"""Which errors of torch mean that memory is short, and which that the CUDA context is of no use any more."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from enlight.servicekit.errors import OutOfGpuMemory
from enlight.servicekit.task_pool import WorkerBroken

_OUT_OF_MEMORY_TEXTS = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
_DEVICE_FAULT_TEXTS = ("CUDA error", "CUBLAS_STATUS_", "CUDNN_STATUS_", "cuDNN error", "CUDA driver error")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether there was too little GPU memory; the context is intact."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY_TEXTS)
    )


def is_device_fault(error: BaseException) -> bool:
    """Whether a kernel or the device failed: every later call in this process would fail too."""
    if is_out_of_memory(error) or not isinstance(error, RuntimeError):
        return False
    accelerator_error = getattr(torch, "AcceleratorError", None)  # since torch 2.8
    return (accelerator_error is not None and isinstance(error, accelerator_error)) or any(
        text in str(error) for text in _DEVICE_FAULT_TEXTS
    )


@contextmanager
def named_gpu_errors() -> Iterator[None]:
    """Gives torch's errors their names.

    Raises:
        OutOfGpuMemory: memory was short; what torch kept for later is given back first.
        WorkerBroken: the device failed.
    """
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            torch.cuda.empty_cache()
            raise OutOfGpuMemory("This does not fit into the GPU's memory, alone or beside what runs now.") from error
        if is_device_fault(error):
            raise WorkerBroken(f"the GPU failed: {error}") from error
        raise
