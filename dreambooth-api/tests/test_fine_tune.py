"""Reading a stored model into memory: names, factors, scales, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from published_models import LORA_FILE, TEXT_ENCODER_FILE, UNET_FILE, manifest_of, write_full, write_lora
from safetensors.torch import load_file, save_file
from tiny_base import build_tiny_base

from enlight.dreambooth_api.fine_tune import read_fine_tune
from enlight.dreambooth_api.requests import Base
from enlight.servicekit.errors import CorruptModel

CPU = torch.device("cpu")
MODULE = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return build_tiny_base(tmp_path_factory.mktemp("base"))


def test_a_full_model_is_its_networks_weights_by_name(base: Base, tmp_path: Path) -> None:
    # Given a stored U-Net and text encoder, whose names have the prefix of published models
    folder = write_full(base, tmp_path, seed=1, with_text_encoder=True)
    # When it is read
    fine_tune = read_fine_tune(folder, manifest_of(base, "a", "full"), device=CPU)
    # Then every weight is there under the name that it has in memory
    stored = load_file(folder / UNET_FILE)
    assert {f"unet.{name}" for name in stored} <= set(fine_tune.replaced)
    assert "text_encoder.embeddings.token_embedding.weight" in fine_tune.replaced
    assert not any("text_model" in name for name in fine_tune.names)
    assert torch.equal(fine_tune.replaced["unet.conv_in.weight"], stored["conv_in.weight"])
    assert fine_tune.version == "a@1"
    assert fine_tune.changes_text_encoder
    assert fine_tune.size_bytes == sum(
        tensor.nbytes for path in (UNET_FILE, TEXT_ENCODER_FILE) for tensor in load_file(folder / path).values()
    )


def test_the_memory_is_its_own(base: Base, tmp_path: Path) -> None:
    # Given a model that was read
    folder = write_full(base, tmp_path, seed=1)
    fine_tune = read_fine_tune(folder, manifest_of(base, "a", "full"), device=CPU)
    before = fine_tune.replaced["unet.conv_in.weight"].clone()
    # When its file is overwritten in place
    with (folder / UNET_FILE).open("r+b") as file:
        file.write(b"\0" * (folder / UNET_FILE).stat().st_size)
    # Then the tensors stay
    assert torch.equal(fine_tune.replaced["unet.conv_in.weight"], before)


def test_position_ids_of_old_text_encoders_are_left_out(base: Base, tmp_path: Path) -> None:
    folder = write_full(base, tmp_path, seed=1, with_text_encoder=True)
    stored = load_file(folder / TEXT_ENCODER_FILE)
    stored["text_model.embeddings.position_ids"] = torch.arange(32)[None]
    save_file(stored, folder / TEXT_ENCODER_FILE)
    fine_tune = read_fine_tune(folder, manifest_of(base, "a", "full"), device=CPU)
    assert not any("position_ids" in name for name in fine_tune.names)


@pytest.mark.parametrize(("alpha", "scale"), [(8, 2.0), (2, 0.5), (None, 1.0)])
def test_a_lora_is_pairs_of_factors_with_a_scale(base: Base, tmp_path: Path, alpha: int | None, scale: float) -> None:
    # Given a LoRA of rank 4
    folder = write_lora(base, tmp_path, seed=1, rank=4, alpha=alpha, with_text_encoder=True)
    # When it is read
    fine_tune = read_fine_tune(folder, manifest_of(base, "a", "lora"), device=CPU)
    # Then each pair belongs to the weight that it is added to, and alpha / rank scales it
    factors = fine_tune.low_rank[f"{MODULE}.weight"]
    assert factors.down.shape[0] == factors.up.shape[1] == 4
    assert factors.scale == scale
    assert "text_encoder.encoder.layers.0.self_attn.q_proj.weight" in fine_tune.low_rank
    assert not fine_tune.replaced


@pytest.mark.parametrize(
    ("down", "up"),
    [("lora_A", "lora_B"), ("lora.down", "lora.up"), ("lora_linear_layer.down", "lora_linear_layer.up")],
)
def test_the_names_of_peft_and_of_diffusers_mean_the_same(base: Base, tmp_path: Path, down: str, up: str) -> None:
    save_file(
        {f"{MODULE}.{down}.weight": torch.ones(2, 32), f"{MODULE}.{up}.weight": torch.ones(32, 2)},
        tmp_path / LORA_FILE,
    )
    fine_tune = read_fine_tune(tmp_path, manifest_of(base, "a", "lora"), device=CPU)
    assert set(fine_tune.low_rank) == {f"{MODULE}.weight"}
    assert fine_tune.low_rank[f"{MODULE}.weight"].down.shape == (2, 32)


def test_rank_stabilised_scaling_is_read(base: Base, tmp_path: Path) -> None:
    folder = write_lora(base, tmp_path, seed=1, rank=4, alpha=8, metadata={"unet.use_rslora": True})
    fine_tune = read_fine_tune(folder, manifest_of(base, "a", "lora"), device=CPU)
    assert fine_tune.low_rank[f"{MODULE}.weight"].scale == 8 / math.sqrt(4)


@pytest.mark.parametrize(
    "metadata",
    [
        {"unet.use_dora": True},
        {"unet.rank_pattern": {"to_q": 8}},
        {"unet.alpha_pattern": {"to_q": 8}},
        {"unet.lora_bias": True},
        {"unet.r": 8},
        {"unet.lora_alpha": "many"},
    ],
)
def test_a_lora_that_would_be_applied_wrongly_is_refused(
    base: Base, tmp_path: Path, metadata: dict[str, object]
) -> None:
    folder = write_lora(base, tmp_path, seed=1, metadata=metadata)
    with pytest.raises(CorruptModel, match="a@1"):
        read_fine_tune(folder, manifest_of(base, "a", "lora"), device=CPU)


def broken_metadata(folder: Path) -> None:
    save_file({}, folder / LORA_FILE, {"lora_adapter_metadata": "{"})


def metadata_that_is_no_mapping(folder: Path) -> None:
    tensors = {f"{MODULE}.lora_A.weight": torch.ones(2, 32), f"{MODULE}.lora_B.weight": torch.ones(32, 2)}
    save_file(tensors, folder / LORA_FILE, {"lora_adapter_metadata": json.dumps([1])})


def half_a_pair(folder: Path) -> None:
    save_file({f"{MODULE}.lora_A.weight": torch.ones(2, 32)}, folder / LORA_FILE)


def foreign_tensor(folder: Path) -> None:
    save_file({"vae.conv_in.lora_A.weight": torch.ones(2, 32)}, folder / LORA_FILE)


def truncated(folder: Path) -> None:
    half_a_pair(folder)
    data = (folder / LORA_FILE).read_bytes()
    (folder / LORA_FILE).write_bytes(data[:-8])


def no_file(folder: Path) -> None:
    pass


@pytest.mark.parametrize(
    "damage",
    [broken_metadata, metadata_that_is_no_mapping, half_a_pair, foreign_tensor, truncated, no_file],
)
def test_a_damaged_lora_is_corrupt(base: Base, tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    damage(tmp_path)
    with pytest.raises(CorruptModel, match="a@1"):
        read_fine_tune(tmp_path, manifest_of(base, "a", "lora"), device=CPU)


def test_a_full_model_without_its_file_is_corrupt(base: Base, tmp_path: Path) -> None:
    with pytest.raises(CorruptModel, match="a@1"):
        read_fine_tune(tmp_path, manifest_of(base, "a", "full"), device=CPU)
