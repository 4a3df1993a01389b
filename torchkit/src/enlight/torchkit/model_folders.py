"""Networks from a folder in diffusers' layout: local files and safetensors only, complete or not at all.

Neither diffusers nor transformers is imported here: the caller brings the class.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from enlight.servicekit.errors import CorruptModel, WeightsUnavailable

DIFFUSERS_STEM = "diffusion_pytorch_model"
"""File name, without ending, of a network of diffusers."""
TRANSFORMERS_STEM = "model"
"""File name, without ending, of a network of transformers."""
_NOT_SAFETENSORS = (".bin", ".ckpt", ".pt", ".pth")

_NetworkT = TypeVar("_NetworkT", bound=torch.nn.Module)


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """The JSON object in the file ``name`` of ``folder``.

    Raises:
        WeightsUnavailable: there is no such file.
        CorruptModel: it cannot be read, or holds something else.
    """
    try:
        content = json.loads((folder / name).read_bytes())
    except FileNotFoundError:
        raise WeightsUnavailable(f"{folder / name} does not exist: a model is a folder in diffusers' layout.") from None
    except (OSError, ValueError) as error:
        raise corrupt(folder / name, error) from error
    if not isinstance(content, dict):
        raise CorruptModel(f"{folder / name} is not a JSON object: fetch the model again.")
    return content


def load_network(kind: type[_NetworkT], folder: Path, *, weights_dtype: torch.dtype, stem: str) -> _NetworkT:
    """The network of class ``kind`` in ``folder``, frozen and in evaluation mode, on the CPU.

    Args:
        kind: A network class of diffusers or transformers.
        folder: Holds ``config.json`` and the weights.
        weights_dtype: What weights stored in another type are turned into.
        stem: `DIFFUSERS_STEM` or `TRANSFORMERS_STEM`.

    Raises:
        WeightsUnavailable: a file is not there, or the weights are only there as a pickle.
        CorruptModel: a file cannot be read, or lacks weights that the configuration asks for.
    """
    variant = _variant(folder, stem)
    read_json(folder, "config.json")
    from_pretrained = cast("Callable[..., tuple[_NetworkT, dict[str, Any]]]", cast(Any, kind).from_pretrained)
    dtype_name = "dtype" if stem == TRANSFORMERS_STEM else "torch_dtype"
    try:
        network, report = from_pretrained(
            str(folder),
            local_files_only=True,
            use_safetensors=True,
            variant=variant,
            output_loading_info=True,
            **{dtype_name: weights_dtype},
        )
    except Exception as error:  # the libraries raise many kinds for a broken file
        raise corrupt(folder, error) from error
    absent = sorted(report["missing_keys"])
    if absent:  # from_pretrained would leave these at random values
        raise CorruptModel(f"{folder} lacks {len(absent)} of its weights ({absent[0]} ...): fetch the model again.")
    network.requires_grad_(requires_grad=False).eval()
    return network


def tokenizer_folder(folder: Path) -> Path:
    """``folder/tokenizer``, which holds what a CLIP tokenizer is made of.

    Raises:
        WeightsUnavailable: it does not.
    """
    tokenizer = folder / "tokenizer"
    has_pair = (tokenizer / "vocab.json").is_file() and (tokenizer / "merges.txt").is_file()
    if not has_pair and not (tokenizer / "tokenizer.json").is_file():
        raise WeightsUnavailable(
            f"{tokenizer} has neither vocab.json with merges.txt nor tokenizer.json: fetch the model again."
        )
    return tokenizer


def corrupt(place: Path, error: Exception) -> CorruptModel:
    """The error of a file or folder that a library could not read, in one line."""
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return CorruptModel(f"{place} cannot be read ({reason[:200]}): fetch the model again.")


def _variant(folder: Path, stem: str) -> str | None:
    """None for plain weight files, ``fp16`` where only those are there."""
    for variant, name in ((None, stem), ("fp16", f"{stem}.fp16")):
        index_stem = f"{stem}.safetensors.index" + (f".{variant}" if variant else "")
        if (folder / f"{name}.safetensors").is_file() or (folder / f"{index_stem}.json").is_file():
            return variant
    if folder.is_dir() and any(path.suffix in _NOT_SAFETENSORS for path in folder.iterdir()):
        raise WeightsUnavailable(
            f"{folder} has its weights only as a pickle, which can run code when it is opened: provide them as "
            "safetensors."
        )
    raise WeightsUnavailable(f"{folder / stem}.safetensors does not exist: put the model's folder in place.")
