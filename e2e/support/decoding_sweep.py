"""Decodes every file of the collections, as a process of its own: so that its memory can be told from a test's.

Run as a script; prints one JSON object.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict

import psutil
from picture_corpora import CorpusFile, pillow_images, png_crashers, pngsuite

from enlight.servicekit.errors import ServiceError
from enlight.servicekit.images import decode_image, decode_picture

MIB = 1024**2


class Decoding(TypedDict):
    """What became of one file in one decoder."""

    file: str
    decoder: str
    outcome: str
    """``ok``, or status and code of the error."""
    cpu_s: float


class Sweep(TypedDict):
    """What became of all."""

    decodings: list[Decoding]
    peak_mib: float
    """Resident memory at its highest, less what it was before the first file."""
    growth_mib: float
    """Resident memory after a second sweep, less what it was after the first."""


def every_file() -> dict[str, CorpusFile]:
    """All files of all collections by a name that tells the collection."""
    collections = {"pillow": pillow_images, "pngsuite": pngsuite, "crashers": png_crashers}
    return {f"{name}/{file.name}": file for name, files in collections.items() for file in files()}


def sweep() -> Sweep:
    """Every file through both decoders, twice."""
    files = every_file()
    process = psutil.Process()
    before_mib = process.memory_info().rss / MIB
    decodings = _sweep_once(files)
    peak_mib = _peak_mib() - before_mib
    after_mib = process.memory_info().rss / MIB
    _sweep_once(files)
    return Sweep(decodings=decodings, peak_mib=peak_mib, growth_mib=process.memory_info().rss / MIB - after_mib)


def _sweep_once(files: dict[str, CorpusFile]) -> list[Decoding]:
    decoders: dict[str, Callable[[bytes], object]] = {
        "decode_image": lambda data: decode_image(data, "picture"),
        "decode_picture": lambda data: decode_picture(data, "picture", keep_16_bit=True),
    }
    return [
        _decoding(name, file.data, decoder, decode)
        for name, file in files.items()
        for decoder, decode in decoders.items()
    ]


def _decoding(name: str, data: bytes, decoder: str, decode: Callable[[bytes], object]) -> Decoding:
    started_s = time.process_time()
    try:
        decode(data)
        outcome = "ok"
    except ServiceError as error:
        outcome = f"{error.status} {error.code}"
    except BaseException as error:  # noqa: BLE001 -- the test shows it by the file's name
        outcome = f"unforeseen {error!r}"
    return Decoding(file=name, decoder=decoder, outcome=outcome, cpu_s=time.process_time() - started_s)


def _peak_mib() -> float:
    # Not getrusage: its peak counts what the parent had at the moment of the fork.
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


if __name__ == "__main__":
    every_file()
    json.dump(sweep(), sys.stdout)
