from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_base import build_tiny_base
from tiny_training import make_request

from enlight.dreambooth_api.pipelines import StableDiffusion
from enlight.dreambooth_api.pure.training import draw_micro_batch
from enlight.dreambooth_api.requests import Base, TrainingRequest
from enlight.dreambooth_api.training_data import PreparedData
from enlight.dreambooth_api.training_setup import (
    Training,
    check_request,
    choose_autocast,
    set_up_training,
)
from enlight.servicekit.errors import InvalidField, WeightsUnavailable

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return build_tiny_base(tmp_path_factory.mktemp("base"))


def _load(base: Base) -> StableDiffusion:
    return StableDiffusion.load(base.folder, device=CPU, weights_dtype=torch.float32)


def _set_up(pipeline: StableDiffusion, request: TrainingRequest, **changes: Any) -> Training:
    data = PreparedData(torch.zeros(3, 4, 16, 16), torch.ones(3, 4, 16, 16), 3, torch.zeros(1, 32, 32))
    arguments: dict[str, Any] = {"autocast_dtype": None, "gradient_checkpointing": False, **changes}
    return set_up_training(pipeline, request, data, **arguments)


@pytest.mark.parametrize("resolution_px", [0, 24, 31, 36, 60, 65, 136])
def test_a_resolution_that_the_base_cannot_do_is_refused(base: Base, resolution_px: int) -> None:
    with pytest.raises(InvalidField, match="multiple of 8 from 32 to 128") as caught:
        check_request(make_request((), resolution_px=resolution_px), base, _load(base))
    assert caught.value.details["fields"] == [
        {"field": "RESOLUTION", "message": caught.value.message.removeprefix("RESOLUTION: ")}
    ]


@pytest.mark.parametrize("resolution_px", [32, 40, 64, 128])
def test_a_resolution_that_the_base_can_do_is_trained(base: Base, resolution_px: int) -> None:
    # Given photos of that size as latents
    pipeline = _load(base)
    request = make_request((), resolution_px=resolution_px)
    check_request(request, base, pipeline)

    # Then the network takes and gives latents of that size
    side = resolution_px // pipeline.latent_scale
    latents = torch.zeros(1, 4, side, side)
    with torch.no_grad():
        assert pipeline.predict(latents, torch.tensor([1]), torch.zeros(1, 32, 32)).shape == latents.shape


def test_polynomial_needs_a_learning_rate_above_its_end(base: Base) -> None:
    request = make_request((), lr_scheduler="polynomial", learning_rate=1e-7)
    with pytest.raises(InvalidField, match="LR"):
        check_request(request, base, _load(base))
    check_request(replace(request, learning_rate=1e-6), base, _load(base))


def test_a_base_with_another_prediction_type_is_refused(tmp_path: Path) -> None:
    base = build_tiny_base(tmp_path, prediction_type="sample")
    with pytest.raises(WeightsUnavailable, match="sample"):
        check_request(make_request(()), base, _load(base))


@pytest.mark.parametrize("train_text_encoder", [False, True])
def test_a_full_training_trains_every_weight_of_its_networks(base: Base, train_text_encoder: bool) -> None:
    pipeline = _load(base)
    training = _set_up(pipeline, make_request((), train_text_encoder=train_text_encoder))
    names = {f"unet.{name}" for name, _ in pipeline.unet.named_parameters()}
    if train_text_encoder:
        names |= {f"text_encoder.{name}" for name, _ in pipeline.text_encoder.named_parameters()}
    assert set(training.state.parameters) == names
    assert all(parameter.requires_grad for parameter in training.state.parameters.values())
    assert training.objective.embed_prompts().requires_grad == train_text_encoder


def test_networks_that_are_not_needed_any_more_give_their_memory_back(base: Base) -> None:
    pipeline = _load(base)
    _set_up(pipeline, make_request(()))
    assert {parameter.device.type for parameter in pipeline.vae.parameters()} == {"meta"}
    assert {parameter.device.type for parameter in pipeline.text_encoder.parameters()} == {"meta"}
    assert {parameter.device.type for parameter in pipeline.unet.parameters()} == {"cpu"}


def test_the_frozen_weights_of_a_lora_take_the_precision_of_the_computation(base: Base) -> None:
    # Given a LoRA training in mixed precision
    pipeline = _load(base)
    training = _set_up(pipeline, make_request((), kind="lora", train_text_encoder=True), autocast_dtype=torch.bfloat16)

    # Then the base is bf16 and what is trained fp32
    frozen = [*pipeline.unet.parameters(), *pipeline.text_encoder.parameters()]
    assert {parameter.dtype for parameter in frozen if not parameter.requires_grad} == {torch.bfloat16}
    assert {parameter.dtype for parameter in training.state.parameters.values()} == {torch.float32}


def test_the_master_weights_of_a_full_training_stay_fp32(base: Base) -> None:
    training = _set_up(_load(base), make_request(()), autocast_dtype=torch.float16)
    assert {parameter.dtype for parameter in training.state.parameters.values()} == {torch.float32}
    assert training.state.grad_scaler is not None
    assert _set_up(_load(base), make_request(()), autocast_dtype=torch.bfloat16).state.grad_scaler is None


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_checkpointing_computes_blocks_again(base: Base, checkpointing: bool) -> None:
    # Given hooks that count how often a block of each network runs
    pipeline = _load(base)
    training = _set_up(pipeline, make_request((), train_text_encoder=True), gradient_checkpointing=checkpointing)
    runs = {"unet": 0, "text_encoder": 0}

    def count(part: str) -> Any:
        def hook(*_: object) -> None:
            runs[part] += 1

        return hook

    pipeline.unet.get_submodule("down_blocks.0.resnets.0.conv1").register_forward_hook(count("unet"))
    fc1 = pipeline.text_encoder.get_submodule("encoder.layers.0.mlp.fc1")
    fc1.register_forward_hook(count("text_encoder"))

    # When a loss is computed and differentiated
    batch = draw_micro_batch(training.state, training.objective.data, training.objective.noise_schedule, batch_size=1)
    training.objective.loss(batch).backward()  # type: ignore[no-untyped-call]

    # Then the blocks ran once, or a second time for the backward pass
    expected = 2 if checkpointing else 1
    assert runs == {"unet": expected, "text_encoder": expected}


def test_the_optimiser_has_the_parameters_of_the_request(base: Base) -> None:
    request = replace(make_request(()), adam_beta1=0.8, adam_beta2=0.99, adam_epsilon=1e-7, adam_weight_decay=0.5)
    group = _set_up(_load(base), request).state.optimizer.param_groups[0]
    assert group["betas"] == (0.8, 0.99)
    assert group["eps"] == 1e-7
    assert group["weight_decay"] == 0.5


def test_the_plan_is_that_of_the_request(base: Base) -> None:
    request = make_request(
        (), max_training_steps=9, train_batch_size=2, gradient_accumulation_steps=3, lr_scheduler="linear"
    )
    plan = _set_up(_load(base), request).plan
    assert (plan.steps, plan.batch_size, plan.accumulation) == (9, 2, 3)
    assert plan.learning_rate(3) == pytest.approx(request.learning_rate * 6 / 9)


def test_a_cpu_computes_in_fp32_whatever_is_asked() -> None:
    assert [choose_autocast(asked, CPU) for asked in ("auto", "no", "bf16", "fp16")] == [None] * 4
