"""The networks in memory: each loaded when it is first asked for, once, from checked weights, and shared.

They are rembg's local sessions on onnxruntime. rembg looks for a missing file on the network, and knows sessions that
send pictures elsewhere for money; neither can be reached from here: only the classes named below are built, and each
is given its file.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
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

from enlight.bgrem.requests import ModelName, WorkerConfig
from enlight.bgrem.weights import MODELS, SETTING, Model
from enlight.servicekit.errors import CorruptModel, OutOfGpuMemory
from enlight.servicekit.task_pool import WorkerBroken
from enlight.servicekit.weight_files import WeightFolder

logger = logging.getLogger(__name__)

_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_SESSIONS: dict[ModelName, type[BaseSession]] = {
    "u2net": U2netSession,
    "u2net_cloth_seg": Unet2ClothSession,
    "u2net_human_seg": U2netHumanSegSession,
    "silueta": SiluetaSession,
    "u2netp": U2netpSession,
}
_UPSAMPLING = b'"\x12pytorch_half_pixel'
_PLAIN_UPSAMPLING = b'"\nhalf_pixel' + b"j\x06plain."
"""A field of an ONNX file, and what goes in its place: as long, because a field that nobody reads follows."""
_OUT_OF_MEMORY = ("out of memory", "Failed to allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")


class Network:
    """One network in memory; may be used from several threads at once."""

    def __init__(self, model: Model, session: onnxruntime.InferenceSession) -> None:
        self.model = model
        self._session = session
        self._input = session.get_inputs()[0].name
        self._output = session.get_outputs()[0].name

    @property
    def on_gpu(self) -> bool:
        """Whether it runs on a GPU."""
        return _CUDA in self._session.get_providers()

    def predict(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(classes, side, side) of a (1, 3, side, side) input: the first output, all others are for training.

        Raises:
            OutOfGpuMemory: the GPU's memory is short.
            WorkerBroken: the GPU failed.
        """
        try:
            (output,) = self._session.run([self._output], {self._input: values})
        except Exception as error:
            if not self.on_gpu:
                raise
            if any(text in str(error) for text in _OUT_OF_MEMORY):
                raise OutOfGpuMemory("The GPU's memory is short; come again when it is less busy.") from error
            raise WorkerBroken(f"the GPU failed: {error}") from error
        result: npt.NDArray[np.float32] = output[0]
        return result


class Networks:
    """All networks of a worker.

    Args:
        config: Where the weights are, and what runs them.
        threads: Of one network on a CPU.

    Raises:
        RuntimeError: the settings name a GPU that onnxruntime does not have.
    """

    def __init__(self, config: WorkerConfig, *, threads: int) -> None:
        self._weights = WeightFolder(config.weights_folder, setting=SETTING, sha256=config.weights_sha256)
        self._device = config.device
        self._providers = _providers(config.device)
        self._threads = threads
        self._locks = {name: threading.Lock() for name in MODELS}
        self._loaded: dict[ModelName, Network] = {}

    @property
    def loaded(self) -> list[str]:
        """Names of the networks in memory."""
        return sorted(self._loaded)

    @property
    def providers(self) -> list[str]:
        """What onnxruntime tries, the best first."""
        return [provider if isinstance(provider, str) else provider[0] for provider in self._providers]

    @property
    def on_gpu(self) -> bool:
        """Whether onnxruntime is to run them on a GPU."""
        return _CUDA in self.providers

    def get(self, name: ModelName) -> Network:
        """The network, loaded at the first call; who comes meanwhile waits for it.

        Raises:
            WeightsUnavailable: its file is not there; the next call looks again.
            CorruptModel: its file is not the published one, or no such network.
        """
        with self._locks[name]:
            network = self._loaded.get(name)
            if network is None:
                network = self._load(MODELS[name])
                self._loaded[name] = network
            return network

    def _load(self, model: Model) -> Network:
        path = self._weights.find(model.weights)
        try:
            with _plainly_upsampling(path) as network_path:
                session = _local_session(_SESSIONS[model.name], network_path)(
                    model.name, self._options(), providers=list(self._providers)
                ).inner_session
        except Exception as error:
            raise _not_a_network(model, "onnxruntime cannot load them") from error
        _check_shapes(model, session)
        network = Network(model, session)
        if self._device.startswith("cuda") and not network.on_gpu:
            raise WorkerBroken(f"BGREM_DEVICE is {self._device}, and onnxruntime could not use the GPU")
        logger.info("%s loaded", model.name, extra={"providers": session.get_providers()})
        return network

    def _options(self) -> onnxruntime.SessionOptions:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        # Threads that spin between two operations take the cores from the pictures that are decoded meanwhile.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options


def _providers(device: str) -> list[Any]:
    available = onnxruntime.get_available_providers()
    if device == "cpu" or (device == "auto" and _CUDA not in available):
        return [_CPU]
    if _CUDA not in available:
        raise RuntimeError(f"BGREM_DEVICE is {device}, and this onnxruntime has no CUDA; install onnxruntime-gpu")
    _, _, number = device.partition(":")
    return [(_CUDA, {"device_id": int(number or 0)}), _CPU]


@contextmanager
def _plainly_upsampling(path: Path) -> Iterator[Path]:
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
        """rembg's session, on a file that is there."""

        @classmethod
        def download_models(cls, *args: object, **kwargs: object) -> str:
            """The file; rembg's own would look for it, and ask the network."""
            return str(path)

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
