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

FLOAT, INT64 = 1, 7
"""Types of a tensor's elements."""
TEXT = 3
"""Type of an attribute."""


def write_stand_ins(folder: Path) -> dict[str, str]:
    """Files for every model into ``folder``; their SHA-256 by file name, as the settings take them."""
    sums = {}
    for model in MODELS.values():
        data = stand_in(model)
        (folder / model.weights.name).write_bytes(data)
        sums[model.weights.name] = hashlib.sha256(data).hexdigest()
    return sums


def stand_in(model: Model, *, side_px: int | None = None, activation: str | None = None) -> bytes:
    """The ONNX file; ``side_px``: of another size than the real one; ``activation``: with another operation than the
    real one at its end."""
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
        _node(activation or ("Sigmoid" if model.classes == 1 else "Identity"), ["logits"], ["1959"]),
        _node("Neg", ["1959"], ["1960"]),  # the real ones have outputs for training besides
    ]
    graph = b"".join(_field(1, node) for node in nodes)
    graph += _field(2, b"stand-in")
    graph += _field(5, _tensor("weights", weights.reshape(model.classes, 3, 1, 1)))
    graph += _field(5, _tensor("bias", bias))
    graph += _field(11, _value("input.1", [1, 3, side, side]))
    graph += _field(12, _value("1959", shape)) + _field(12, _value("1960", shape))
    return _number(1, 8) + _field(7, graph) + _field(8, _number(2, 13))


def upsampler(model: Model, *, factor: int) -> bytes:
    """A saliency network that reads its input's corner, a ``factor``-th of each side, and enlarges it as the real ones
    enlarge."""
    side = model.input_px
    enlarging = {"mode": "linear", "coordinate_transformation_mode": "pytorch_half_pixel"}
    nodes = [
        _node("Slice", ["input.1", "first", "end"], ["corner"]),
        _node("Conv", ["corner", "weights"], ["small"]),
        _node("Resize", ["small", "", "", "size"], ["1959"], enlarging),
    ]
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"upsampler")
    graph += _field(5, _tensor("weights", np.full((1, 3, 1, 1), 1 / 3, np.float32)))
    graph += _field(5, _tensor("first", np.zeros(4, np.int64)))
    graph += _field(5, _tensor("end", np.array([1, 3, side // factor, side // factor])))
    graph += _field(5, _tensor("size", np.array([1, 1, side, side])))
    graph += _field(11, _value("input.1", [1, 3, side, side])) + _field(12, _value("1959", [1, 1, side, side]))
    return _number(1, 8) + _field(7, graph) + _field(8, _number(2, 13))


def _node(kind: str, inputs: list[str], outputs: list[str], texts: dict[str, str] | None = None) -> bytes:
    names = b"".join(_field(1, name.encode()) for name in inputs) + b"".join(_field(2, o.encode()) for o in outputs)
    attributes = b"".join(
        _field(5, _field(1, name.encode()) + _field(4, text.encode()) + _number(20, TEXT))
        for name, text in (texts or {}).items()
    )
    return names + _field(4, kind.encode()) + attributes


def _tensor(name: str, values: np.ndarray) -> bytes:
    dims = b"".join(_number(1, size) for size in values.shape)
    kind = INT64 if values.dtype == np.int64 else FLOAT
    return dims + _number(2, kind) + _field(8, name.encode()) + _field(9, values.tobytes())


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
