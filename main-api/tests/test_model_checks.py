"""Files that claim to be a trained model: names, types and shapes against the base, and headers that lie."""

from __future__ import annotations

import json
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import small_models
from safetensors.numpy import save_file
from small_models import (
    BASE_NAME,
    UNET_FILE,
    Weights,
    lora_metadata,
    lora_weights,
    part_weights,
    write_base,
    write_full,
    write_lora,
)

from enlight.dreambooth_api.manifest import describe_files
from enlight.dreambooth_api.published_files import FULL_FILES, LORA_FILE
from enlight.dreambooth_api.requests import Base
from enlight.main_api.models.checks import check_file_names, check_weights
from enlight.main_api.models.safetensors_header import HEADER_BYTES, read_header
from enlight.servicekit.errors import CorruptModel, InvalidField, WeightsUnavailable

SEED = 20261123


@pytest.fixture
def base(tmp_path: Path) -> Base:
    return write_base(tmp_path / "models").resolve(BASE_NAME, field="base_model")


def test_the_gateway_needs_no_torch() -> None:
    # Given a fresh interpreter
    # When everything that serves models is imported
    program = "import enlight.main_api.models.routes, sys; sys.exit('torch' in sys.modules)"
    # Then torch is not
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize("parts", [("unet",), ("unet", "text_encoder")])
def test_a_full_model_of_the_base_passes(tmp_path: Path, base: Base, parts: tuple[str, ...]) -> None:
    # Given a full model as a training publishes it
    folder = write_full(tmp_path / "model", seed=1, parts=parts)
    # When it is checked
    # Then nothing is wrong with it
    check_weights("full", folder, base)


@pytest.mark.parametrize("metadata", [lora_metadata(), {}], ids=["with metadata", "without"])
def test_a_lora_of_the_base_passes(tmp_path: Path, base: Base, metadata: dict[str, str]) -> None:
    # Given a LoRA in diffusers' layout
    # When it is checked
    # Then nothing is wrong with it
    check_weights("lora", write_lora(tmp_path / "model", seed=1, metadata=metadata), base)


def test_what_the_trainer_writes_passes(tmp_path: Path) -> None:
    # Given files as the trainer itself writes them, of a real network
    # (imported here: with torch, which nothing else in this file needs)
    import torch
    from tiny_base import build_tiny_base
    from training_samples import training_request

    from enlight.dreambooth_api import lora, model_files, pipelines

    base = build_tiny_base(tmp_path / "base")
    pipeline = pipelines.StableDiffusion.load(base.folder, device=torch.device("cpu"), weights_dtype=torch.float32)
    networks = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
    weights = {f"{part}.{name}": value for part, net in networks.items() for name, value in net.state_dict().items()}
    factors = lora.add_lora(pipeline, rank=4, alpha=4, with_text_encoder=True, seed=0)
    for kind, parameters in (("full", weights), ("lora", factors)):
        folder = tmp_path / kind
        folder.mkdir()
        request = training_request(kind=kind, lora_rank=4, lora_alpha=4)
        model_files.save_model_files(parameters, request, base.folder, folder)
        # When they are checked
        # Then nothing is wrong with them
        check_file_names(kind, describe_files(folder))
        check_weights(kind, folder, base)
    # And the files are called as diffusers calls them
    assert (FULL_FILES, LORA_FILE) == (small_models.FULL_FILES, small_models.LORA_FILE)


def test_names_of_older_libraries_pass(tmp_path: Path, base: Base) -> None:
    # Given a text encoder with the names that transformers had before version 5
    folder = write_full(tmp_path / "model", seed=1)
    weights = {f"text_model.{name}": value for name, value in part_weights("text_encoder", seed=1).items()}
    (folder / "text_encoder").mkdir()
    position_ids = np.arange(4, dtype=np.int64)
    file = folder / "text_encoder/model.safetensors"
    save_file({**weights, "text_model.embeddings.position_ids": position_ids}, file)
    # When it is checked
    # Then nothing is wrong with it
    check_weights("full", folder, base)
    # But a weight under both names is ambiguous
    save_file({**weights, "embeddings.weight": weights["text_model.embeddings.weight"]}, file)
    with pytest.raises(InvalidField, match="twice"):
        check_weights("full", folder, base)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda w: {**w, "evil.weight": w["conv_in.bias"]}, "not those of the base: unet.evil.weight"),
        (lambda w: {name: value for name, value in w.items() if name != "conv_in.bias"}, "not those of the base"),
        (lambda w: {**w, "conv_in.bias": np.zeros(9, np.float16)}, r"has the shape \[9\], the base's has \[8\]"),
        (lambda w: {**w, "conv_in.bias": np.zeros(8, np.int32)}, "is I32"),
        (lambda w: {}, "not those of the base"),
    ],
    ids=["one more", "one less", "shape", "type", "none"],
)
def test_a_full_model_of_something_else_is_refused(
    tmp_path: Path, base: Base, change: Callable[[Weights], Weights], match: str
) -> None:
    # Given weights that are not quite those of the base
    folder = write_full(tmp_path / "model", seed=1)
    save_file(change(part_weights("unet", seed=1)), folder / UNET_FILE)
    # When they are checked
    # Then they are refused, under the file's name
    with pytest.raises(InvalidField, match=match):
        check_weights("full", folder, base)


def _renamed(weights: Weights, old: str, new: str) -> Weights:
    return {name.replace(old, new): value for name, value in weights.items()}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda w: _renamed(w, "lora.down", "lora.sideways"), "no weight of a LoRA"),
        (lambda w: _renamed(w, "mid.", "other."), "the base has no unet.other"),
        (lambda w: {name: value for name, value in w.items() if "to_q.lora.up" not in name}, "one of the two factors"),
        (lambda w: {**w, "unet.mid.attn.to_q.lora.up.weight": np.zeros((7, 2), np.float16)}, "do not fit"),
        (lambda w: {**w, "unet.mid.attn.to_q.lora.up.weight": np.zeros((8, 3), np.float16)}, "do not fit"),
        (lambda w: {**w, "unet.mid.attn.to_q.lora.up.weight": np.zeros((8, 2), np.int64)}, "is I64"),
        (lambda w: {**w, "unet.mid.attn.to_q.lora_B.weight": np.zeros((8, 2), np.float16)}, "twice"),
        (lambda w: lora_weights(seed=1, rank=3), "metadata says otherwise"),
    ],
    ids=["name", "module", "half", "rows", "rank", "type", "twice", "other rank"],
)
def test_a_lora_of_something_else_is_refused(
    tmp_path: Path, base: Base, change: Callable[[Weights], Weights], match: str
) -> None:
    # Given factors that do not fit the base
    folder = write_lora(tmp_path / "model", seed=1, weights=change(lora_weights(seed=1)))
    # When they are checked
    # Then they are refused
    with pytest.raises(InvalidField, match=match):
        check_weights("lora", folder, base)


@pytest.mark.parametrize(
    "metadata",
    [
        {"lora_adapter_metadata": "[]"},
        {"lora_adapter_metadata": "[" * 100_000},
        lora_metadata(**{"unet.rank_pattern": {"mid": 4}}),
        lora_metadata(**{"unet.use_dora": True}),
        lora_metadata(**{"unet.lora_alpha": "4"}),
        lora_metadata(**{"unet.lora_alpha": 0}),
        {"lora_adapter_metadata": '{"unet.lora_alpha": NaN}'},
        lora_metadata(**{"unet.r": [2]}),
    ],
)
def test_settings_that_the_engine_cannot_use_are_refused(tmp_path: Path, base: Base, metadata: dict[str, str]) -> None:
    # Given a LoRA whose metadata asks for what is not supported, or for nothing sensible
    folder = write_lora(tmp_path / "model", seed=1, metadata=metadata)
    # When it is checked
    # Then it is refused
    with pytest.raises(InvalidField, match=LORA_FILE):
        check_weights("lora", folder, base)


def test_an_empty_lora_is_refused(tmp_path: Path, base: Base) -> None:
    # Given a LoRA file without weights
    save_file({}, tmp_path / LORA_FILE)
    # When it is checked
    # Then it is refused
    with pytest.raises(InvalidField, match="no weights"):
        check_weights("lora", tmp_path, base)


@pytest.mark.parametrize("text", ["[]", "no JSON", "[" * 60_000])
def test_a_configuration_that_is_no_object_is_refused(tmp_path: Path, base: Base, text: str) -> None:
    # Given a model with a broken configuration
    folder = write_full(tmp_path / "model", seed=1)
    (folder / "unet/config.json").write_text(text)
    # When it is checked
    # Then it is refused
    with pytest.raises(InvalidField, match=r"unet/config\.json"):
        check_weights("full", folder, base)


def test_a_base_that_is_not_here_or_broken_is_our_fault(tmp_path: Path, base: Base) -> None:
    # Given a good model, and a base whose weights cannot be read
    folder = write_full(tmp_path / "model", seed=1)
    (base.folder / UNET_FILE).write_bytes(b"broken")
    # When the model is checked
    # Then that is an error of the service
    with pytest.raises(CorruptModel):
        check_weights("full", folder, base)
    # And so is a base that is not there
    (base.folder / UNET_FILE).unlink()
    with pytest.raises(WeightsUnavailable, match="not on the gateway"):
        check_weights("full", folder, base)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("lora", ["pytorch_lora_weights.bin"]),
        ("lora", [LORA_FILE, UNET_FILE]),
        ("full", [LORA_FILE]),
        ("full", [UNET_FILE, "../unet/config.json"]),
        ("full", ["unet/config.json"]),
        ("full", []),
    ],
)
def test_other_files_are_refused(kind: str, names: list[str]) -> None:
    # Given names that are not those of such a model
    # When they are checked
    # Then they are refused
    with pytest.raises(InvalidField, match="files"):
        check_file_names(kind, names)


def _safetensors(header: object, data: bytes) -> bytes:
    text = json.dumps(header).encode() if not isinstance(header, bytes) else header
    return len(text).to_bytes(8, "little") + text + data


def _tensor(begin: int, end: int, *, dtype: str = "F16", shape: object = None) -> dict[str, object]:
    return {"dtype": dtype, "shape": [(end - begin) // 2] if shape is None else shape, "data_offsets": [begin, end]}


_LYING_FILES = {
    "empty": b"",
    "short": b"short",
    "pickle": pickle.dumps({"weights": [1, 2, 3]}),
    "longer than the file": (1 << 62).to_bytes(8, "little") + b"{}",
    "too long": _safetensors(b"{}" + b" " * HEADER_BYTES, b""),
    "list": _safetensors([], b""),
    "not UTF-8": _safetensors(b"\xff\xfe", b""),
    "name twice": _safetensors(b'{"a": {}, "a": {}}', b""),
    "cut": _safetensors({"a": _tensor(0, 4)}, b"123"),
    "more at the end": _safetensors({"a": _tensor(0, 4)}, b"12345"),
    "gap": _safetensors({"a": _tensor(2, 4)}, b"1234"),
    "overlap": _safetensors({"a": _tensor(0, 4), "b": _tensor(2, 6)}, b"123456"),
    "the same bytes": _safetensors({"a": _tensor(0, 4), "b": _tensor(0, 4)}, b"1234"),
    "another size": _safetensors({"a": _tensor(0, 4, shape=[3])}, b"1234"),
    "negative": _safetensors({"a": _tensor(0, 4, shape=[-2, -1])}, b"1234"),
    "half": _safetensors({"a": _tensor(0, 4, shape=[2.0])}, b"1234"),
    "nine dimensions": _safetensors({"a": _tensor(0, 4, shape=[1] * 8 + [2])}, b"1234"),
    "true": _safetensors({"a": _tensor(0, 4, shape=[True, 2])}, b"1234"),
    "objects": _safetensors({"a": _tensor(0, 4, dtype="object")}, b"1234"),
    "more keys": _safetensors({"a": {**_tensor(0, 4), "code": "x"}}, b"1234"),
    "metadata": _safetensors({"__metadata__": {"a": 1}}, b""),
}


@pytest.mark.parametrize("data", _LYING_FILES.values(), ids=_LYING_FILES)
def test_a_header_that_lies_is_refused(tmp_path: Path, data: bytes) -> None:
    # Given a file that is no safetensors file, or does not hold what it says
    path = tmp_path / "file.safetensors"
    path.write_bytes(data)
    # When its header is read
    # Then that fails as a mistake of whoever made it
    with pytest.raises(ValueError, match=r"\w"):
        read_header(path)


def test_headers_with_changed_bytes_are_refused_or_harmless(tmp_path: Path, base: Base) -> None:
    # Given a model's file with bytes of its header changed
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    folder = write_full(tmp_path / "model", seed=1)
    good = (folder / UNET_FILE).read_bytes()
    header_bytes = 8 + int.from_bytes(good[:8], "little")
    refused = 0
    for _ in range(500):
        data = bytearray(good)
        data[chance.randrange(header_bytes)] = chance.randrange(256)
        (folder / UNET_FILE).write_bytes(data)
        # When it is checked
        # Then it is refused as the sender's mistake, or its weights are still those of the base
        try:
            check_weights("full", folder, base)
        except InvalidField:
            refused += 1
    assert refused > 400
