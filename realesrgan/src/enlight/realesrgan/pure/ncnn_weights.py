"""Reads the weights of an ncnn network (``.param`` text and ``.bin`` bytes) as a PyTorch state dict.

Only what the Real-ESRGAN family uses is known: 3x3 convolutions with fp16 weights and fp32 biases, and PReLU slopes
in fp32. The ``.bin`` holds them one after the other, in the order of the layers in the ``.param``::

    Convolution   tag 0x01306B47 (4 bytes, little endian), weights (O, I, 3, 3) as fp16, zeros up to a multiple of
                  4 bytes, bias (O) as fp32
    PReLU         slopes (C) as fp32

Every byte must be consumed, and the layers must be exactly those of the architecture: anything else is not the file
that was expected.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MAGIC = "7767517"
FP16_TAG = 0x01306B47
KERNEL_TAPS = 9

StateDict = dict[str, NDArray[np.generic]]


class NcnnFormatError(ValueError):
    """The files are not the ncnn network that was expected."""


@dataclass(frozen=True)
class Convolution:
    """Weights (O, I, 3, 3) float16, bias (O,) float32."""

    weight: NDArray[np.float16]
    bias: NDArray[np.float32]


@dataclass(frozen=True)
class Slopes:
    """Of a PReLU: (C,) float32."""

    values: NDArray[np.float32]


def read_layers(param: str, data: bytes) -> list[Convolution | Slopes]:
    """The layers that hold weights, in order.

    Raises:
        NcnnFormatError: not such a network, or bytes are missing or left over.
    """
    lines = param.split("\n")
    if lines[0].strip() != MAGIC or len(lines) < 2:
        raise NcnnFormatError("the .param file does not begin as one of ncnn")
    layers: list[Convolution | Slopes] = []
    reader = _Reader(data)
    described = [line.split() for line in lines[2:] if line.strip()]
    if len(described) != int(lines[1].split()[0]):
        raise NcnnFormatError(f"{len(described)} layers where the .param file announces {lines[1].split()[0]}")
    for words in described:
        if words[0] == "Convolution":
            layers.append(_convolution(reader, _options(words)))
        elif words[0] == "PReLU":
            layers.append(Slopes(reader.floats(_options(words)["0"])))
    if reader.left_bytes:
        raise NcnnFormatError(f"{reader.left_bytes} bytes of the .bin file belong to no layer")
    return layers


def rrdbnet_state_dict(layers: list[Convolution | Slopes], *, blocks: int) -> StateDict:
    """State dict of an RRDBNet x4 with ``blocks`` residual-in-residual dense blocks, named as upstream names it.

    Raises:
        NcnnFormatError: the layers are not those of that network.
    """
    names = ["conv_first"]
    names += [
        f"body.{block}.rdb{rdb}.conv{conv}" for block in range(blocks) for rdb in (1, 2, 3) for conv in range(1, 6)
    ]
    names += ["conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last"]
    convolutions = [layer for layer in layers if isinstance(layer, Convolution)]
    if len(convolutions) != len(layers) or len(convolutions) != len(names):
        raise NcnnFormatError(f"{len(layers)} layers with weights where {len(names)} convolutions were expected")
    state: StateDict = {}
    for name, convolution in zip(names, convolutions, strict=True):
        state[f"{name}.weight"] = convolution.weight
        state[f"{name}.bias"] = convolution.bias
    return state


def srvggnet_state_dict(layers: list[Convolution | Slopes], *, convolutions: int) -> StateDict:
    """State dict of an SRVGGNetCompact with ``convolutions`` inner convolutions: they and PReLUs take turns.

    Raises:
        NcnnFormatError: the layers are not those of that network.
    """
    expected = 2 * (convolutions + 1) + 1
    if len(layers) != expected:
        raise NcnnFormatError(f"{len(layers)} layers with weights where {expected} were expected")
    state: StateDict = {}
    for index, layer in enumerate(layers):
        if isinstance(layer, Convolution) != (index % 2 == 0):
            raise NcnnFormatError(f"layer {index} with weights is a {type(layer).__name__}")
        if isinstance(layer, Convolution):
            state[f"body.{index}.weight"] = layer.weight
            state[f"body.{index}.bias"] = layer.bias
        else:
            state[f"body.{index}.weight"] = layer.values
    return state


def _convolution(reader: _Reader, options: dict[str, int]) -> Convolution:
    # 0: output channels, 1: kernel width, 5: has a bias, 6: number of weights
    outputs, count = options["0"], options["6"]
    if options.get("1") != 3 or options.get("5") != 1 or count % (outputs * KERNEL_TAPS):
        raise NcnnFormatError("a convolution that is not 3 x 3 with a bias")
    if reader.tag() != FP16_TAG:
        raise NcnnFormatError("a convolution whose weights are not stored as fp16")
    weight = reader.halves(count).reshape(outputs, -1, 3, 3)
    return Convolution(weight, reader.floats(outputs))


def _options(words: list[str]) -> dict[str, int]:
    """The whole-number options ``key=value`` behind a layer's type, name, counts and blobs."""
    blobs = int(words[2]) + int(words[3])
    pairs = (word.split("=", 1) for word in words[4 + blobs :])
    return {key: int(value) for key, value in pairs if value.isdigit()}


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def left_bytes(self) -> int:
        return len(self._data) - self._position

    def tag(self) -> int:
        return int.from_bytes(self._take(4), "little")

    def halves(self, count: int) -> NDArray[np.float16]:
        values = np.frombuffer(self._take(2 * count), "<f2")
        if any(self._take(-2 * count % 4)):
            raise NcnnFormatError("the padding of fp16 weights is not zero")
        return values.astype(np.float16)

    def floats(self, count: int) -> NDArray[np.float32]:
        return np.frombuffer(self._take(4 * count), "<f4").astype(np.float32)

    def _take(self, count: int) -> bytes:
        if count > self.left_bytes:
            raise NcnnFormatError("the .bin file ends too soon")
        self._position += count
        return self._data[self._position - count : self._position]
