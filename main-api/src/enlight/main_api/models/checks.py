"""Whether files are a trained model of a base: its files' names, the weights' names, types and shapes. No torch.

The engine checks the same when it loads a model; here a wrong file is refused while whoever sends it is still there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from enlight.dreambooth_api.published_files import (
    FULL_FILES,
    LORA_FILE,
    LORA_METADATA_KEY,
    LORA_NAME,
    UNSUPPORTED_LORA_SETTINGS,
)
from enlight.dreambooth_api.requests import Base
from enlight.main_api.models.safetensors_header import SafetensorsHeader, TensorInfo, read_header
from enlight.servicekit.errors import CorruptModel, InvalidField, WeightsUnavailable

CONFIG_FILES = tuple(f"{part}/config.json" for part in FULL_FILES)
CONFIG_BYTES = 64 << 10

_FLOATS = ("F16", "BF16", "F32")

_NOT_READ = "embeddings.position_ids"
"""In files of old transformers; computed since."""

Shapes = Mapping[str, tuple[int, ...]]


def check_file_names(kind: str, names: Iterable[str]) -> None:
    """Checks that these are the files of a model of this kind, and no others.

    Raises: InvalidField naming ``files``.
    """
    given = set(names)
    required = {LORA_FILE} if kind == "lora" else {FULL_FILES["unet"]}
    allowed = required if kind == "lora" else {*FULL_FILES.values(), *CONFIG_FILES}
    if given - allowed:
        shown = ", ".join(repr(name[:100]) for name in sorted(given - allowed)[:3])
        raise InvalidField.of("files", f"{shown}: a {kind} model has only {', '.join(sorted(allowed))}")
    if required - given:
        raise InvalidField.of("files", f"{', '.join(required)} is missing")


def check_weights(kind: str, folder: Path, base: Base) -> None:
    """Checks the model's files in ``folder`` against the weights of ``base`` on this machine.

    Raises: InvalidField naming the file; WeightsUnavailable when the base's weights are not here; CorruptModel when
    these cannot be read.
    """
    if kind == "lora":
        header = _header(folder, LORA_FILE)
        parts = {name.split(".", 1)[0] for name in header.tensors} & set(FULL_FILES)
        shapes = {name: shape for part in sorted(parts) for name, shape in _base_shapes(base, part).items()}
        _check_lora(header, shapes)
        return
    for part, file in FULL_FILES.items():
        if (folder / file).exists():
            _check_full(file, part, _header(folder, file), _base_shapes(base, part))
        if (folder / part / "config.json").exists():
            _check_config(folder, f"{part}/config.json")


def _check_full(file: str, part: str, header: SafetensorsHeader, shapes: Shapes) -> None:
    given = _canonical(part, header.tensors)
    if len(given) != sum(not name.endswith(_NOT_READ) for name in header.tensors):
        raise _refusal(file, "it holds a weight twice, under two names")
    if set(given) != set(shapes):
        odd = sorted(set(given) ^ set(shapes))
        raise _refusal(file, f"its weights are not those of the base: {odd[0][:200]} and {len(odd) - 1} more differ")
    for name, tensor in given.items():
        if tensor.dtype not in _FLOATS:
            raise _refusal(file, f"{name} is {tensor.dtype}, not one of {', '.join(_FLOATS)}")
        if tensor.shape != shapes[name]:
            raise _refusal(file, f"{name} has the shape {list(tensor.shape)}, the base's has {list(shapes[name])}")


def _check_lora(header: SafetensorsHeader, shapes: Shapes) -> None:
    if not header.tensors:
        raise _refusal(LORA_FILE, "it holds no weights")
    pairs: dict[str, dict[bool, TensorInfo]] = {}
    for name, tensor in header.tensors.items():
        match = LORA_NAME.fullmatch(name)
        if match is None:
            raise _refusal(LORA_FILE, f"{name[:200]!r} is no weight of a LoRA in diffusers' layout")
        if tensor.dtype not in _FLOATS:
            raise _refusal(LORA_FILE, f"{name} is {tensor.dtype}, not one of {', '.join(_FLOATS)}")
        pair = pairs.setdefault(_plain(match["module"]), {})
        if pair.setdefault(match["down"] is not None, tensor) is not tensor:
            raise _refusal(LORA_FILE, f"{name[:200]!r} is there twice, under two names")
    ranks: dict[str, set[int]] = {}
    for module, pair in pairs.items():
        weight = shapes.get(f"{module}.weight")
        if weight is None:
            raise _refusal(LORA_FILE, f"the base has no {module[:200]}")
        if set(pair) != {True, False}:
            raise _refusal(LORA_FILE, f"one of the two factors of {module} is missing")
        if not _factors_fit(pair[True].shape, pair[False].shape, weight):
            raise _refusal(LORA_FILE, f"the factors of {module} do not fit the base's weight of shape {list(weight)}")
        ranks.setdefault(module.split(".", 1)[0], set()).add(pair[True].shape[0])
    _check_lora_settings(header.metadata, ranks)


def _check_lora_settings(metadata: Mapping[str, str], ranks: Mapping[str, set[int]]) -> None:
    try:
        settings = json.loads(metadata.get(LORA_METADATA_KEY, "{}"))
    except (ValueError, RecursionError):
        settings = None
    if not isinstance(settings, dict):
        raise _refusal(LORA_FILE, f"its {LORA_METADATA_KEY} is no JSON object")
    for part, found in ranks.items():
        for name in UNSUPPORTED_LORA_SETTINGS:
            if settings.get(f"{part}.{name}"):
                raise _refusal(LORA_FILE, f"files with {name} are not supported")
        if f"{part}.r" in settings and any(rank != settings[f"{part}.r"] for rank in found):
            raise _refusal(LORA_FILE, f"its factors have the ranks {sorted(found)[:5]}, its metadata says otherwise")
        alpha = settings.get(f"{part}.lora_alpha", 8)
        if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 < alpha <= 1e6:
            raise _refusal(LORA_FILE, f"its metadata has no usable {part}.lora_alpha")


def _factors_fit(down: tuple[int, ...], up: tuple[int, ...], weight: tuple[int, ...]) -> bool:
    return (
        len(weight) in (2, 4)
        and len(down) == len(up) == len(weight)
        and down[0] > 0
        and up[0] == weight[0]
        and up[1] == down[0]
        and down[1:] == weight[1:]
        and set(up[2:]) <= {1}
    )


def _check_config(folder: Path, file: str) -> None:
    try:
        content = json.loads((folder / file).read_bytes())
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise _refusal(file, "it is no JSON object")


def _base_shapes(base: Base, part: str) -> Shapes:
    """Shapes of the base's weights by name; a network may lie in several files, or twice in two precisions."""
    files = sorted((base.folder / part).glob("*.safetensors"))
    if not files:
        raise WeightsUnavailable(
            f"The weights of {base.name} are not on the gateway, which compares imported models with them: put them "
            "into the folder of MAIN_API_MODELS_FOLDER, as the service that generates has them.",
            details={"base": base.name},
        )
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            header = read_header(file)
        except (OSError, ValueError) as error:
            raise CorruptModel(f"{part}/{file.name} of the base {base.name} cannot be read.") from error
        shapes |= {name: tensor.shape for name, tensor in _canonical(part, header.tensors).items()}
    return shapes


def _canonical(part: str, tensors: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    """The tensors under ``<part>.<name>``, without ``_NOT_READ``."""
    return {_plain(f"{part}.{name}"): tensor for name, tensor in tensors.items() if not name.endswith(_NOT_READ)}


def _plain(name: str) -> str:
    # Published text encoders have this in their names; transformers 5 dropped it.
    return re.sub(r"^text_encoder\.text_model\.", "text_encoder.", name)


def _header(folder: Path, file: str) -> SafetensorsHeader:
    try:
        return read_header(folder / file)
    except ValueError as error:
        raise _refusal(file, f"it {error}") from error


def _refusal(file: str, problem: str) -> InvalidField:
    return InvalidField.of(file, problem)
