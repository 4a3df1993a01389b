"""CUDA in onnxruntime: whether it works here, how it is set up, and what its errors mean."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import onnxruntime

from enlight.servicekit.errors import OutOfGpuMemory
from enlight.servicekit.task_pool import WorkerBroken

CUDA = "CUDAExecutionProvider"
Provider = tuple[str, dict[str, str]]
ONE_PIXEL = bytes.fromhex(
    "08083a630a0f0a01780a01771201792204436f6e761201672a13080108010801080110014201774a040000803f5a1b0a017812160a14080112100a"
    "0208010a0208010a0208010a020801621b0a017912160a14080112100a0208010a0208010a0208010a0208014202100d"
)
"""A network as an ONNX file: ``y`` is the convolution of the one pixel ``x`` with a one."""
_OUT_OF_MEMORY = re.compile(
    "out of memory|Failed to allocate memory|the resource allocation failed|ALLOC(ATION)?_FAILED"
    "|CUDNN_STATUS_INTERNAL_ERROR.*expr=cudnnCreate"
)
"""As CUDA, onnxruntime, cuBLAS and cuDNN say it."""
_GPU_FAILED = re.compile("CUDA failure|CUDA error|CUBLAS|CUDNN")


def cuda_provider(number: int) -> Provider:
    """onnxruntime's provider for the GPU of that number."""
    # onnxruntime's own choice is TF32: up to twice as fast, with masks up to twenty levels from those of a CPU.
    return CUDA, {"device_id": str(number), "use_tf32": "0"}


def try_out(provider: Provider) -> None:
    """Runs a network of one pixel with it; its libraries and the GPU are needed for that as for any other.

    Raises:
        OutOfGpuMemory: the GPU is there; its memory is short.
        RuntimeError: onnxruntime cannot use the GPU.
    """
    # Those of the packages of NVIDIA, which no linker finds; what is not there is left to the linker.
    onnxruntime.preload_dlls()
    try:
        with named_gpu_errors():
            session = onnxruntime.InferenceSession(ONE_PIXEL, providers=[provider], enable_fallback=0)
            if CUDA not in session.get_providers():
                raise RuntimeError("its libraries cannot be loaded, or there is no GPU")
            session.run(None, {"x": np.ones((1, 1, 1, 1), np.float32)})
    except WorkerBroken as error:
        raise RuntimeError(str(error)) from error


@contextmanager
def named_gpu_errors() -> Iterator[None]:
    """Gives onnxruntime's errors on a GPU their names; others pass.

    Raises:
        OutOfGpuMemory: memory was short.
        WorkerBroken: the GPU failed.
    """
    try:
        yield
    except Exception as error:
        text = str(error)
        if _OUT_OF_MEMORY.search(text):
            raise OutOfGpuMemory("The GPU's memory is short; come again when it is less busy.") from error
        if _GPU_FAILED.search(text):
            raise WorkerBroken(f"the GPU failed: {text}") from error
        raise
