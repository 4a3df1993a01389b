"""CUDA in onnxruntime, as far as it shows without a GPU: what its errors mean."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from enlight.bgrem.cuda import ONE_PIXEL, named_gpu_errors
from enlight.servicekit.errors import OutOfGpuMemory
from enlight.servicekit.task_pool import WorkerBroken


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("CUDA failure 2: out of memory ; GPU=0 ; expr=cudaSetDevice(info_.device_id);", OutOfGpuMemory),
        ("Conv node. Name:'Conv_0' Status Message: CUDA error cudaErrorMemoryAllocation:out of memory", OutOfGpuMemory),
        ("bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 13107200", OutOfGpuMemory),
        ("CUBLAS failure 3: the resource allocation failed ; expr=cublasCreate(&cublas_handle_);", OutOfGpuMemory),
        ("CUDNN failure 4000: CUDNN_STATUS_INTERNAL_ERROR ; expr=cudnnCreate(&cudnn_handle_);", OutOfGpuMemory),
        ("CUDNN failure 4004: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED ; GPU=0", OutOfGpuMemory),
        ("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED ; GPU=0", OutOfGpuMemory),
        ("CUDNN failure 4000: CUDNN_STATUS_INTERNAL_ERROR ; expr=cudnnConvolutionForward(", WorkerBroken),
        ("CUDNN_FE failure 11: CUDNN_BACKEND_API_FAILED ; expr=s_.cudnn_fe_graph->execute(", WorkerBroken),
        ("CUDA failure 700: an illegal memory access was encountered ; GPU=0", WorkerBroken),
        ("Load model from u2netp.onnx failed: Protobuf parsing failed.", ValueError),
    ],
)
def test_errors_of_onnxruntime_are_told_apart(text: str, error: type[Exception]) -> None:
    """Most texts are those of onnxruntime 1.31.1 on an H100, shortened; the others are made of the libraries' names."""
    with pytest.raises(error), named_gpu_errors():
        raise ValueError(text)


def test_the_network_that_is_tried_is_one() -> None:
    session = onnxruntime.InferenceSession(ONE_PIXEL, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": np.full((1, 1, 1, 1), 3, np.float32)})
    assert found == 3
