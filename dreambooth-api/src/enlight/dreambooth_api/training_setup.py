"""From a loaded base and a request to a training that can run: what is trained, and in which precision."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from transformers import PreTrainedModel

from enlight.dreambooth_api.bases import check_size
from enlight.dreambooth_api.lora import add_lora
from enlight.dreambooth_api.lr_schedules import POLYNOMIAL_END_LR, learning_rate_at
from enlight.dreambooth_api.pipelines import StableDiffusion
from enlight.dreambooth_api.pure.losses import NoiseSchedule
from enlight.dreambooth_api.pure.training import (
    RECENT_LOSSES,
    Objective,
    PhotoSampler,
    Plan,
    TrainingState,
)
from enlight.dreambooth_api.requests import Base, TrainingRequest
from enlight.dreambooth_api.training_data import PreparedData, prompts
from enlight.servicekit.errors import InvalidField, WeightsUnavailable


@dataclass(frozen=True)
class Training:
    """All that the loop needs."""

    state: TrainingState
    plan: Plan
    objective: Objective


def choose_autocast(mixed_precision: Literal["auto", "no", "bf16", "fp16"], device: torch.device) -> torch.dtype | None:
    """Precision of the forward pass; None: fp32, as always on a CPU."""
    if mixed_precision == "no" or device.type != "cuda":
        return None
    if mixed_precision == "auto":
        with torch.cuda.device(device):
            has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.bfloat16 if has_bf16 else torch.float16
    return torch.bfloat16 if mixed_precision == "bf16" else torch.float16


def check_request(request: TrainingRequest, base: Base, pipeline: StableDiffusion) -> None:
    """Refuse what this base cannot be trained with.

    Raises:
        InvalidField: a value, named as on the wire.
        WeightsUnavailable: the base itself cannot be trained.
    """
    check_size(base, request.resolution_px, field="RESOLUTION")
    if request.lr_scheduler == "polynomial" and request.learning_rate <= POLYNOMIAL_END_LR:
        raise InvalidField.of("LR", f"polynomial ends at {POLYNOMIAL_END_LR}, so the LR has to be above that")
    try:
        NoiseSchedule.from_config(pipeline.scheduler_config, torch.device("cpu"))
    except ValueError as error:
        raise WeightsUnavailable(f"{base.name} cannot be trained: {error}") from error


def set_up_training(
    pipeline: StableDiffusion,
    request: TrainingRequest,
    data: PreparedData,
    *,
    autocast_dtype: torch.dtype | None,
    gradient_checkpointing: bool,
) -> Training:
    """A training at its first update. The networks that it does not need any more lose their weights.

    The pipeline's networks have to be fp32: they are, or become, the master weights.
    """
    device = pipeline.device
    vae: torch.nn.Module = pipeline.vae
    if request.sample_prompt is None:
        _drop_weights(vae)
    else:  # the samples' decoder, out of the training's way
        vae.to("cpu")
    if request.kind == "lora":
        parameters = _lora_parameters(pipeline, request, autocast_dtype)
    else:
        parameters = _full_parameters(pipeline, request)
    unet: torch.nn.Module = pipeline.unet
    if device.type == "cuda":
        unet.to(memory_format=torch.channels_last)
    if gradient_checkpointing:
        pipeline.unet.enable_gradient_checkpointing()
        if request.train_text_encoder:
            _checkpoint_activations(pipeline.text_encoder)
    pipeline.unet.train()
    if request.train_text_encoder:
        pipeline.text_encoder.train()
    training_data = data.to_training_data(device)
    state = TrainingState(
        parameters=parameters,
        optimizer=torch.optim.AdamW(
            parameters.values(),
            lr=request.learning_rate,
            betas=(request.adam_beta1, request.adam_beta2),
            eps=request.adam_epsilon,
            weight_decay=request.adam_weight_decay,
            fused=True,
        ),
        grad_scaler=torch.amp.GradScaler(device.type) if autocast_dtype is torch.float16 else None,
        sampler=PhotoSampler(training_data.epoch_length),
        generator=torch.Generator("cpu").manual_seed(request.seed),
        recent_losses=torch.zeros(RECENT_LOSSES, device=device),
    )
    plan = Plan(
        steps=request.max_training_steps,
        batch_size=request.train_batch_size,
        accumulation=request.gradient_accumulation_steps,
        learning_rate=functools.partial(
            learning_rate_at,
            name=request.lr_scheduler,
            base_lr=request.learning_rate,
            warmup_steps=request.lr_warmup_steps,
            steps=request.max_training_steps,
        ),
    )
    objective = Objective(
        predict=pipeline.predict,
        embed_prompts=_embedder(pipeline, request, data),
        data=training_data,
        noise_schedule=NoiseSchedule.from_config(pipeline.scheduler_config, device),
        prior_loss_weight=request.prior_loss_weight if request.prior_preservation else None,
        autocast_dtype=autocast_dtype,
    )
    return Training(state, plan, objective)


def _full_parameters(pipeline: StableDiffusion, request: TrainingRequest) -> dict[str, torch.nn.Parameter]:
    networks: dict[str, torch.nn.Module] = {"unet": pipeline.unet}
    if request.train_text_encoder:
        networks["text_encoder"] = pipeline.text_encoder
    parameters: dict[str, torch.nn.Parameter] = {}
    for part, network in networks.items():
        network.requires_grad_(requires_grad=True)
        parameters |= {f"{part}.{name}": parameter for name, parameter in network.named_parameters()}
    return parameters


def _lora_parameters(
    pipeline: StableDiffusion, request: TrainingRequest, autocast_dtype: torch.dtype | None
) -> dict[str, torch.nn.Parameter]:
    if autocast_dtype is not None:  # frozen weights need no master copy, and autocast no cast at each use
        networks: tuple[torch.nn.Module, ...] = (pipeline.unet, pipeline.text_encoder)
        for network in networks:
            network.to(autocast_dtype)
    return add_lora(
        pipeline,
        rank=request.lora_rank,
        alpha=request.lora_alpha,
        with_text_encoder=request.train_text_encoder,
        seed=request.seed,
    )


def _embedder(pipeline: StableDiffusion, request: TrainingRequest, data: PreparedData) -> Callable[[], torch.Tensor]:
    """How an update gets the prompts' embeddings: computed once, or each time by the encoder in training."""
    if request.train_text_encoder:
        token_ids = pipeline.tokenize(prompts(request))
        return lambda: pipeline.encode_tokens(token_ids)
    _drop_weights(pipeline.text_encoder)
    embeddings = data.embeddings.to(pipeline.device)
    return lambda: embeddings


def _checkpoint_activations(network: PreTrainedModel) -> None:
    """Recompute activations in the backward pass, by the name that this transformers has for it."""
    enable = getattr(network, "activation_checkpointing_enable", None) or network.gradient_checkpointing_enable
    enable()


def _drop_weights(network: torch.nn.Module) -> None:
    """Give a network's memory back; it cannot be used any more."""
    network.to("meta")
