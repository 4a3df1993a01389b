"""Small networks of the same architectures, with random weights, and a folder full of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors.torch import save_file
from spandrel.architectures.Compact import Compact
from spandrel.architectures.ESRGAN import ESRGAN
from torch import nn

RESIDUAL = 0.02
"""Size of what a random network adds to the enlarged picture: it still looks like the picture."""


def compact(*, seed: int = 0, convolutions: int = 2, scale: int = 4) -> Compact:
    """Nearest-neighbour enlargement, and a little of something random."""
    network = Compact(num_feat=8, num_conv=convolutions, upscale=scale)
    _randomise(network, seed)
    with torch.no_grad():
        for parameter in network.body[-1].parameters():
            parameter.mul_(RESIDUAL)
    return network.eval()


def rrdbnet(*, seed: int = 0, blocks: int = 2, scale: int = 4) -> ESRGAN:
    """Random, about grey; an enlargement by 2 folds its input, as upstream's does. Spandrel knows only 32 channels of
    growth."""
    fold = 2 if scale == 2 else None
    network = ESRGAN(in_nc=12 if fold else 3, num_filters=16, num_blocks=blocks, scale=4, shuffle_factor=fold)
    _randomise(network, seed)
    last = network.model[-1]
    with torch.no_grad():
        last.bias.fill_(0.5)
        last.weight.mul_(3)
    return network.eval()


def write(folder: Path, name: str, network: nn.Module) -> str:
    """Saves the weights under a name of the catalogue; gives their SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"params": state}, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def weights_folder(folder: Path) -> dict[str, str]:
    """Stand-ins for some of the catalogue's files; gives their sums by file name. RealESRNet_x4plus is left out."""
    return {
        name: write(folder, name, network)
        for name, network in {
            "RealESRGAN_x4plus.safetensors": compact(seed=1),
            "RealESRGAN_x4plus_anime_6B.safetensors": rrdbnet(seed=2),
            "RealESRGAN_x2plus.pth": rrdbnet(seed=3, scale=2),
            "realesr-general-x4v3.pth": compact(seed=4),
            "realesr-general-wdn-x4v3.pth": compact(seed=5),
        }.items()
    }


def _randomise(network: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                fan_in = parameter[0].numel()
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
            else:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
