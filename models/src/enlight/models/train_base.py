"""Trains the pocket base's U-Net and text encoder on the frozen autoencoder's latents.

`python -m enlight.models.train_base --bank ... --run ... --time-limit-s 330`; the same command again continues.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTokenizer

from enlight.models.bank import load_bank, load_captions
from enlight.models.compose import Composer, trained_subject_indices
from enlight.models.latent_pool import LatentBatch, LatentPool
from enlight.models.networks import (
    Autoencoder,
    Denoiser,
    TextEncoder,
    build_noise_scheduler,
    build_text_encoder,
    build_unet,
    build_vae,
)
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
from enlight.models.sampling import GRID_PROMPTS, sample
from enlight.models.settings import RecipeSettings
from enlight.models.tokenizer import load_tokenizer
from enlight.models.train_vae import STATE as VAE_STATE
from enlight.models.train_vae import WEIGHTS as VAE_WEIGHTS

_log = logging.getLogger(__name__)

STATE = "base.json"
_OPTIMIZER = "optimizer.pt"


@dataclass
class Networks:
    """The two networks trained together."""

    unet: Denoiser
    text_encoder: TextEncoder

    def parameters(self) -> list[torch.nn.Parameter]:
        """All trained tensors."""
        return [*self.unet.parameters(), *self.text_encoder.parameters()]

    def save(self, run: Path, suffix: str) -> None:
        """Writes both as fp16."""
        save_weights(run / f"unet-{suffix}.safetensors", self.unet, torch.float16)
        save_weights(run / f"text-{suffix}.safetensors", self.text_encoder, torch.float16)

    def load_from_base(self, folder: Path) -> None:
        """Takes the weights of an exported base where names and shapes agree; the rest stays random.

        Latents of another autoencoder or of another number of channels need only the first and last layer anew.
        """
        for part, network in (("unet", self.unet), ("text_encoder", self.text_encoder)):
            (path,) = sorted((folder / part).glob("*.safetensors"))
            target = network.state_dict()
            known = {
                name: tensor.to(target[name].dtype)
                for name, tensor in load_file(path).items()
                if name in target and target[name].shape == tensor.shape
            }
            network.load_state_dict(known, strict=False)
            _log.info("%s: %d of %d tensors from %s", part, len(known), len(target), path)

    def load(self, run: Path, suffix: str) -> bool:
        """Reads both; False when they are not there."""
        found = load_weights(run / f"unet-{suffix}.safetensors", self.unet)
        return load_weights(run / f"text-{suffix}.safetensors", self.text_encoder) and found


class NoiseSchedule:
    """Noise levels and the v-prediction target on the device."""

    def __init__(self, settings: RecipeSettings, device: torch.device) -> None:
        """Reads the levels from the scheduler that the base ships with."""
        levels = build_noise_scheduler(settings).alphas_cumprod.to(device)
        self._signal, self._noise = levels.sqrt(), (1 - levels).sqrt()

    def noised(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Returns (noised latents, velocity to predict), both (B, C, h, w)."""
        signal, spread = self._signal[timesteps][:, None, None, None], self._noise[timesteps][:, None, None, None]
        return signal * latents + spread * noise, signal * noise - spread * latents


def spread_timesteps(count: int, total: int, device: torch.device, generator: torch.Generator) -> Tensor:
    """Timesteps spread evenly over the whole range, (B,) int64: less noise in the loss than independent draws."""
    places = torch.arange(count, device=device) + torch.rand(count, device=device, generator=generator)
    return (places * (total / count)).long().clamp(max=total - 1)


def training_loss(
    networks: Networks,
    predict: Denoiser,
    batch: LatentBatch,
    schedule: NoiseSchedule,
    total: int,
    generator: torch.Generator,
) -> Tensor:
    """Mean squared error of the predicted velocity."""
    latents, device = batch.latents, batch.latents.device
    timesteps = spread_timesteps(len(latents), total, device, generator)
    noise = torch.randn(latents.shape, device=device, generator=generator)
    noised, velocity = schedule.noised(latents, noise, timesteps)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        states = networks.text_encoder(batch.tokens)[0]
        noised = noised.contiguous(memory_format=torch.channels_last)
        predicted = predict(noised, timesteps, states, return_dict=False)[0]
    return functional.mse_loss(predicted.float(), velocity)


@torch.no_grad()
def update_average(average: Networks, current: Networks, step: int, decay: float) -> None:
    """Moves the running average of the weights, faster at the start."""
    weight = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(
        [parameter.data for parameter in average.parameters()],
        [parameter.data for parameter in current.parameters()],
        weight,
    )


class BaseTraining:
    """One run of the base's training; the run folder carries it from run to run."""

    def __init__(
        self,
        run: Path,
        bank: Path,
        settings: RecipeSettings,
        device: torch.device,
        workers: int,
        start_from: Path | None = None,
    ) -> None:
        """Builds or reads the networks and fills the latent pool.

        Args:
            run: checkpoints, losses and grids.
            bank: what `enlight.models.bank` wrote.
            settings: the recipe.
            device: where to train.
            workers: processes that draw backgrounds.
            start_from: an earlier base to take the weights of, where their shapes agree; only for a new run.
        """
        self.run, self.settings, self.device = run, settings, device
        self.state = read_state(run / STATE)
        self.first_step = int(self.state.get("steps", 0))
        torch.manual_seed(settings.seed + 20 + self.first_step)
        self.generator = torch.Generator(device).manual_seed(settings.seed + 21 + self.first_step)
        self.tokenizer: CLIPTokenizer = load_tokenizer(bank / "tokenizer")
        self.factor = read_state(run / VAE_STATE)["scaling_factor"]
        vae = build_vae(settings)
        if not load_weights(run / VAE_WEIGHTS, vae):
            raise FileNotFoundError(run / VAE_WEIGHTS)
        self.vae: Autoencoder = (
            vae.to(device, memory_format=torch.channels_last).eval().requires_grad_(requires_grad=False)
        )
        self.current = Networks(build_unet(settings), build_text_encoder(settings, self.tokenizer))
        if not self.current.load(run, "raw") and start_from is not None:
            self.current.load_from_base(start_from)
        self.average = Networks(copy.deepcopy(self.current.unet), copy.deepcopy(self.current.text_encoder))
        self.average.load(run, "ema")
        for networks in (self.current, self.average):
            networks.unet = networks.unet.to(device, memory_format=torch.channels_last)
            networks.text_encoder = networks.text_encoder.to(device)
        self.optimizer = torch.optim.AdamW(
            self.current.parameters(),
            lr=settings.base_learning_rate,
            betas=(0.9, 0.99),
            weight_decay=settings.base_weight_decay,
            fused=device.type == "cuda",
        )
        if (run / _OPTIMIZER).exists():
            self.optimizer.load_state_dict(torch.load(run / _OPTIMIZER, map_location=device, weights_only=True))
        composer = Composer(load_bank(bank, settings, workers=workers), settings, device, trained_subject_indices())
        self.pool = LatentPool(self.vae, self.factor, composer, load_captions(bank), settings, device, self.generator)
        self.schedule = NoiseSchedule(settings, device)
        self.record = LossRecord(run / "base.csv")

    def train(
        self, clock: Clock, *, decay_share: float, rate_share: float, grid_every_s: float, compile_unet: bool
    ) -> None:
        """Trains until the clock is over, then saves everything that a later run needs."""
        settings, losses = self.settings, []
        predict = torch.compile(self.current.unet) if compile_unet else self.current.unet
        fresh_optimizer = not (self.run / _OPTIMIZER).exists()
        next_grid_s = clock.elapsed_s + grid_every_s
        for step, last in timed_steps(self.first_step, clock):
            done = step - self.first_step
            warmup_steps = settings.base_warmup_steps if fresh_optimizer else 1
            share = rate_share * learning_rate_share(clock, done, warmup_steps, decay_share)
            for group in self.optimizer.param_groups:
                group["lr"] = settings.base_learning_rate * share
            if done % settings.latent_pool_refresh_every == 0 and done:
                self.pool.refresh(settings.base_batch)
            batch = self.pool.draw(settings.base_batch)
            loss = training_loss(self.current, predict, batch, self.schedule, settings.train_timesteps, self.generator)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.current.parameters(), 1.0)
            self.optimizer.step()
            update_average(self.average, self.current, step, settings.base_ema_decay)
            losses.append(loss.detach())
            if len(losses) == 50 or last:
                mean = torch.stack(losses).mean().item()
                self.record.add(step=step, seconds=self._seconds(clock), loss=mean, rate=share)
                losses = []
                if clock.elapsed_s > next_grid_s:
                    self.save_grid(f"base-{step:06d}")
                    next_grid_s = clock.elapsed_s + grid_every_s
        self.current.save(self.run, "raw")
        self.average.save(self.run, "ema")
        torch.save(self.optimizer.state_dict(), self.run / _OPTIMIZER)
        write_state(self.run / STATE, steps=step + 1, seconds=self._seconds(clock))
        self.save_grid(f"base-{step + 1:06d}")

    def save_grid(self, name: str) -> None:
        """Samples the grid prompts with the averaged weights."""
        pixels = sample(
            GRID_PROMPTS,
            unet=self.average.unet,
            text_encoder=self.average.text_encoder,
            vae=self.vae,
            tokenizer=self.tokenizer,
            scaling_factor=self.factor,
            settings=self.settings,
            device=self.device,
            seed=self.settings.seed,
            guidance=self.settings.sample_guidance,
        )
        save_grid(self.run / "grids" / f"{name}.png", pixels, columns=12)

    def _seconds(self, clock: Clock) -> float:
        return self.state.get("seconds", 0.0) + clock.elapsed_s


def main() -> None:
    """Command line."""
    parser = training_arguments(__doc__)
    parser.add_argument("--grid-every-s", type=float, default=100.0)
    parser.add_argument("--rate-share", type=float, default=1.0, help="peak learning rate as a share of the recipe's")
    parser.add_argument("--start-from", type=Path, help="an earlier base's folder, such as models/pocket")
    parser.add_argument("--compile", action="store_true", help="compile the U-Net (CUDA)")
    arguments = parser.parse_args()
    clock = Clock(arguments.time_limit_s)
    device = prepare(arguments.device)
    training = BaseTraining(
        arguments.run,
        arguments.bank,
        settings_of(arguments),
        device,
        arguments.workers,
        start_from=arguments.start_from,
    )
    training.train(
        clock,
        decay_share=arguments.decay_share,
        rate_share=arguments.rate_share,
        grid_every_s=arguments.grid_every_s,
        compile_unet=arguments.compile,
    )


if __name__ == "__main__":
    main()
