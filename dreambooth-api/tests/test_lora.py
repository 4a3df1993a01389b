from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors import safe_open
from tiny_base import build_tiny_base

from enlight.dreambooth_api.lora import add_lora, save_lora
from enlight.dreambooth_api.pipelines import StableDiffusion

CPU = torch.device("cpu")
RANK = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_base(tmp_path_factory.mktemp("base")).folder


def _base(folder: Path) -> StableDiffusion:
    return StableDiffusion.load(folder, device=CPU, weights_dtype=torch.float32)


def _add(base: StableDiffusion, *, seed: int = 0, **changes: Any) -> dict[str, torch.nn.Parameter]:
    arguments: dict[str, Any] = {"rank": RANK, "alpha": RANK, "with_text_encoder": False, **changes}
    return add_lora(base, seed=seed, **arguments)


def _teach(parameters: dict[str, torch.nn.Parameter]) -> None:
    """Adapters that do something, in values that fp16 holds exactly."""
    generator = torch.Generator().manual_seed(3)
    for parameter in parameters.values():
        parameter.data = (torch.randn(parameter.shape, generator=generator) * 0.2).half().float()


def test_only_the_attention_projections_are_trained(folder: Path) -> None:
    base = _base(folder)
    parameters = _add(base, with_text_encoder=True)
    trained = {f"unet.{name}" for name, parameter in base.unet.named_parameters() if parameter.requires_grad}
    trained |= {
        f"text_encoder.{name}" for name, parameter in base.text_encoder.named_parameters() if parameter.requires_grad
    }
    assert set(parameters) == trained
    places = {name.split(".lora_")[0].split(".")[-1] for name in parameters}
    assert places == {"to_q", "to_k", "to_v", "0", "q_proj", "k_proj", "v_proj", "out_proj"}
    # per attention: q, k, v, out with an A and a B each; per block a self- and a cross-attention
    assert len([name for name in parameters if name.startswith("unet.")]) == 8 * len(
        [name for name, _ in base.unet.named_modules() if name.endswith((".attn1", ".attn2"))]
    )


def test_the_text_encoder_is_left_alone_unless_asked(folder: Path) -> None:
    base = _base(folder)
    assert all(name.startswith("unet.") for name in _add(base))
    assert not any(parameter.requires_grad for parameter in base.text_encoder.parameters())


def test_new_adapters_change_nothing(folder: Path) -> None:
    base = _base(folder)
    latents, embeddings = torch.randn(1, 4, 16, 16), base.encode_prompts(["a dog"])
    with torch.no_grad():
        before = base.predict(latents, torch.tensor([5]), embeddings)
        _add(base)
        after = base.predict(latents, torch.tensor([5]), embeddings)
    assert torch.equal(before, after)


def test_first_weights_depend_on_the_seed_alone(folder: Path) -> None:
    one, same, other = (_add(_base(folder), seed=seed) for seed in (1, 1, 2))
    name = next(name for name in one if ".lora_A." in name)
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not torch.equal(one[name], other[name])
    spread = torch.cat([value.flatten() for key, value in one.items() if ".lora_A." in key]).std()
    assert spread.item() == pytest.approx(1 / RANK, rel=0.1)


def test_drawing_them_leaves_the_global_random_state_alone(folder: Path) -> None:
    # Given two bases, and the state of torch's own generator
    base = _base(folder)
    torch.manual_seed(5)
    expected = torch.Generator().manual_seed(0)
    drawn = _add(base)
    first = next(value for key, value in drawn.items() if ".lora_A." in key)
    assert torch.equal(first, torch.zeros(first.shape).normal_(std=1 / RANK, generator=expected))


def test_adapters_of_a_half_precision_base_are_fp32(folder: Path) -> None:
    base = StableDiffusion.load(folder, device=CPU, weights_dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in _add(base).values()} == {torch.float32}


@pytest.mark.parametrize("alpha", [RANK, 3 * RANK])
@pytest.mark.parametrize("with_text_encoder", [False, True])
def test_the_file_is_read_by_diffusers(folder: Path, tmp_path: Path, with_text_encoder: bool, alpha: int) -> None:
    # Given trained adapters, saved
    base = _base(folder)
    parameters = _add(base, alpha=alpha, with_text_encoder=with_text_encoder)
    _teach(parameters)
    save_lora(parameters, tmp_path / "pytorch_lora_weights.safetensors", rank=RANK, alpha=alpha)

    # When diffusers' own pipeline loads them over the plain base
    load: Any = StableDiffusionPipeline.from_pretrained
    pipe = load(folder, local_files_only=True, use_safetensors=True)
    plain = StableDiffusion.load(folder, device=CPU, weights_dtype=torch.float32)
    pipe.load_lora_weights(tmp_path, weight_name="pytorch_lora_weights.safetensors")

    # Then its networks give what ours give, which is not what the base gives
    prompt = ["a photo of sks dog"]
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(1))
    theirs, _ = pipe.encode_prompt(prompt, CPU, 1, do_classifier_free_guidance=False)
    ours = base.encode_prompts(prompt)
    assert torch.allclose(theirs, ours, atol=1e-5)
    assert torch.allclose(ours, plain.encode_prompts(prompt)) != with_text_encoder
    with torch.no_grad():
        expected = base.predict(latents, torch.tensor([500]), ours)
        untrained = plain.predict(latents, torch.tensor([500]), ours)
        assert torch.allclose(pipe.unet(latents, 500, ours).sample, expected, atol=1e-5)
    assert (expected - untrained).abs().mean() > 0.01


def test_equal_weights_make_equal_bytes(folder: Path, tmp_path: Path) -> None:
    parameters = _add(_base(folder), with_text_encoder=True)
    for number in range(8):  # an order that is left to chance would be the same in one of 128 runs
        save_lora(parameters, tmp_path / str(number), rank=RANK, alpha=8)
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    with safe_open(tmp_path / "0", "pt") as file:
        assert '"unet.lora_alpha": 8' in file.metadata()["lora_adapter_metadata"]
        names = list(file.keys())
    assert all(name.startswith(("unet.", "text_encoder.text_model.")) for name in names)
