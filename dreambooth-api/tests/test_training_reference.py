"""Our training against a plain loop of diffusers' primitives, as its train_dreambooth.py has it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from diffusers.optimization import get_scheduler
from peft import LoraConfig
from PIL import Image
from tiny_base import build_tiny_base
from tiny_training import make_request, write_photos
from torch.nn.functional import mse_loss

from enlight.dreambooth_api.pipelines import StableDiffusion
from enlight.dreambooth_api.pure.training import eager_step, run_updates
from enlight.dreambooth_api.requests import Base, TrainingRequest
from enlight.dreambooth_api.training_data import PreparedData, prepare_data
from enlight.dreambooth_api.training_setup import Training, set_up_training

PHOTOS = 3
LOSS_TOLERANCE = 1e-5
UPDATE_TOLERANCE = 1e-3


@dataclasses.dataclass
class Run:
    losses: list[float]
    update: dict[str, torch.Tensor]
    """Final minus first weights."""


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    return build_tiny_base(tmp_path_factory.mktemp("base"), prediction_type=request.param)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    return write_photos(tmp_path_factory.mktemp("photos"), PHOTOS)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _changes(accumulation: int, prior: bool, **more: Any) -> dict[str, Any]:
    return {
        "max_training_steps": 4,
        "train_batch_size": 2,
        "gradient_accumulation_steps": accumulation,
        "prior_preservation": prior,
        "prior_loss_weight": 0.7,
        "lr_scheduler": "linear",
        "max_grad_norm": 0.05,  # below the norms that come up, so that clipping is compared too
        **more,
    }


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("prior", [False, True])
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_training_agrees_with_the_reference(
    base: Base, photos: tuple[Path, ...], kind: str, prior: bool, accumulation: int
) -> None:
    # Given a job and the loop that diffusers' example runs for it
    request = make_request(photos, kind=kind, **_changes(accumulation, prior))

    # When both train with the same draws
    # Then each update's loss and all of the weights' changes agree
    _assert_agreement(base, request)


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_training_the_text_encoder_agrees_with_the_reference(base: Base, photos: tuple[Path, ...], kind: str) -> None:
    request = make_request(photos, kind=kind, train_text_encoder=True, **_changes(2, prior=True))
    _assert_agreement(base, request)


def test_gradient_checkpointing_changes_nothing(base: Base, photos: tuple[Path, ...]) -> None:
    request = make_request(photos, train_text_encoder=True, **_changes(1, prior=False))
    _assert_agreement(base, request, gradient_checkpointing=True)


def test_zero_terminal_snr_schedule_agrees_with_the_reference(tmp_path: Path, photos: tuple[Path, ...]) -> None:
    base = build_tiny_base(tmp_path, prediction_type="v_prediction")
    config = tmp_path / "scheduler" / "scheduler_config.json"
    config.write_text(config.read_text().replace('"rescale_betas_zero_snr": false', '"rescale_betas_zero_snr": true'))
    assert '"rescale_betas_zero_snr": true' in config.read_text()
    _assert_agreement(base, make_request(photos, **_changes(1, prior=False)))


def _assert_agreement(base: Base, request: TrainingRequest, *, gradient_checkpointing: bool = False) -> None:
    ours, training, data = _train_ours(base, request, gradient_checkpointing=gradient_checkpointing)
    first = {name: parameter.detach() - ours.update[name] for name, parameter in training.items()}
    reference = _train_reference(base, request, first, data)
    loss_error = max(abs(a - b) for a, b in zip(ours.losses, reference.losses, strict=True))
    assert ours.update.keys() == reference.update.keys()
    difference = torch.cat([(ours.update[name] - reference.update[name]).flatten() for name in ours.update])
    whole = torch.cat([update.flatten() for update in reference.update.values()])
    update_error = float(difference.norm() / whole.norm())
    print(f"loss error {loss_error:.1e}, update error {update_error:.1e}, losses {ours.losses}")
    assert float(whole.norm()) > 0.01
    assert loss_error <= LOSS_TOLERANCE
    assert update_error <= UPDATE_TOLERANCE


def _train_ours(
    base: Base, request: TrainingRequest, *, gradient_checkpointing: bool
) -> tuple[Run, dict[str, torch.Tensor], PreparedData]:
    pipeline = StableDiffusion.load(base.folder, device=torch.device("cpu"), weights_dtype=torch.float32)
    data = prepare_data(
        pipeline,
        request,
        class_image_steps=2,
        autocast_dtype=None,
        report=lambda phase, done, of: None,
        check=lambda: None,
    )
    training: Training = set_up_training(
        pipeline, request, data, autocast_dtype=None, gradient_checkpointing=gradient_checkpointing
    )
    first = {name: parameter.detach().clone() for name, parameter in training.state.parameters.items()}
    losses: list[float] = []
    run_updates(
        training.state,
        training.plan,
        training.objective,
        eager_step(training.objective, max_grad_norm=request.max_grad_norm),
        before_update=lambda: None,
        after_update=lambda loss, learning_rate: losses.append(loss.item()),
    )
    parameters = {name: parameter.detach() for name, parameter in training.state.parameters.items()}
    return Run(losses, {name: parameters[name] - first[name] for name in first}), parameters, data


def _train_reference(base: Base, request: TrainingRequest, first: dict[str, torch.Tensor], data: PreparedData) -> Run:
    load_pipeline: Any = StableDiffusionPipeline.from_pretrained
    load_scheduler: Any = DDPMScheduler.from_pretrained
    pipe = load_pipeline(base.folder, local_files_only=True, use_safetensors=True)
    unet, text_encoder, vae, tokenizer = pipe.unet, pipe.text_encoder, pipe.vae, pipe.tokenizer
    noise_scheduler = load_scheduler(base.folder, subfolder="scheduler")
    for model in (unet, text_encoder, vae):
        model.requires_grad_(requires_grad=False)
    trained = {"unet": unet} | ({"text_encoder": text_encoder} if request.train_text_encoder else {})
    if request.kind == "lora":
        lora: dict[str, Any] = {"r": request.lora_rank, "lora_alpha": request.lora_alpha}
        unet.add_adapter(LoraConfig(**lora, target_modules=["to_k", "to_q", "to_v", "to_out.0"]))
        if request.train_text_encoder:
            targets = ["q_proj", "k_proj", "v_proj", "out_proj"]
            text_encoder.add_adapter(LoraConfig(**lora, target_modules=targets))
        for part, model in trained.items():
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    if parameter.requires_grad:
                        parameter.copy_(first[f"{part}.{name}"])
    else:
        for model in trained.values():
            model.requires_grad_(requires_grad=True)
    parameters = {
        f"{part}.{name}": parameter
        for part, model in trained.items()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}

    optimizer = torch.optim.AdamW(
        list(parameters.values()), lr=request.learning_rate, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8
    )
    lr_scheduler = get_scheduler(
        request.lr_scheduler,
        optimizer=optimizer,
        num_warmup_steps=request.lr_warmup_steps,
        num_training_steps=request.max_training_steps,
    )
    pixel_values = torch.stack([_photo_to_pixels(path, request.resolution_px) for path in request.photos])
    input_ids = _tokenize(tokenizer, request.instance_prompt)
    class_ids = _tokenize(tokenizer, request.class_prompt)
    class_moments = data.latent_mean[PHOTOS:], data.latent_std[PHOTOS:]

    # One generator draws everything, in the order in which ours documents it.
    generator = torch.Generator().manual_seed(request.seed)
    epoch_length = max(PHOTOS, request.num_class_images)
    indices = _endless_shuffled_epochs(epoch_length, generator)
    losses = []
    for _ in range(request.max_training_steps):
        update_loss = 0.0
        for _ in range(request.gradient_accumulation_steps):
            draws = [next(indices) for _ in range(request.train_batch_size)]
            ids = [input_ids] * len(draws)
            rows = 2 * len(draws) if request.prior_preservation else len(draws)
            latent_dist = vae.encode(pixel_values[[draw % PHOTOS for draw in draws]]).latent_dist
            mean, std = latent_dist.mean, latent_dist.std
            if request.prior_preservation:
                # The class images came out of our sampler, which its own tests compare to diffusers'.
                chosen = [draw % request.num_class_images for draw in draws]
                factor = vae.config.scaling_factor
                mean = torch.cat([mean, class_moments[0][chosen] / factor])
                std = torch.cat([std, class_moments[1][chosen] / factor])
                ids += [class_ids] * len(draws)
            posterior_noise = torch.randn(mean.shape, generator=generator)
            model_input = (mean + std * posterior_noise) * vae.config.scaling_factor
            noise = torch.randn(model_input.shape, generator=generator)
            timesteps = torch.randint(0, noise_scheduler.config.num_train_timesteps, (rows,), generator=generator)
            noisy_model_input = noise_scheduler.add_noise(model_input, noise, timesteps)
            encoder_hidden_states = text_encoder(torch.cat(ids))[0]
            model_pred = unet(noisy_model_input, timesteps, encoder_hidden_states).sample
            if noise_scheduler.config.prediction_type == "epsilon":
                target = noise
            else:
                target = noise_scheduler.get_velocity(model_input, noise, timesteps)
            if request.prior_preservation:
                model_pred, model_pred_prior = torch.chunk(model_pred, 2, dim=0)
                target, target_prior = torch.chunk(target, 2, dim=0)
                prior_loss = mse_loss(model_pred_prior.float(), target_prior.float(), reduction="mean")
            loss = mse_loss(model_pred.float(), target.float(), reduction="mean")
            if request.prior_preservation:
                loss = loss + request.prior_loss_weight * prior_loss
            loss = loss / request.gradient_accumulation_steps
            torch.autograd.backward(loss)
            update_loss += loss.item()
        torch.nn.utils.clip_grad_norm_(list(parameters.values()), request.max_grad_norm)
        optimizer.step()
        lr_scheduler.step()
        optimizer.zero_grad()
        losses.append(update_loss)
    return Run(losses, {name: parameter.detach() - before[name] for name, parameter in parameters.items()})


def _photo_to_pixels(path: Path, resolution_px: int) -> torch.Tensor:
    """As the example's DreamBoothDataset with --center_crop; with these photos' sides no size is rounded."""
    with Image.open(path) as photo:
        image = photo.convert("RGB")
    width = image.width * resolution_px // image.height
    image = image.resize((width, resolution_px), Image.Resampling.LANCZOS)
    left = (width - resolution_px) // 2
    image = image.crop((left, 0, left + resolution_px, resolution_px))
    zero_to_one = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    return (zero_to_one - 0.5) / 0.5


def _tokenize(tokenizer: Any, prompt: str) -> torch.Tensor:
    ids: torch.Tensor = tokenizer(
        prompt,
        truncation=True,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    return ids


def _endless_shuffled_epochs(length: int, generator: torch.Generator) -> Iterator[int]:
    while True:
        yield from torch.randperm(length, generator=generator).tolist()
