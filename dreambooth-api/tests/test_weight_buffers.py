"""Switching models in place: what is copied, what is restored, what is refused; pixels against diffusers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers_reference
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from published_models import manifest_of, write_full, write_lora
from safetensors.torch import load_file
from tiny_base import build_tiny_base

from enlight.dreambooth_api.fine_tune import FineTune, LowRank, read_fine_tune
from enlight.dreambooth_api.pure.inference import sample
from enlight.dreambooth_api.requests import Base
from enlight.dreambooth_api.resident_bases import ResidentBase, ResidentBases
from enlight.dreambooth_api.weight_buffers import WeightBuffers
from enlight.servicekit.errors import CorruptModel

CPU = torch.device("cpu")
PROMPTS = ["a photo of sks dog", "a red toy"]
SEEDS = [1, 2]
STEPS = 4


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return build_tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def folders(base: Base, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {
        "full": write_full(base, root / "full", seed=1),
        "full2": write_full(base, root / "full2", seed=2),
        "text": write_full(base, root / "text", seed=3, with_text_encoder=True),
        "lora": write_lora(base, root / "lora", seed=4),
        "loratext": write_lora(base, root / "loratext", seed=5, rank=2, alpha=2, with_text_encoder=True),
    }


@pytest.fixture(scope="module")
def models(base: Base, folders: dict[str, Path]) -> dict[str, FineTune]:
    return {
        name: read_fine_tune(folder, manifest_of(base, name, "lora" if name.startswith("lora") else "full"), device=CPU)
        for name, folder in folders.items()
    }


def load(base: Base) -> ResidentBase:
    return ResidentBases(CPU, 1).get(base)


@pytest.fixture(scope="module")
def loaded(base: Base) -> ResidentBase:
    return load(base)


@pytest.fixture
def resident(loaded: ResidentBase) -> Iterator[ResidentBase]:
    """A base as it was loaded, whatever the test does to it."""
    yield loaded
    loaded.buffers.restore_base()


def pixels(resident: ResidentBase) -> torch.Tensor:
    return sample(resident.pipeline, PROMPTS, seeds=SEEDS, steps=STEPS, guidance_scales=5.0, width_px=64, height_px=64)


def storages(resident: ResidentBase) -> dict[str, int]:
    networks = {"unet": resident.pipeline.unet, "text": resident.pipeline.text_encoder}
    return {
        f"{part}.{name}": tensor.data_ptr()
        for part, network in networks.items()
        for name, tensor in network.state_dict().items()
    }


def weights(resident: ResidentBase) -> list[torch.Tensor]:
    return [tensor.clone() for tensor in resident.pipeline.unet.state_dict().values()] + [
        tensor.clone() for tensor in resident.pipeline.text_encoder.state_dict().values()
    ]


def assert_equal_weights(resident: ResidentBase, expected: list[torch.Tensor]) -> None:
    assert all(torch.equal(*pair) for pair in zip(weights(resident), expected, strict=True))


def by_diffusers(base: Base, folder: Path, kind: str) -> NDArray[np.uint8]:
    """Pictures of a freshly loaded pipeline with the model as diffusers itself takes it."""
    pipeline: Any = diffusers_reference.load_pipeline(base.folder)
    if kind == "full":
        for part, network in (("unet", pipeline.unet), ("text_encoder", pipeline.text_encoder)):
            for path in (folder / part).glob("*.safetensors"):
                stored = {name.removeprefix("text_model."): t.float() for name, t in load_file(path).items()}
                network.load_state_dict(stored)
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft's and diffusers' own
            pipeline.load_lora_weights(str(folder))
            pipeline.fuse_lora()
    return diffusers_reference.pictures(
        pipeline, PROMPTS, SEEDS, num_inference_steps=STEPS, guidance_scale=5.0, width=64, height=64
    )


@pytest.mark.parametrize("name", ["full", "text", "lora", "loratext"])
def test_a_model_gives_the_pixels_that_diffusers_gives(
    base: Base, resident: ResidentBase, models: dict[str, FineTune], folders: dict[str, Path], name: str
) -> None:
    # Given the pictures of the plain base
    plain = pixels(resident)
    # When a model is switched to
    resident.buffers.switch_to(models[name])
    ours = pixels(resident)
    # Then the pictures are those of diffusers with that model, and not the base's
    theirs = by_diffusers(base, folders[name], "lora" if name.startswith("lora") else "full")
    assert np.abs(ours.numpy().astype(int) - theirs.astype(int)).max() <= 1
    assert (ours.int() - plain.int()).abs().max() > 10


def test_switching_leaves_no_trace_and_moves_no_storage(
    base: Base, resident: ResidentBase, models: dict[str, FineTune]
) -> None:
    # Given fresh loads of the base with each model
    fresh: dict[str | None, torch.Tensor] = {None: pixels(load(base))}
    for name, fine_tune in models.items():
        other = load(base)
        other.buffers.switch_to(fine_tune)
        fresh[name] = pixels(other)
    places = storages(resident)
    base_weights = weights(resident)
    # When one base goes through all of them, back and forth
    history: list[str | None] = [
        "full",
        "lora",
        None,
        "text",
        "loratext",
        "full2",
        None,
        "lora",
        "full",
        "text",
    ]
    for step in history:
        if step is None:
            resident.buffers.restore_base()
            assert_equal_weights(resident, base_weights)
        else:
            resident.buffers.switch_to(models[step])
        # Then the pixels are equal to the bit, whatever was there before
        assert torch.equal(pixels(resident), fresh[step]), step
    assert storages(resident) == places


def test_a_switch_copies_only_what_has_to_change(resident: ResidentBase, models: dict[str, FineTune]) -> None:
    buffers = resident.buffers
    unet_bytes = sum(tensor.nbytes for tensor in resident.pipeline.unet.state_dict().values())
    text_bytes = sum(tensor.nbytes for tensor in resident.pipeline.text_encoder.state_dict().values())
    unet = resident.pipeline.unet.state_dict()
    lora_bytes = sum(unet[name.removeprefix("unet.")].nbytes for name in models["lora"].low_rank)

    def copied(action: Callable[[], None]) -> int:
        before = buffers.copied_bytes
        action()
        return buffers.copied_bytes - before

    # Given a base that nothing changed, then nothing is restored
    assert copied(buffers.restore_base) == 0
    # When a U-Net follows, or follows another, then exactly the U-Net is copied
    assert copied(lambda: buffers.switch_to(models["full"])) == unet_bytes
    assert copied(lambda: buffers.switch_to(models["full2"])) == unet_bytes
    assert copied(buffers.restore_base) == unet_bytes
    # When a model with a text encoder goes, then that is restored besides
    assert copied(lambda: buffers.switch_to(models["text"])) == unet_bytes + text_bytes
    assert copied(lambda: buffers.switch_to(models["full"])) == unet_bytes + text_bytes
    # When a LoRA follows the base, then only the weights that it touches
    buffers.restore_base()
    assert copied(lambda: buffers.switch_to(models["lora"])) == lora_bytes < unet_bytes / 2
    assert copied(buffers.restore_base) == lora_bytes


def test_the_text_encoders_version_is_known(resident: ResidentBase, models: dict[str, FineTune]) -> None:
    history: list[tuple[str, str | None]] = [("loratext", "loratext@1"), ("full", None), ("text", "text@1")]
    for name, version in history:
        resident.buffers.switch_to(models[name])
        assert resident.buffers.resident == f"{name}@1"
        assert resident.buffers.text_encoder_version == version


CONV = "unet.conv_in.weight"
QUERY = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight"


def without_a_weight(model: FineTune) -> FineTune:
    return replace(model, replaced={k: v for k, v in model.replaced.items() if k != CONV})


def with_a_strange_weight(model: FineTune) -> FineTune:
    return replace(model, replaced={**model.replaced, "unet.more": torch.zeros(1)})


def with_another_shape(model: FineTune) -> FineTune:
    return replace(model, replaced={**model.replaced, CONV: torch.zeros(16, 4, 1, 1)})


def with_integers(model: FineTune) -> FineTune:
    return replace(model, replaced={**model.replaced, CONV: torch.zeros(16, 4, 3, 3, dtype=torch.int64)})


def empty(model: FineTune) -> FineTune:
    return replace(model, replaced={})


def of_another_base(model: FineTune) -> FineTune:
    return replace(model, base_name="tests/other")


def of_another_revision(model: FineTune) -> FineTune:
    return replace(model, base_revision="b" * 40)


def factors(up: tuple[int, ...], down: tuple[int, ...], name: str = QUERY) -> Callable[[FineTune], FineTune]:
    low_rank = {name: LowRank(torch.zeros(up), torch.zeros(down), 1.0)}
    return lambda model: replace(model, replaced={}, low_rank=low_rank)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_a_weight, "missing weights: unet.conv_in.weight"),
        (with_a_strange_weight, "unexpected weights: unet.more"),
        (with_another_shape, "has shape"),
        (with_integers, "int64"),
        (empty, "no weights"),
        (of_another_base, "tests/other"),
        (of_another_revision, "revision"),
        (factors((32, 2), (3, 32)), "factors"),
        (factors((31, 2), (2, 32)), "factors"),
        (factors((32, 2), (2, 31)), "factors"),
        (factors((32, 2, 1, 1), (2, 32, 1, 1)), "factors"),
        (factors((16, 2, 3, 3), (2, 4, 3, 3), CONV), "factors"),
        (factors((32, 2), (2, 32), "unet.conv_in.bias"), "factors"),
        (factors((32, 2), (2, 32), "unet.nowhere.weight"), "unexpected"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_before_anything_is_written(
    base: Base,
    loaded: ResidentBase,
    models: dict[str, FineTune],
    change: Callable[[FineTune], FineTune],
    message: str,
) -> None:
    # Given buffers of a base with a known revision, another model in them
    buffers = WeightBuffers(
        base.name, "a" * 40, {f"unet.{n}": t.clone() for n, t in loaded.pipeline.unet.state_dict().items()}
    )
    buffers.switch_to(models["full2"])
    before = buffers.copied_bytes
    # When a model comes that does not fit
    with pytest.raises(CorruptModel, match=message):
        buffers.switch_to(change(models["full"]))
    # Then nothing happened to them
    assert buffers.resident == "full2@1"
    assert buffers.copied_bytes == before


def test_when_copying_fails_the_base_is_back(resident: ResidentBase, models: dict[str, FineTune]) -> None:
    # Given a model in the buffers, and another one that passes the checks but whose last tensor has no data
    base_weights = weights(resident)
    plain = pixels(resident)
    resident.buffers.switch_to(models["lora"])
    *_, last = models["full"].replaced
    broken = {**models["full"].replaced, last: models["full"].replaced[last].to("meta")}
    # When it is switched to
    with pytest.raises(NotImplementedError, match="meta"):
        resident.buffers.switch_to(replace(models["full"], replaced=broken))
    # Then the buffers hold the plain base, and go on working
    assert resident.buffers.resident is None
    assert_equal_weights(resident, base_weights)
    assert torch.equal(pixels(resident), plain)
    resident.buffers.switch_to(models["full"])
    assert resident.buffers.resident == "full@1"


def test_a_convolutions_factors_are_merged_as_diffusers_does(resident: ResidentBase) -> None:
    # Given factors of rank 2 for a 3 x 3 convolution
    generator = torch.Generator().manual_seed(0)
    up = torch.randn(16, 2, 1, 1, generator=generator)
    down = torch.randn(2, 4, 3, 3, generator=generator)
    weight = resident.pipeline.unet.state_dict()["conv_in.weight"]
    original = weight.clone()
    model = FineTune("conv@1", resident.base.name, None, {}, {CONV: LowRank(up, down, 0.5)})
    # When they are merged
    resident.buffers.switch_to(model)
    # Then the weight is W + scale * (up o down), as a composition of both convolutions
    addition = torch.nn.functional.conv2d(down.permute(1, 0, 2, 3), up).permute(1, 0, 2, 3)
    torch.testing.assert_close(weight, original + 0.5 * addition)
