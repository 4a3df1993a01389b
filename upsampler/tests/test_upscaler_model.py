"""A folder is loaded whole and without running anything in it, or refused with a reason."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from enlight.servicekit.errors import CorruptModel, WeightsUnavailable
from enlight.upsampler.upscaler_model import UpscalerModel
from enlight.upsampler.weights import CONFIGURATIONS, TOKENIZER, WEIGHTS, ModelFolder

CPU = torch.device("cpu")


@pytest.fixture
def folder(tiny_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_folder, tmp_path / "model"))


def load(folder: Path, weights_dtype: torch.dtype = torch.float32) -> UpscalerModel:
    return UpscalerModel.load(folder, device=CPU, weights_dtype=weights_dtype)


def test_a_whole_folder_is_loaded(folder: Path) -> None:
    model = load(folder)
    assert (model.size_multiple, model.latent_channels, model.max_noise_level) == (8, 4, 350)
    for network in (model.unet, model.vae, model.text_encoder):
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
    assert ModelFolder(folder).missing() == []


def test_in_fp16_the_vae_stays_in_fp32_unless_its_configuration_says_otherwise(folder: Path) -> None:
    model = load(folder, torch.float16)
    assert (model.unet.dtype, model.vae.dtype, model.text_encoder.dtype) == (
        torch.float16,
        torch.float32,
        torch.float16,
    )
    decoded = model.decode(torch.zeros((1, 4, 8, 8), dtype=torch.float16))
    assert (decoded.shape, decoded.dtype) == ((1, 3, 32, 32), torch.float32)
    path = folder / "vae" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "force_upcast": False}))
    assert load(folder, torch.float16).vae.dtype == torch.float16


@pytest.mark.parametrize("name", [*CONFIGURATIONS, *TOKENIZER, *WEIGHTS])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert ModelFolder(folder).missing() == [name]
    with pytest.raises(WeightsUnavailable, match=Path(name).name.split(".")[0]):
        load(folder)


@pytest.mark.parametrize("name", [*CONFIGURATIONS, *WEIGHTS])
def test_a_damaged_file_is_an_error_of_the_model(folder: Path, name: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CorruptModel, match="fetch the model again"):
        load(folder)


def test_weights_that_lack_a_tensor_are_refused(folder: Path) -> None:
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    del weights["conv_in.weight"]
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(CorruptModel, match=r"conv_in\.weight"):
        load(folder)


def test_weights_of_the_fp16_variant_are_found(folder: Path) -> None:
    for name in WEIGHTS:
        path = folder / name
        path.rename(path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
    assert ModelFolder(folder).missing() == []
    assert load(folder).unet.dtype == torch.float32


class Canary:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self._path,))


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_pickle_is_never_opened(folder: Path, tmp_path: Path, name: str) -> None:
    canary = tmp_path / "canary"
    path = folder / name
    path.unlink()
    pickled = "pytorch_model.bin" if name.startswith("text") else "diffusion_pytorch_model.bin"
    path.with_name(pickled).write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(WeightsUnavailable, match="pickle"):
        load(folder)
    assert not canary.exists()


def test_code_in_the_folder_is_never_run(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (folder / "unet" / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass UNet2DConditionModel: pass\n")
    for name in ("model_index.json", "unet/config.json"):
        content = json.loads((folder / name).read_text())
        content["auto_map"] = {"AutoModel": "evil.UNet2DConditionModel"}
        if "unet" in content:
            content["unet"] = ["evil", "UNet2DConditionModel"]
        (folder / name).write_text(json.dumps(content))
    load(folder)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("model_index.json", {"_class_name": "StableDiffusionPipeline"}, "holds a StableDiffusionPipeline"),
        ("model_index.json", {"_class_name": None}, "holds a None"),
    ],
)
def test_another_kind_of_model_is_refused(folder: Path, name: str, change: dict[str, object], words: str) -> None:
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **change}))
    with pytest.raises(WeightsUnavailable, match=words):
        load(folder)


@pytest.mark.parametrize("name", ["scheduler", "low_res_scheduler"])
def test_a_scheduler_that_nobody_knows_is_the_folders_mistake(folder: Path, name: str) -> None:
    path = folder / name / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "_class_name": "NoSuchScheduler"}))
    with pytest.raises(CorruptModel, match="NoSuchScheduler"):
        load(folder)


def test_a_unet_that_takes_no_small_picture_is_refused(folder: Path) -> None:
    config = {**json.loads((folder / "unet" / "config.json").read_text()), "in_channels": 4}
    unet: Any = UNet2DConditionModel.from_config(config)
    unet.save_pretrained(folder / "unet")
    with pytest.raises(WeightsUnavailable, match=r"is no x4 upscaler.*takes 4 channels instead of 7"):
        load(folder)


def test_a_sum_of_the_settings_is_checked(folder: Path) -> None:
    ModelFolder(folder).require()
    with pytest.raises(CorruptModel, match="diffusion_pytorch_model"):
        ModelFolder(folder, sha256={"unet/diffusion_pytorch_model.safetensors": "0" * 64}).require()


def test_a_missing_model_says_what_to_run_and_where_it_belongs(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable) as caught:
        ModelFolder(tmp_path / "nothing").require()
    for hint in ("python -m enlight.upsampler.fetch_model", "folder nothing", "UPSAMPLER_WEIGHTS_FOLDER"):
        assert hint in caught.value.message
    assert caught.value.details["missing"] == [*CONFIGURATIONS, *TOKENIZER, *WEIGHTS]
