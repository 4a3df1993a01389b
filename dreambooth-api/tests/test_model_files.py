from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file
from tiny_base import build_tiny_base
from tiny_training import make_request
from transformers import CLIPTextModel

from enlight.dreambooth_api.lora import add_lora
from enlight.dreambooth_api.model_files import save_model_files
from enlight.dreambooth_api.pipelines import StableDiffusion
from enlight.servicekit.errors import JobFailed

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_base(tmp_path_factory.mktemp("base")).folder


@pytest.fixture
def base(folder: Path) -> StableDiffusion:
    return StableDiffusion.load(folder, device=CPU, weights_dtype=torch.float32)


def _files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _parameters(base: StableDiffusion) -> dict[str, torch.Tensor]:
    networks: dict[str, torch.nn.Module] = {"unet": base.unet, "text_encoder": base.text_encoder}
    return {
        f"{part}.{name}": parameter + 0.25
        for part, network in networks.items()
        for name, parameter in network.named_parameters()
    }


def test_a_full_fine_tune_is_read_by_diffusers_and_transformers(
    base: StableDiffusion, folder: Path, tmp_path: Path
) -> None:
    # Given a trained U-Net and text encoder
    parameters = _parameters(base)

    # When they are saved
    save_model_files(parameters, make_request((), train_text_encoder=True), folder, tmp_path)

    # Then there is nothing but the two, in fp16, and the libraries load them
    assert _files(tmp_path) == [
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
    ]
    load_unet: Any = UNet2DConditionModel.from_pretrained
    load_text_encoder: Any = CLIPTextModel.from_pretrained
    for part, network in (
        ("unet", load_unet(tmp_path / "unet", torch_dtype=torch.float32)),
        ("text_encoder", load_text_encoder(tmp_path / "text_encoder", dtype=torch.float32)),
    ):
        for name, tensor in network.state_dict().items():
            assert torch.equal(tensor, parameters[f"{part}.{name}"].half().float()), name
    stored = load_file(tmp_path / "text_encoder" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert all(name.startswith("text_model.") for name in stored)  # as on the hub, for older transformers


def test_without_the_text_encoder_only_the_unet_is_saved(base: StableDiffusion, folder: Path, tmp_path: Path) -> None:
    parameters = {name: value for name, value in _parameters(base).items() if name.startswith("unet.")}
    save_model_files(parameters, make_request(()), folder, tmp_path)
    assert _files(tmp_path) == ["unet/config.json", "unet/diffusion_pytorch_model.safetensors"]


def test_weights_in_channels_last_order_are_saved_in_the_usual_one(
    base: StableDiffusion, folder: Path, tmp_path: Path
) -> None:
    parameters = {f"unet.{name}": parameter for name, parameter in base.unet.named_parameters()}
    moved = {
        name: tensor.to(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor
        for name, tensor in parameters.items()
    }
    for name, weights in (("usual", parameters), ("moved", moved)):
        (tmp_path / name).mkdir()
        save_model_files(weights, make_request(()), folder, tmp_path / name)
    file = "unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "usual" / file).read_bytes() == (tmp_path / "moved" / file).read_bytes()


def test_a_lora_is_one_file_that_diffusers_loads(base: StableDiffusion, folder: Path, tmp_path: Path) -> None:
    parameters = add_lora(base, rank=4, alpha=4, with_text_encoder=False, seed=0)
    request = make_request((), kind="lora", lora_rank=4, lora_alpha=4)
    save_model_files(parameters, request, folder, tmp_path)
    assert _files(tmp_path) == ["pytorch_lora_weights.safetensors"]
    load: Any = StableDiffusionPipeline.from_pretrained
    pipe = load(folder, local_files_only=True, use_safetensors=True)
    pipe.load_lora_weights(tmp_path)  # by its usual name
    assert pipe.get_active_adapters()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e5])
def test_a_broken_model_is_not_saved(base: StableDiffusion, folder: Path, tmp_path: Path, value: float) -> None:
    # Given one weight that is no number, or that fp16 cannot hold
    parameters: dict[str, torch.Tensor] = {
        f"unet.{name}": parameter for name, parameter in base.unet.named_parameters()
    }
    bias = parameters["unet.conv_in.bias"].detach().clone()
    bias[1] = value
    parameters["unet.conv_in.bias"] = bias

    # When it is saved, then it is named and nothing is there
    with pytest.raises(JobFailed, match=r"unet\.conv_in\.bias"):
        save_model_files(parameters, make_request(()), folder, tmp_path)
    assert _files(tmp_path) == []
