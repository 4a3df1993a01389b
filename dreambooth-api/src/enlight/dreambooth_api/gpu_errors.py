"""Which errors of torch mean that memory is short, and which that the CUDA context is of no use any more."""

from __future__ import annotations

import torch

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
