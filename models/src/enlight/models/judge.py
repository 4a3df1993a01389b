"""The judge: says how alike two subjects are and which background a picture has, apart from the base model."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

_STATE_FILE = "judge.safetensors"
_CONFIG_FILE = "judge.json"


class _Residual(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels_out)
        self.second = nn.Conv2d(channels_out, channels_out, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels_out)
        self.skip = nn.Conv2d(channels_in, channels_out, 1, bias=False)
        self.stride = stride

    def forward(self, features: Tensor) -> Tensor:
        inner = functional.silu(self.first_norm(self.first(features)))
        inner = self.second_norm(self.second(inner))
        skipped = functional.avg_pool2d(features, self.stride) if self.stride > 1 else features
        result: Tensor = functional.silu(inner + self.skip(skipped))
        return result


class JudgeNetwork(nn.Module):
    """A small residual network with two heads: a unit vector for the subject, scores for the background."""

    def __init__(self, channels: tuple[int, ...], embedding_width: int, background_count: int) -> None:
        """Builds the network with random weights.

        Args:
            channels: width of each level; each level after the first halves the side.
            embedding_width: length of the subject's vector.
            background_count: number of backgrounds told apart.
        """
        super().__init__()
        self.stem = nn.Conv2d(3, channels[0], 3, 1, 1)
        pairs = itertools.pairwise(channels)
        self.levels = nn.ModuleList([_Residual(before, after, 2) for before, after in pairs])
        self.subject_head = nn.Linear(2 * channels[-1], embedding_width)
        self.background_head = nn.Linear(channels[-2] + channels[-1], background_count)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Judges pictures.

        Args:
            pixels: (B, 3, 64, 64) float in [-1, 1].

        Returns:
            Unit vectors (B, D) of the subjects and scores (B, K) of the backgrounds.
        """
        features = self.stem(pixels)
        pooled = features
        for level in self.levels:
            pooled, features = features, level(features)
        subject = self.subject_head(torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1))
        scene = torch.cat([pooled.mean(dim=(2, 3)), features.mean(dim=(2, 3))], dim=1)
        return functional.normalize(subject, dim=1), self.background_head(scene)


class Judge:
    """The trained judge, on the CPU."""

    def __init__(self, network: JudgeNetwork, background_names: tuple[str, ...], image_size_px: int) -> None:
        """Wraps a network in evaluation mode."""
        self._network = network.eval()
        self._names = background_names
        self._size_px = image_size_px

    @classmethod
    def load(cls, folder: Path) -> Judge:
        """Reads `judge.json` and `judge.safetensors`.

        Raises:
            FileNotFoundError: the folder holds no judge.
        """
        config = json.loads((folder / _CONFIG_FILE).read_text(encoding="utf-8"))
        names = tuple(config["background_names"])
        network = JudgeNetwork(tuple(config["channels"]), config["embedding_width"], len(names))
        state = {
            name: tensor.float() if tensor.is_floating_point() else tensor
            for name, tensor in load_file(folder / _STATE_FILE).items()
        }
        network.load_state_dict(state)
        return cls(network, names, config["image_size_px"])

    def subject_embedding(self, images: np.ndarray) -> np.ndarray:
        """Embeds what the pictures show, whatever the background.

        Args:
            images: (B, H, W, 3) uint8, any size.

        Returns:
            (B, D) float32 unit vectors; the product of two is 1 for the same subject, about 0 for strangers.
        """
        return self._run(images)[0]

    def background(self, images: np.ndarray) -> list[str]:
        """Names the background of each picture, (B, H, W, 3) uint8, as in backgrounds.BACKGROUNDS."""
        return [self._names[index] for index in self._run(images)[1].argmax(axis=1)]

    def _run(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float()
        if pixels.shape[2:] != (self._size_px, self._size_px):
            size = (self._size_px, self._size_px)
            pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
        with torch.inference_mode():
            embedding, scores = self._network(pixels / 127.5 - 1.0)
        return embedding.numpy(), scores.numpy()


def write_judge_config(
    folder: Path, channels: tuple[int, ...], embedding_width: int, names: tuple[str, ...], image_size_px: int
) -> None:
    """Writes the `judge.json` that `Judge.load` reads."""
    config = {
        "channels": list(channels),
        "embedding_width": embedding_width,
        "background_names": list(names),
        "image_size_px": image_size_px,
    }
    (folder / _CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
