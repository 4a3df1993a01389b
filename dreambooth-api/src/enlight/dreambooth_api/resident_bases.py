"""The base models that are loaded: networks on the device, which take a trained model's weights in place."""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from enlight.dreambooth_api.pipelines import StableDiffusion
from enlight.dreambooth_api.pure.schedulers import UnknownSchedulerError, make_scheduler
from enlight.dreambooth_api.requests import Base
from enlight.dreambooth_api.weight_buffers import WeightBuffers
from enlight.servicekit.errors import CorruptModel


class LoadBase(Protocol):
    """Loads a base's networks from its folder."""

    def __call__(self, folder: Path, *, device: torch.device, weights_dtype: torch.dtype) -> StableDiffusion:
        """As ``StableDiffusion.load``."""
        ...


@dataclass(frozen=True)
class ResidentBase:
    """A loaded base."""

    base: Base
    pipeline: StableDiffusion
    buffers: WeightBuffers
    scheduler: str
    """Class name of its scheduler."""


class ResidentBases:
    """Loads bases when they are needed and keeps the most recently used.

    Args:
        device: Where the networks go.
        max_bases: How many are kept.
        load: Loads one.
    """

    def __init__(self, device: torch.device, max_bases: int, load: LoadBase = StableDiffusion.load) -> None:
        self._device = device
        self._max_bases = max(1, max_bases)
        self._load = load
        self._bases: OrderedDict[str, ResidentBase] = OrderedDict()

    @property
    def names(self) -> list[str]:
        """What is loaded, least recently used first."""
        return list(self._bases)

    def get(self, base: Base) -> ResidentBase:
        """The loaded base; the least recently used one makes room for it first.

        Raises:
            WeightsUnavailable: its folder lacks something.
            CorruptModel: a file of it cannot be used.
        """
        resident = self._bases.get(base.name)
        if resident is None:
            self._keep_newest(self._max_bases - 1)
            resident = self._bases[base.name] = self._load_resident(base)
        self._bases.move_to_end(base.name)
        return resident

    def keep_only_newest(self) -> None:
        """Gives back the memory of all bases but the one in use."""
        self._keep_newest(1)

    def _keep_newest(self, count: int) -> None:
        while len(self._bases) > count:
            self._bases.popitem(last=False)

    def _load_resident(self, base: Base) -> ResidentBase:
        on_gpu = self._device.type == "cuda"
        pipeline = self._load(
            base.folder, device=self._device, weights_dtype=torch.float16 if on_gpu else torch.float32
        )
        try:
            scheduler = make_scheduler(pipeline.scheduler_config)
        except UnknownSchedulerError as error:
            raise CorruptModel(
                f"The base model {base.name} cannot be used: {error}: fetch the base model again"
            ) from error
        if on_gpu:
            for network in (pipeline.unet, pipeline.vae):
                network.to(memory_format=torch.channels_last)  # type: ignore[call-arg]
        weights = {f"unet.{name}": tensor for name, tensor in pipeline.unet.state_dict().items()}
        for name, tensor in pipeline.text_encoder.state_dict().items():
            weights["text_encoder." + re.sub(r"^text_model\.", "", name)] = tensor
        return ResidentBase(
            base=base,
            pipeline=pipeline,
            buffers=WeightBuffers(base.name, base.revision, weights),
            scheduler=type(scheduler).__name__,
        )
