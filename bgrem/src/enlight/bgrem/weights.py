"""The catalogue of networks: which there are, and the published file of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from enlight.bgrem.requests import ModelName
from enlight.servicekit.weight_files import WeightFile, WeightFolder

SETTING = "BGREM_WEIGHTS_FOLDER"
_RELEASE = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"
_FETCHED = "run dev-scripts/fetch-weights"


@dataclass(frozen=True)
class Model:
    """One network.

    Attributes:
        name: As requests name it.
        description: For people.
        weights: Its file.
        input_px: Side of the square that it sees.
        classes: Channels of its first output: one is an opacity, more are classes.
    """

    name: ModelName
    description: str
    weights: WeightFile
    input_px: int = 320
    classes: int = 1


def _elsewhere(name: str) -> str:
    return f"download {_RELEASE}/{name}"


MODELS: dict[ModelName, Model] = {
    model.name: model
    for model in (
        Model(
            "u2net",
            "Anything that stands out.",
            WeightFile("u2net.onnx", "8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491", _FETCHED),
        ),
        Model(
            "u2net_cloth_seg",
            "Clothes of a person: three masks (upper body, lower body, full body), one above the other.",
            WeightFile(
                "u2net_cloth_seg.onnx",
                "6d2cbc27bfbdc989e1fd325656d65902ecc6a3ccbe94b2d3655ec114efcb128e",
                _elsewhere("u2net_cloth_seg.onnx"),
            ),
            input_px=768,
            classes=4,
        ),
        Model(
            "u2net_human_seg",
            "People.",
            WeightFile(
                "u2net_human_seg.onnx",
                "01eb6a29a5c4d8edb30b56adad9bb3a2a0535338e480724a213e0acfd2d1c73c",
                _elsewhere("u2net_human_seg.onnx"),
            ),
        ),
        Model(
            "silueta",
            "As u2net, a quarter of its size.",
            WeightFile(
                "silueta.onnx",
                "75da6c8d2f8096ec743d071951be73b4a8bc7b3e51d9a6625d63644f90ffeedb",
                _elsewhere("silueta.onnx"),
            ),
        ),
        Model(
            "u2netp",
            "As u2net, 38 times smaller: the fastest.",
            WeightFile("u2netp.onnx", "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8", _FETCHED),
        ),
    )
}
assert tuple(MODELS) == get_args(ModelName), "requests name exactly the models of the catalogue"


def available(folder: WeightFolder) -> list[str]:
    """Names of the models whose file is there; its bytes are not looked at."""
    return [name for name, model in MODELS.items() if folder.has(model.weights)]
