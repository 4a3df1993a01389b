from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file, save_file
from tiny_base import SIZE_PX, TEXT_WIDTH, TOKENS, build_tiny_base

from enlight.dreambooth_api.pipelines import BasePipeline, StableDiffusion
from enlight.servicekit.errors import CorruptModel, WeightsUnavailable

CPU = torch.device("cpu")
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_base(tmp_path_factory.mktemp("base")).folder


@pytest.fixture(scope="module")
def base(folder: Path) -> StableDiffusion:
    return _load(folder)


@pytest.fixture(scope="module")
def diffusers_pipe(folder: Path) -> Any:
    load: Any = StableDiffusionPipeline.from_pretrained
    return load(folder, local_files_only=True, use_safetensors=True)


def _load(folder: Path, weights_dtype: torch.dtype = torch.float32) -> StableDiffusion:
    return StableDiffusion.load(folder, device=CPU, weights_dtype=weights_dtype)


def test_properties_come_from_the_folder(base: StableDiffusion) -> None:
    pipeline: BasePipeline = base
    assert pipeline.prediction_type == "epsilon"
    assert pipeline.latent_scale == 4
    assert pipeline.token_count == TOKENS
    assert pipeline.latent_channels == 4
    assert pipeline.latent_factor == 0.5


def test_prompts_are_embedded_as_by_diffusers(base: StableDiffusion, diffusers_pipe: Any) -> None:
    # Given a short, an empty and a much too long prompt
    prompts = ["a photo of sks dog", "", "a cat " * 100]

    # When they are embedded
    embeddings = base.encode_prompts(prompts)

    # Then each is what diffusers' pipeline has
    expected, _ = diffusers_pipe.encode_prompt(prompts, CPU, 1, do_classifier_free_guidance=False)
    assert embeddings.shape == (3, TOKENS, TEXT_WIDTH)
    assert torch.equal(embeddings, expected)
    assert not embeddings.requires_grad


def test_tokens_of_a_long_prompt_are_cut(base: StableDiffusion) -> None:
    ids = base.tokenize(["a cat " * 100])
    assert ids.shape == (1, TOKENS)
    assert ids.dtype == torch.int64


def test_photos_become_a_latent_distribution(base: StableDiffusion, diffusers_pipe: Any) -> None:
    pixels = torch.rand(2, 3, SIZE_PX, SIZE_PX, generator=torch.Generator().manual_seed(0)) * 2 - 1
    mean, std = base.encode_photos(pixels)
    expected = diffusers_pipe.vae.encode(pixels).latent_dist
    assert mean.shape == (2, 4, SIZE_PX // 4, SIZE_PX // 4)
    assert torch.equal(mean, expected.mean)
    assert torch.equal(std, expected.std)
    assert std.min() > 0


def test_photos_of_a_wrong_shape_are_refused(base: StableDiffusion) -> None:
    with pytest.raises(ValueError, match=r"\(1, 4, 8, 8\)"):
        base.encode_photos(torch.zeros(1, 4, 8, 8))


def test_decoding_rounds_as_diffusers_does(base: StableDiffusion, diffusers_pipe: Any) -> None:
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    rgb = base.decode(latents)
    with torch.no_grad():
        decoded = diffusers_pipe.vae.decode(latents / 0.5).sample
    pictures = diffusers_pipe.image_processor.postprocess(decoded, output_type="np")
    assert rgb.shape == (2, SIZE_PX, SIZE_PX, 3)
    assert rgb.dtype == torch.uint8
    assert torch.equal(rgb, torch.from_numpy((pictures * 255).round().astype("uint8")))


def test_predictions_depend_on_latents_time_and_prompt(base: StableDiffusion) -> None:
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(2))
    dog, cat = torch.split(base.encode_prompts(["a dog", "a cat"]), 1)
    with torch.no_grad():
        first = base.predict(latents[:1], torch.tensor([10]), dog)
        others = [
            base.predict(latents[1:], torch.tensor([10]), dog),
            base.predict(latents[:1], torch.tensor([900]), dog),
            base.predict(latents[:1], torch.tensor([10]), cat),
        ]
    assert first.shape == (1, 4, 16, 16)
    for other in others:
        assert (first - other).abs().mean() > 0.01


def test_token_embeddings_keep_the_graph_for_who_trains(base: StableDiffusion) -> None:
    base.text_encoder.requires_grad_(requires_grad=True)
    try:
        assert base.encode_tokens(base.tokenize(["a dog"])).requires_grad
    finally:
        base.text_encoder.requires_grad_(requires_grad=False)


def test_networks_are_frozen(base: StableDiffusion) -> None:
    for network in (base.unet, base.vae, base.text_encoder):
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_half_precision_files_become_the_asked_precision(folder: Path, tmp_path: Path) -> None:
    # Given a base whose files are fp16, named as the hub names such variants
    shutil.copytree(folder, tmp_path / "base")
    for part, name in (("unet", WEIGHTS), ("vae", WEIGHTS), ("text_encoder", "model.safetensors")):
        path = tmp_path / "base" / part / name
        halves = {key: tensor.half() for key, tensor in load_file(path).items()}
        save_file(halves, path.with_suffix(".fp16.safetensors"), {"format": "pt"})
        path.unlink()

    # When it is loaded in fp32
    loaded = _load(tmp_path / "base")

    # Then its weights are fp32, with the values of the files
    for network in (loaded.unet, loaded.vae, loaded.text_encoder):
        assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    stored = load_file(folder / "unet" / WEIGHTS)["conv_in.weight"]
    assert torch.equal(loaded.unet.conv_in.weight, stored.half().float())


def test_nothing_is_written_to_the_terminal(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _load(folder)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _replace_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new, 1))

    return change


def _write(name: str, content: bytes) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return change


def _halve(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])

    return change


def _drop_tensor(folder: Path) -> None:
    tensors = load_file(folder / "vae" / WEIGHTS)
    del tensors["decoder.conv_out.weight"]
    save_file(tensors, folder / "vae" / WEIGHTS, {"format": "pt"})


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        (_remove(f"unet/{WEIGHTS}"), "unet"),
        (_remove("text_encoder/model.safetensors"), "text_encoder"),
        (_remove("vae/config.json"), "vae"),
        (_remove("model_index.json"), "model_index.json"),
        (_remove("scheduler/scheduler_config.json"), "scheduler"),
        (_remove("tokenizer/merges.txt"), "tokenizer"),
        (shutil.rmtree, "model_index.json"),
        (_replace_text("model_index.json", "StableDiffusionPipeline", "FluxPipeline"), "FluxPipeline"),
    ],
)
def test_a_base_that_is_not_there_says_what_is_missing(
    folder: Path, tmp_path: Path, damage: Callable[[Path], None], place: str
) -> None:
    shutil.copytree(folder, tmp_path / "base")
    damage(tmp_path / "base")
    with pytest.raises(WeightsUnavailable, match=place) as caught:
        _load(tmp_path / "base")
    assert str(tmp_path / "base") in caught.value.message


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        (_halve(f"unet/{WEIGHTS}"), "unet"),
        (_write("text_encoder/model.safetensors", b""), "text_encoder"),
        (_write("tokenizer/vocab.json", b"{"), "tokenizer"),
        (_write("model_index.json", b"[]"), "model_index.json"),
        (_write("unet/config.json", b"\xff\xfe"), "unet"),
        (_replace_text("unet/config.json", "16,", "24,"), "unet"),
        (_replace_text("text_encoder/config.json", '"num_hidden_layers": 2', '"num_hidden_layers": 3'), "lacks"),
        (_drop_tensor, r"lacks 1 of its weights \(decoder.conv_out.weight"),
    ],
)
def test_a_base_that_is_broken_names_the_part(
    folder: Path, tmp_path: Path, damage: Callable[[Path], None], place: str
) -> None:
    shutil.copytree(folder, tmp_path / "base")
    damage(tmp_path / "base")
    with pytest.raises(CorruptModel, match=place):
        _load(tmp_path / "base")


class _Canary:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


def test_pickled_weights_are_refused_and_not_opened(folder: Path, tmp_path: Path) -> None:
    # Given a base whose U-Net is a pickle that writes a file when it is opened
    shutil.copytree(folder, tmp_path / "base")
    (tmp_path / "base" / "unet" / WEIGHTS).unlink()
    canary = tmp_path / "canary"
    pickled = pickle.dumps(_Canary(canary))
    (tmp_path / "base" / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickled)

    # When it is loaded
    with pytest.raises(WeightsUnavailable, match="as a pickle, which can run code"):
        _load(tmp_path / "base")

    # Then the pickle was not opened
    assert not canary.exists()


def test_code_in_the_folder_is_not_run(folder: Path, tmp_path: Path) -> None:
    # Given a base that asks for a class of its own, with the code beside it
    shutil.copytree(folder, tmp_path / "base")
    canary = tmp_path / "canary"
    config = tmp_path / "base" / "text_encoder" / "config.json"
    content = json.loads(config.read_text())
    content["auto_map"] = {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil"}
    config.write_text(json.dumps(content))
    (tmp_path / "base" / "text_encoder" / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: ...\n")

    # When it is loaded
    loaded = _load(tmp_path / "base")

    # Then it is the ordinary class, and the code was not imported
    assert type(loaded.text_encoder).__name__ == "CLIPTextModel"
    assert not canary.exists()


def test_an_inpainting_base_is_refused(folder: Path, tmp_path: Path) -> None:
    # Given a U-Net with the nine input channels of inpainting models
    shutil.copytree(folder, tmp_path / "base")
    _replace_text("unet/config.json", '"in_channels": 4', '"in_channels": 9')(tmp_path / "base")
    path = tmp_path / "base" / "unet" / WEIGHTS
    tensors = load_file(path)
    tensors["conv_in.weight"] = torch.zeros(16, 9, 3, 3)
    save_file(tensors, path, {"format": "pt"})

    # When it is loaded, then the reason is told
    with pytest.raises(WeightsUnavailable, match="inpainting"):
        _load(tmp_path / "base")
