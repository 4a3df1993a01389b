"""Networks of a few weights with the inputs and outputs of the real ones, written as ONNX files by hand.

They find what is red: a saliency network says how red a pixel is, the garment network takes red, green and blue for
upper, lower and full body. An ONNX file is a protobuf message; the few fields that are needed are written here, so
that no package is needed that nothing else uses.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import numpy as np

from enlight.bgrem.weights import MODELS, Model

FLOAT = 1


def write_stand_ins(folder: Path) -> dict[str, str]:
    """Files for every model into ``folder``; their SHA-256 by file name, as the settings take them."""
    sums = {}
    for model in MODELS.values():
        data = stand_in(model)
        (folder / model.weights.name).write_bytes(data)
        sums[model.weights.name] = hashlib.sha256(data).hexdigest()
    return sums


def stand_in(model: Model, *, side_px: int | None = None) -> bytes:
    """The ONNX file; ``side_px``: of another size than the real one."""
    side = side_px or model.input_px
    if model.classes == 1:
        weights = np.array([[20.0, -10.0, -10.0]], np.float32)
        bias = np.array([-5.0], np.float32)
    else:
        weights = np.array([[0, 0, 0], [3, -1, -1], [-1, 3, -1], [-1, -1, 3]], np.float32)
        bias = np.array([1.5, 0, 0, 0], np.float32)
    shape = [1, model.classes, side, side]
    nodes = [
        _node("Conv", ["input.1", "weights", "bias"], ["logits"]),
        _node("Sigmoid" if model.classes == 1 else "Identity", ["logits"], ["1959"]),
        _node("Neg", ["1959"], ["1960"]),  # the real ones have outputs for training besides
    ]
    graph = b"".join(_field(1, node) for node in nodes)
    graph += _field(2, b"stand-in")
    graph += _field(5, _tensor("weights", weights.reshape(model.classes, 3, 1, 1)))
    graph += _field(5, _tensor("bias", bias))
    graph += _field(11, _value("input.1", [1, 3, side, side]))
    graph += _field(12, _value("1959", shape)) + _field(12, _value("1960", shape))
    return _number(1, 8) + _field(7, graph) + _field(8, _number(2, 13))


def _node(kind: str, inputs: list[str], outputs: list[str]) -> bytes:
    names = b"".join(_field(1, name.encode()) for name in inputs) + b"".join(_field(2, o.encode()) for o in outputs)
    return names + _field(4, kind.encode())


def _tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(_number(1, size) for size in values.shape)
    return dims + _number(2, FLOAT) + _field(8, name.encode()) + _field(9, values.tobytes())


def _value(name: str, shape: list[int]) -> bytes:
    dims = b"".join(_field(1, _number(1, size)) for size in shape)
    tensor_type = _number(1, FLOAT) + _field(2, dims)
    return _field(1, name.encode()) + _field(2, _field(1, tensor_type))


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += struct.pack("B", value & 0x7F | 0x80)
        value >>= 7
    return out + struct.pack("B", value)
