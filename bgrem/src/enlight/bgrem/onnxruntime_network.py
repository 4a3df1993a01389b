"""A network in onnxruntime, as rembg's local session has it.

rembg looks for a missing file on the network, and knows sessions that send pictures elsewhere for money; neither can be
reached from here: only the classes named below are built, and each is given its file.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from rembg.sessions.base import BaseSession
from rembg.sessions.silueta import SiluetaSession
from rembg.sessions.u2net import U2netSession
from rembg.sessions.u2net_cloth_seg import Unet2ClothSession
from rembg.sessions.u2net_human_seg import U2netHumanSegSession
from rembg.sessions.u2netp import U2netpSession

from enlight.bgrem.cuda import CUDA, cuda_provider, named_gpu_errors, try_out
from enlight.bgrem.requests import ModelName
from enlight.bgrem.weights import SETTING, Model
from enlight.servicekit.errors import CorruptModel, OutOfGpuMemory
from enlight.servicekit.task_pool import WorkerBroken

logger = logging.getLogger(__name__)

CPU = "CPUExecutionProvider"
SESSIONS: dict[ModelName, type[BaseSession]] = {
    "u2net": U2netSession,
    "u2net_cloth_seg": Unet2ClothSession,
    "u2net_human_seg": U2netHumanSegSession,
    "silueta": SiluetaSession,
    "u2netp": U2netpSession,
}
_UPSAMPLING = b'"\x12pytorch_half_pixel'
_PLAIN_UPSAMPLING = b'"\nhalf_pixel' + b"j\x06plain."
"""A field of an ONNX file, and what goes in its place: as long, because a field that nobody reads follows."""


class OnnxruntimeNetwork:
    """One network in memory; may be used from several threads at once.

    Args:
        model: What it is.
        path: Its file, checked.
        providers: What onnxruntime tries, the best first.
        threads: On a CPU, those of one picture.

    Raises:
        CorruptModel: the file is no network, or another one.
        OutOfGpuMemory: the GPU's memory is short.
        WorkerBroken: the GPU failed.
    """

    engine = "onnxruntime"

    def __init__(self, model: Model, path: Path, *, providers: Sequence[Any], threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        # Threads that spin between two operations take the cores from the pictures that are decoded meanwhile.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            with plainly_upsampling(path) as network_path, named_gpu_errors():
                self._session = _local_session(SESSIONS[model.name], network_path)(options, providers).inner_session
        except (OutOfGpuMemory, WorkerBroken):
            raise
        except Exception as error:
            raise _not_a_network(model, "onnxruntime cannot load them") from error
        _check_shapes(model, self._session)
        self.model = model
        self._input = self._session.get_inputs()[0].name
        self.output_name: str = self._session.get_outputs()[0].name

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on a GPU."""
        return CUDA in self._session.get_providers()

    @property
    def shared(self) -> bool:
        """Whether it is for all pictures: on a CPU it is for those with as many threads as it has."""
        return self.on_gpu

    def predict(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(classes, side, side) of a (1, 3, side, side) input: the first output, all others are for training.

        Raises:
            OutOfGpuMemory: the GPU's memory is short.
            WorkerBroken: the GPU failed.
        """
        try:
            return self._run(values)
        except OutOfGpuMemory:
            # The want of memory may be an earlier call's: CUDA tells a thread of it once more, at its next kernel.
            return self._run(values)

    def _run(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with named_gpu_errors():
            (output,) = self._session.run([self.output_name], {self._input: values})
        result: npt.NDArray[np.float32] = output[0]
        return result


def choose_providers(device: str) -> list[Any]:
    """What onnxruntime is to try on this device of the settings, the best first.

    Raises:
        RuntimeError: it names a GPU that onnxruntime cannot use.
    """
    available = onnxruntime.get_available_providers()
    if device == "cpu" or (device == "auto" and CUDA not in available):
        return [CPU]
    if CUDA not in available:
        raise RuntimeError(f"BGREM_DEVICE is {device}, and this onnxruntime has no CUDA; install onnxruntime-gpu")
    _, _, number = device.partition(":")
    provider = cuda_provider(int(number or 0))
    try:
        try_out(provider)
    except OutOfGpuMemory:
        logger.warning("the GPU's memory is short; the networks run there as soon as it is not")
    except RuntimeError as error:
        if device != "auto":
            raise RuntimeError(f"BGREM_DEVICE is {device}, and onnxruntime cannot use the GPU: {error}") from error
        logger.warning("the networks run on the CPU; onnxruntime has CUDA, but cannot use a GPU: %s", error)
        return [CPU]
    return [provider, CPU]


@contextmanager
def plainly_upsampling(path: Path) -> Iterator[Path]:
    """The network's file, in memory, with PyTorch's upsampling named as the usual one; gone when this ends.

    The two differ in outputs of a single pixel only, which these networks do not have, and in the order of a sum. But
    onnxruntime's blocked layout for CPUs knows the usual one alone; for the other all that is upsampled is brought
    into the plain layout and back, a tenth of the network's time.
    """
    # A file, because a session that is given bytes keeps them.
    with os.fdopen(os.memfd_create(path.name), "wb") as file:
        file.write(path.read_bytes().replace(_UPSAMPLING, _PLAIN_UPSAMPLING))
        file.flush()
        yield Path(f"/proc/self/fd/{file.fileno()}")


def _local_session(base: type[BaseSession], path: Path) -> type[BaseSession]:
    class LocalSession(base):  # type: ignore[misc]
        """rembg's session, on a file that is there and the device that was named."""

        def __init__(self, options: onnxruntime.SessionOptions, providers: Sequence[Any]) -> None:
            # rembg's own asks the network for the file, and lets onnxruntime go on without a GPU whose memory is short.
            self.inner_session = onnxruntime.InferenceSession(
                str(path), options, providers=list(providers), enable_fallback=0
            )

    return LocalSession


def _check_shapes(model: Model, session: onnxruntime.InferenceSession) -> None:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    side = model.input_px
    if len(inputs) != 1 or list(inputs[0].shape) != [1, 3, side, side]:
        raise _not_a_network(model, f"their input is not one of 1 x 3 x {side} x {side}")
    if list(outputs[0].shape) != [1, model.classes, side, side]:
        raise _not_a_network(model, f"their first output is not 1 x {model.classes} x {side} x {side}")


def _not_a_network(model: Model, reason: str) -> CorruptModel:
    return CorruptModel(
        f"The weights {model.weights.name} are not the network {model.name}: {reason}. Get the file again: "
        f"{model.weights.source}.",
        details={"file": model.weights.name, "setting": SETTING},
    )
