"""The header of a safetensors file, read without torch and without trust: names, types, shapes and nothing else.

The format (https://github.com/huggingface/safetensors): eight bytes of length, little-endian, JSON of that length,
then the tensors' bytes, one after the other without gaps. A file can hold numbers only, no code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from enlight.servicekit import strict_json
from enlight.servicekit.errors import InvalidRequest

HEADER_BYTES = 4 << 20
"""Limit of a header; a Stable Diffusion U-Net's has about 80 KiB."""

_DTYPE_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
_LENGTH_BYTES = 8


@dataclass(frozen=True)
class TensorInfo:
    """One tensor as the header describes it."""

    dtype: str
    """The format's name: ``F16``, ``BF16``, ``F32`` ..."""
    shape: tuple[int, ...]


@dataclass(frozen=True)
class SafetensorsHeader:
    """What a file holds."""

    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]


def read_header(path: Path) -> SafetensorsHeader:
    """The header of the file, which describes every one of its bytes.

    Raises: ValueError, in words for whoever made the file, when it is not a whole safetensors file; OSError.
    """
    with path.open("rb") as file:
        file_bytes = path.stat().st_size
        length_bytes = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if file_bytes < _LENGTH_BYTES or length_bytes > file_bytes - _LENGTH_BYTES:
            raise ValueError("is not a safetensors file")
        if length_bytes > HEADER_BYTES:
            raise ValueError(f"has a header of more than {HEADER_BYTES} bytes")
        text = file.read(length_bytes)
    try:
        record = strict_json.loads(text, what="Its header")
    except InvalidRequest as error:
        raise ValueError(f"is not a safetensors file: {error.message}") from error
    if not isinstance(record, dict):
        raise ValueError("is not a safetensors file: its header is no JSON object")
    metadata = record.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ValueError("has metadata that are not texts")
    spans = {name: _span(name, entry) for name, entry in record.items()}
    _check_gapless(sorted(spans.values()), file_bytes - _LENGTH_BYTES - length_bytes)
    tensors = {name: TensorInfo(entry["dtype"], tuple(entry["shape"])) for name, entry in record.items()}
    return SafetensorsHeader(tensors, metadata)


def _span(name: str, entry: object) -> tuple[int, int]:
    """Where the tensor's bytes begin and end. Raises: ValueError unless that is what its type and shape need."""
    shown = repr(name[:100])
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"describes {shown} otherwise than by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _DTYPE_BYTES:
        raise ValueError(f"gives {shown} a type that is not known here")
    if not _are_counts(shape) or not _are_counts(offsets) or len(offsets) != 2:
        raise ValueError(f"gives {shown} no shape or no place")
    begin, end = offsets
    if end - begin != math.prod(shape) * _DTYPE_BYTES[dtype]:
        raise ValueError(f"gives {shown} another number of bytes than its shape needs")
    return begin, end


def _are_counts(value: object) -> bool:
    return isinstance(value, list) and len(value) <= 8 and all(type(item) is int and item >= 0 for item in value)


def _check_gapless(spans: list[tuple[int, int]], data_bytes: int) -> None:
    at = 0
    for begin, end in spans:
        if begin != at:
            raise ValueError("has gaps or overlaps between its tensors")
        at = end
    if at != data_bytes:
        raise ValueError("is cut short, or has bytes that belong to no tensor")
