"""The networks in memory: each loaded when it is first asked for, once, from checked weights, and shared.

On a CPU a network runs in MNN where that says the same as onnxruntime, which has every network on a GPU, and on a CPU
those that MNN cannot have.
"""

from __future__ import annotations

import logging
import threading
from typing import Protocol

import numpy as np
import numpy.typing as npt

from enlight.bgrem.network_trial import check_same, trial_picture
from enlight.bgrem.onnxruntime_network import OnnxruntimeNetwork, choose_providers
from enlight.bgrem.requests import ModelName, WorkerConfig
from enlight.bgrem.weights import MODELS, SETTING, Model
from enlight.bgrem.winograd_network import WinogradNetwork
from enlight.servicekit.weight_files import WeightFolder

logger = logging.getLogger(__name__)


class Network(Protocol):
    """One network in memory; may be used from several threads at once."""

    model: Model
    engine: str

    @property
    def shared(self) -> bool:
        """Whether it is for all pictures, whatever threads they have."""

    def predict(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(classes, side, side) of a (1, 3, side, side) input: the first output, all others are for training."""


class Networks:
    """All networks of a worker.

    Args:
        config: Where the weights are, and what runs them.
        threads: On a CPU, of a picture that is alone.

    Raises:
        RuntimeError: the settings name a GPU that onnxruntime cannot use.
    """

    def __init__(self, config: WorkerConfig, *, threads: int) -> None:
        self._weights = WeightFolder(config.weights_folder, setting=SETTING, sha256=config.weights_sha256)
        self._providers = choose_providers(config.device)
        self._cpu_engine = config.cpu_engine
        self._threads = threads
        self._turn = threading.Lock()
        self._locks = {name: threading.Lock() for name in MODELS}
        # by the threads of a picture, those of one that is alone first; below a network's lock
        self._loaded: dict[ModelName, dict[int, Network]] = {name: {} for name in MODELS}

    @property
    def engines(self) -> dict[str, str]:
        """What runs each network that is in memory: ``mnn`` or ``onnxruntime``."""
        return {name: loaded[self._threads].engine for name, loaded in self._loaded.items() if loaded}

    @property
    def device(self) -> str:
        """What networks run on, as the setting calls it."""
        provider = self._providers[0]
        return "cpu" if isinstance(provider, str) else f"cuda:{provider[1]['device_id']}"

    @property
    def providers(self) -> list[str]:
        """What onnxruntime runs networks with, the best first."""
        return [provider if isinstance(provider, str) else provider[0] for provider in self._providers]

    def get(self, name: ModelName, *, threads: int | None = None) -> Network:
        """The network, loaded at the first call; who comes meanwhile waits for it.

        ``threads`` are those of the picture, by default of one that is alone. Where the network is not for all
        pictures, there is another one for each number of threads.

        Raises:
            WeightsUnavailable: its file is not there; the next call looks again.
            CorruptModel: its file is not the published one, or no such network.
        """
        threads = threads or self._threads
        with self._locks[name]:
            loaded = self._loaded[name]
            if not loaded:
                network = loaded[self._threads] = self._load(MODELS[name])
                logger.info("%s loaded", name, extra={"engine": network.engine, "providers": self.providers})
            if loaded[self._threads].shared:
                return loaded[self._threads]
            if threads not in loaded:
                loaded[threads] = self._in_onnxruntime(MODELS[name], threads)
            return loaded[threads]

    def _load(self, model: Model) -> Network:
        plain = self._in_onnxruntime(model, self._threads)
        if self._cpu_engine == "onnxruntime" or plain.on_gpu:
            return plain
        picture = trial_picture(model.input_px)
        expected, output_name = plain.predict(picture), plain.output_name
        del plain  # before the other one comes: the weights are never in memory twice
        try:
            network = WinogradNetwork(
                model,
                self._weights.find(model.weights),
                output_name=output_name,
                threads=self._threads,
                turn=self._turn,
            )
            check_same(network.predict(picture), expected)
        except Exception as error:  # noqa: BLE001 -- slower, not wrong: no reason to serve nothing
            logger.warning("%s runs in onnxruntime, at two thirds of the speed: %s", model.name, error)
            return self._in_onnxruntime(model, self._threads)
        return network

    def _in_onnxruntime(self, model: Model, threads: int) -> OnnxruntimeNetwork:
        path = self._weights.find(model.weights)
        return OnnxruntimeNetwork(model, path, providers=self._providers, threads=threads)
