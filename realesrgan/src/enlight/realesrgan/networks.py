"""Networks from their files, loaded once, kept while they are used."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import torch
from spandrel import ModelLoader, UnsupportedModelError
from spandrel.architectures.Compact import Compact
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.GFPGAN import GFPGAN
from torch import Tensor, nn

from enlight.realesrgan.models import DEFAULT_DENOISE_STRENGTH, FACE_DETECTOR, FACE_RESTORER, ModelSpec
from enlight.realesrgan.pure.staged_networks import (
    NearestDouble,
    PublishedTrunk,
    StagedCompact,
    StagedNetwork,
    StagedRrdb,
    Trunk,
    interpolated,
)
from enlight.servicekit.errors import CorruptModel
from enlight.servicekit.weight_files import WeightFolder
from enlight.torchkit.gpu_errors import is_out_of_memory

FUSED_TRUNK_CAPABILITY = (9, 0)
"""The copy engine that the fused trunk's tiles come from; it was never run on GPUs without one."""
TRIAL_SHAPE = (1, 64, 37, 53)
TRIAL_TOLERANCE = 0.02
"""Of the largest value. Two right orders of fp16 sums are less than half of it apart."""

_log = logging.getLogger(__name__)


class NetworkKey(NamedTuple):
    """What makes a network another one."""

    model_name: str
    denoise_strength: float | None
    dtype: torch.dtype


class Networks:
    """The networks of a worker. Every method may be called from any thread.

    Args:
        folder: Of the weights.
        device: Where networks live.
        resident: At most so many are kept; the one that was not used for longest goes.
        fused: Whether an RRDBNet gets its fused trunk where that works.
    """

    def __init__(self, folder: WeightFolder, *, device: torch.device, resident: int, fused: bool = True) -> None:
        self._folder = folder
        self._device = device
        self._resident = resident
        self._fused = fused
        self._lock = threading.Lock()
        # below: under self._lock, which is held while a network is loaded: a second caller waits for the first's
        self._networks: OrderedDict[NetworkKey, StagedNetwork] = OrderedDict()
        self._restorer: GFPGAN | None = None

    @property
    def loaded(self) -> list[str]:
        """Names of the networks in memory."""
        return sorted({key.model_name for key in list(self._networks)} | ({"GFPGAN"} if self._restorer else set()))

    def get(self, spec: ModelSpec, *, denoise_strength: float | None, dtype: torch.dtype) -> StagedNetwork:
        """The network of a model, on the device.

        Raises:
            WeightsUnavailable: a file is not there; the error names it.
            CorruptModel: a file is not the published one, or not of this architecture.
        """
        strength = denoise_strength
        if spec.takes_denoise_strength and strength is None:
            strength = DEFAULT_DENOISE_STRENGTH
        key = NetworkKey(spec.name, strength, dtype)
        with self._lock:
            network = self._networks.pop(key, None) or self._load(spec, strength, dtype)
            self._networks[key] = network
            while len(self._networks) > self._resident:
                self._networks.popitem(last=False)
            return network

    def restorer(self) -> GFPGAN:
        """The network that restores faces; its weights stay fp32, as it was trained.

        Raises:
            WeightsUnavailable, CorruptModel: as `get`.
        """
        with self._lock:
            if self._restorer is None:
                path = self._folder.find(FACE_RESTORER)
                network = _module(path, read_state_dict(path))
                if not isinstance(network, GFPGAN):
                    raise _unexpected(path)
                self._restorer = network.to(self._device)
            return self._restorer

    def detector_path(self) -> Path:
        """File of the network that finds faces.

        Raises:
            WeightsUnavailable, CorruptModel: as `get`.
        """
        return self._folder.find(FACE_DETECTOR)

    def _load(self, spec: ModelSpec, strength: float | None, dtype: torch.dtype) -> StagedNetwork:
        path = self._folder.find(*spec.files)
        state = read_state_dict(path)
        if strength is not None and strength < 1:
            twin_path = self._folder.find(*spec.weak_denoise_files)
            state = _interpolated(path, state, twin_path, strength)
        network = staged(_module(path, state), device=self._device, dtype=dtype, fused=self._fused)
        if network is None or network.scale != spec.scale:
            raise _unexpected(path)
        return network


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Names and weights, of ``.safetensors`` or ``.pth``; a pickle may hold tensors and nothing else.

    Raises:
        CorruptModel: it cannot be read, or holds something else.
    """
    try:
        state: dict[str, Tensor] = ModelLoader().load_state_dict_from_file(path)
    except Exception as error:  # a broken or hostile file makes readers raise anything
        raise CorruptModel(f"The weights {path.name} cannot be read.", details={"file": path.name}) from error
    return state


def staged(module: nn.Module, *, device: torch.device, dtype: torch.dtype, fused: bool = True) -> StagedNetwork | None:
    """The network in stages, on the device; None for an architecture that is not of this family.

    ``fused``: with the fused trunk where it works.
    """
    module = module.to(device=device, dtype=dtype).to(memory_format=torch.channels_last)
    if isinstance(module, Compact):
        return StagedCompact(module, scale=module.upscale, convolutions=module.num_conv + 2)
    if isinstance(module, ESRGAN):
        head, skip, *tail = module.model.children()
        *blocks, body = skip.sub.children()
        published = [list(block.children()) for block in blocks]
        return StagedRrdb(
            head,
            (fused_trunk(published) if fused else None) or PublishedTrunk(published),
            body,
            nn.Sequential(*(NearestDouble() if _is_nearest_double(stage) else stage for stage in tail)),
            fold=module.shuffle_factor or 1,
            trunk_scale=module.scale,
        )
    return None


def fused_trunk(blocks: list[list[nn.Module]]) -> Trunk | None:
    """The blocks as one fused trunk, tried out; None, and a word in the log, where that does not work.

    It needs fp16, a GPU of NVIDIA's Hopper generation or later, and Triton with a C compiler, which it calls once.
    """
    weight = next(blocks[0][0].parameters())
    device = weight.device
    if device.type != "cuda" or weight.dtype != torch.float16:
        return None
    if torch.cuda.get_device_capability(device) < FUSED_TRUNK_CAPABILITY:
        return None
    try:
        # Only here: Triton does not come with torch's builds for CPUs.
        from enlight.realesrgan.pure.fused_trunk import FusedTrunk, fits

        if not fits(blocks):
            return None
        trunk = FusedTrunk(blocks)
        _compare(trunk, PublishedTrunk(blocks), device)
    except Exception as error:  # slower, not wrong: whatever a compiler may raise is no reason to serve nothing
        if is_out_of_memory(error):
            raise
        _log.warning("the network runs without its fused trunk, at about half of the speed: %s", error)
        return None
    return trunk


def _compare(trunk: Trunk, published: Trunk, device: torch.device) -> None:
    """Compiles the kernels, and raises ArithmeticError if what they compute is not what was published."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(TRIAL_SHAPE, generator=generator).to(device, torch.float16)
    features = features.contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected = published(features, _nothing)
        difference = (trunk(features, _nothing) - expected).abs().max()
        if not difference <= TRIAL_TOLERANCE * expected.abs().max():
            raise ArithmeticError(f"its result is wrong by {difference.item():.3g}")


def _nothing() -> None:
    pass


def _is_nearest_double(stage: nn.Module) -> bool:
    return isinstance(stage, nn.Upsample) and stage.mode == "nearest" and stage.scale_factor == 2


def _module(path: Path, state: dict[str, Tensor]) -> nn.Module:
    try:
        module: nn.Module = ModelLoader().load_from_state_dict(state).model
    except (UnsupportedModelError, RuntimeError, KeyError, ValueError) as error:
        raise _unexpected(path) from error
    return module.eval().requires_grad_(requires_grad=False)


def _interpolated(path: Path, state: dict[str, Tensor], twin_path: Path, strength: float) -> dict[str, Tensor]:
    try:
        return interpolated(state, read_state_dict(twin_path), strength)
    except ValueError as error:
        raise CorruptModel(
            f"The weights {path.name} and {twin_path.name} are not twins.", details={"file": twin_path.name}
        ) from error


def _unexpected(path: Path) -> CorruptModel:
    return CorruptModel(
        f"The weights {path.name} are not of the network that this name stands for.", details={"file": path.name}
    )
