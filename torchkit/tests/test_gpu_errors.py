"""Memory that is short against a device that failed."""

from __future__ import annotations

import pytest
import torch

from enlight.torchkit.gpu_errors import is_device_fault, is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate(handle)"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    ],
)
def test_short_memory_is_no_fault(error: Exception) -> None:
    assert is_out_of_memory(error)
    assert not is_device_fault(error)


@pytest.mark.parametrize(
    "error",
    [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: device-side assert triggered"),
        RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
    ],
)
def test_a_fault_is_not_short_memory(error: Exception) -> None:
    assert is_device_fault(error)
    assert not is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("CUDA error")])
def test_a_bug_is_neither(error: Exception) -> None:
    assert not is_device_fault(error)
    assert not is_out_of_memory(error)
