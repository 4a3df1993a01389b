"""Trains the pocket base's autoencoder: `python -m enlight.models.train_vae --bank ... --run ... --time-limit-s 75`."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from enlight.models.bank import load_bank
from enlight.models.compose import Composer, held_out_subject_indices, trained_subject_indices
from enlight.models.networks import Autoencoder, build_vae
from enlight.models.pictures import save_grid
from enlight.models.run_record import (
    Clock,
    LossRecord,
    learning_rate_share,
    load_weights,
    prepare,
    read_state,
    save_weights,
    settings_of,
    timed_steps,
    training_arguments,
    write_state,
)
from enlight.models.settings import RecipeSettings
from enlight.models.subjects import all_subjects

_log = logging.getLogger(__name__)

WEIGHTS = "vae.safetensors"
STATE = "vae.json"


def recolour(pixels: Tensor, generator: torch.Generator, share: float) -> Tensor:
    """Mixes the colour channels of some pictures at random, so that unseen colours survive the autoencoder.

    Args:
        pixels: (B, 3, H, W) float in [0, 1].
        generator: on the pictures' device.
        share: how many pictures are changed.
    """
    count, device = len(pixels), pixels.device
    identity = torch.eye(3, device=device)
    noise = 0.6 * torch.randn((count, 3, 3), device=device, generator=generator)
    chosen = torch.rand((count, 1, 1), device=device, generator=generator) < share
    matrix = torch.where(chosen, identity + noise, identity.expand(count, 3, 3))
    shift = torch.where(chosen[..., 0], 0.2 * torch.randn((count, 3), device=device, generator=generator), 0.0)
    mixed = torch.einsum("bij,bjhw->bihw", matrix.to(pixels.dtype), pixels - 0.5)
    return (mixed + 0.5 + shift[:, :, None, None].to(pixels.dtype)).clamp(0.0, 1.0)


def random_pictures(composer: Composer, count: int, generator: torch.Generator, recolour_share: float) -> Tensor:
    """Pictures for the autoencoder: one or two subjects, colours sometimes mixed; (B, 3, H, W) in [0, 1]."""
    batch = composer.random_batch(count, generator, varied=True)
    extra = count // 3
    more = composer.random_batch(extra, generator)
    pixels = torch.cat([composer.place(batch.pixels[:extra], more.subjects, generator), batch.pixels[extra:]])
    return recolour(pixels, generator, recolour_share)


def reconstruction_loss(output: Tensor, target: Tensor, gradient_weight: float) -> Tensor:
    """Absolute error of the pixels plus that of their differences at three scales, which keeps edges sharp."""
    loss = (output - target).abs().mean()
    for _ in range(3):
        for axis in (2, 3):
            loss = loss + gradient_weight / 3 * (output.diff(dim=axis) - target.diff(dim=axis)).abs().mean()
        output, target = functional.avg_pool2d(output, 2), functional.avg_pool2d(target, 2)
    return loss


@torch.no_grad()
def centre_latents(vae: Autoencoder, composer: Composer, generator: torch.Generator, batch: int) -> None:
    """Gives every latent channel zero mean and the same spread, without changing any reconstruction.

    The two 1x1 convolutions beside the latents are linear, so an offset and a factor per channel move from one
    into the other. A single scaling factor then suits all channels.
    """
    latents = torch.cat(
        [vae.encode(composer.random_batch(batch, generator).pixels.float() * 2 - 1).latent_dist.mean for _ in range(4)]
    )
    mean, spread = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    factor = spread.mean() / spread
    channels = len(mean)
    before, after = vae.quant_conv, vae.post_quant_conv
    after.bias += after.weight[:, :, 0, 0] @ mean
    after.weight /= factor[None, :, None, None]
    before.bias[:channels] = (before.bias[:channels] - mean) * factor
    before.weight[:channels] *= factor[:, None, None, None]
    before.bias[channels:] += 2 * factor.log()


@torch.no_grad()
def measure_latents(vae: Autoencoder, composer: Composer, generator: torch.Generator, batch: int) -> dict[str, float]:
    """Measures the autoencoder on the composer's subjects.

    Returns:
        scaling_factor (gives the latents unit variance), psnr_db (peak signal-to-noise ratio) and
        latent_noise (spread of the posterior in scaled latents).
    """
    latents, errors, spreads = [], [], []
    for _ in range(4):
        pixels = composer.random_batch(batch, generator).pixels.float() * 2 - 1
        posterior = vae.encode(pixels).latent_dist
        mean = posterior.mean
        latents.append(mean)
        spreads.append(posterior.std.mean())
        errors.append(((vae.decode(mean).sample.clamp(-1, 1) - pixels) / 2).square().mean(dim=(1, 2, 3)))
    ratio = -10 * torch.log10(torch.cat(errors).clamp_min(1e-10)).mean()
    factor = float(1.0 / torch.cat(latents).std())
    return {
        "scaling_factor": factor,
        "psnr_db": float(ratio),
        "latent_noise": factor * float(torch.stack(spreads).mean()),
    }


def train(
    run: Path,
    bank: Path,
    settings: RecipeSettings,
    clock: Clock,
    device: torch.device,
    *,
    workers: int,
    decay_share: float,
    decoder_only: bool,
    compile_networks: bool,
) -> None:
    """Trains until the clock is over and saves; continues from the run folder's weights.

    With `decoder_only` the latents stay as they are, so that a base trained on them stays valid.
    """
    pictures = load_bank(bank, settings, workers=workers, with_nameless=True)
    nameless = range(len(all_subjects()), len(pictures.glyphs))
    composer = Composer(pictures, settings, device, [*trained_subject_indices(), *nameless])
    state = read_state(run / STATE)
    first_step = int(state.get("steps", 0))
    torch.manual_seed(settings.seed + first_step)
    generator = torch.Generator(device).manual_seed(settings.seed + 1 + first_step)
    vae = build_vae(settings)
    load_weights(run / WEIGHTS, vae)
    vae = vae.to(device, memory_format=torch.channels_last)
    if decoder_only:
        vae.encoder.requires_grad_(requires_grad=False)
        vae.quant_conv.requires_grad_(requires_grad=False)
    if compile_networks:
        vae.encoder.compile()
        vae.decoder.compile()
    optimizer = torch.optim.AdamW(
        [parameter for parameter in vae.parameters() if parameter.requires_grad],
        lr=settings.vae_learning_rate,
        betas=(0.9, 0.95),
        weight_decay=1e-4,
        fused=device.type == "cuda",
    )
    record = LossRecord(run / "vae.csv")
    for step, last in timed_steps(first_step, clock):
        share = learning_rate_share(clock, step - first_step, 100, decay_share)
        for group in optimizer.param_groups:
            group["lr"] = settings.vae_learning_rate * share
        with torch.no_grad():
            pixels = random_pictures(composer, settings.vae_batch, generator, settings.vae_recolour_share) * 2 - 1
            pixels = pixels.float().contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            with torch.set_grad_enabled(not decoder_only):
                posterior = vae.encode(pixels).latent_dist
            noise = torch.randn(posterior.mean.shape, device=device, generator=generator)
            output = vae.decode(posterior.mean + posterior.std * noise).sample
        loss = reconstruction_loss(output.float(), pixels, settings.vae_gradient_weight)
        divergence = posterior.kl().mean() / posterior.mean[0].numel()
        optimizer.zero_grad(set_to_none=True)
        (loss + settings.vae_kl_weight * divergence).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        if step % 100 == 0 or last:
            record.add(step=step, seconds=clock.elapsed_s, loss=loss.item(), divergence=divergence.item())
    trained = build_vae(settings)  # not compiled for one size of batch
    trained.load_state_dict(vae.state_dict())
    vae = trained.to(device, memory_format=torch.channels_last)
    composer = Composer(pictures, settings, device, trained_subject_indices())
    if not decoder_only:
        centre_latents(vae, composer, generator, settings.vae_batch)
    measured = measure_latents(vae, composer, generator, settings.vae_batch)
    if decoder_only:
        measured["scaling_factor"] = state["scaling_factor"]
    unseen = Composer(pictures, settings, device, held_out_subject_indices())
    measured["held_out_psnr_db"] = measure_latents(vae, unseen, generator, settings.vae_batch)["psnr_db"]
    _log.info("%s", json.dumps(measured))
    save_weights(run / WEIGHTS, vae, torch.float16)
    seconds = state.get("seconds", 0.0) + clock.elapsed_s
    write_state(run / STATE, steps=step + 1, seconds=seconds, **measured)
    with torch.no_grad():
        pixels = composer.random_batch(min(24, settings.vae_batch * 2), generator).pixels.float()
        output = vae(pixels * 2 - 1).sample.clamp(-1, 1) * 0.5 + 0.5
    save_grid(run / "grids" / "vae.png", torch.cat([pixels, output]), columns=12)


def main() -> None:
    """Command line."""
    parser = training_arguments(__doc__)
    parser.add_argument("--decoder-only", action="store_true", help="keep the latents, sharpen the pictures")
    parser.add_argument("--compile", action="store_true", help="compile the networks (CUDA)")
    arguments = parser.parse_args()
    clock = Clock(arguments.time_limit_s)
    device = prepare(arguments.device)
    settings = settings_of(arguments)
    train(
        arguments.run,
        arguments.bank,
        settings,
        clock,
        device,
        workers=arguments.workers,
        decay_share=arguments.decay_share,
        decoder_only=arguments.decoder_only,
        compile_networks=arguments.compile,
    )


if __name__ == "__main__":
    main()
