"""The one model that is allowed, and whether its folder is complete. No torch.

The model is never fetched while a request waits: ``python -m enlight.upsampler.fetch_model`` (or a copy by hand) puts
its folder in place beforehand, so the service needs no way out to the internet.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from enlight.servicekit.errors import WeightsUnavailable
from enlight.servicekit.hub_snapshots import recorded_commit
from enlight.servicekit.weight_files import WeightFile, WeightFolder

MODEL = "stabilityai/stable-diffusion-x4-upscaler"
REVISION = "572c99286543a273bfd17fac263db5a77be12c4c"
"""The commit that `fetch_model` brings."""
FETCH_COMMAND = "python -m enlight.upsampler.fetch_model"
SETTING = "UPSAMPLER_WEIGHTS_FOLDER"

CONFIGURATIONS = (
    "model_index.json",
    "low_res_scheduler/scheduler_config.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "unet/config.json",
    "vae/config.json",
)
TOKENIZER = ("tokenizer/vocab.json", "tokenizer/merges.txt")
WEIGHTS = (
    "text_encoder/model.safetensors",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/diffusion_pytorch_model.safetensors",
)


class ModelFolder:
    """The folder of the model.

    Args:
        folder: It need not exist.
        sha256: Sums that files must have, by path in the folder.
    """

    def __init__(self, folder: Path, *, sha256: Mapping[str, str] | None = None) -> None:
        self.path = folder.absolute()
        self._files = WeightFolder(folder, setting=SETTING, sha256=sha256)
        self._checked_names = sorted(sha256 or {})

    def missing(self) -> list[str]:
        """Files that the model needs and the folder lacks. Weights may be there in fp16 instead."""
        absent = [name for name in CONFIGURATIONS if not (self.path / name).is_file()]
        if not (self.path / "tokenizer" / "tokenizer.json").is_file():
            absent += [name for name in TOKENIZER if not (self.path / name).is_file()]
        return absent + [name for name in WEIGHTS if not self._files.has(*_alternatives(name))]

    @property
    def commit(self) -> str | None:
        """The hub's commit that lies here, where `fetch_model` wrote it down."""
        return recorded_commit(self.path)

    def require(self) -> None:
        """Checks that the model is complete, and the sums that the settings name.

        Raises:
            WeightsUnavailable: a file is not there; the message says what to run, and which folder is meant.
            CorruptModel: a file has another sum.
        """
        absent = self.missing()
        if absent:
            raise WeightsUnavailable(
                f"The weights of {MODEL} are not on this machine: run `{FETCH_COMMAND}`, or put the model in "
                f"diffusers' layout (safetensors) into the folder {self.path.name}, which {SETTING} names.",
                details={"model": MODEL, "setting": SETTING, "command": FETCH_COMMAND, "missing": absent},
            )
        for name in self._checked_names:
            self._files.find(WeightFile(name, None, f"run `{FETCH_COMMAND}`"))


def _alternatives(name: str) -> list[WeightFile]:
    """The plain file, or the one of the fp16 variant."""
    stem, ending = name.rsplit(".", 1)
    return [WeightFile(path, None, f"run `{FETCH_COMMAND}`") for path in (name, f"{stem}.fp16.{ending}")]
