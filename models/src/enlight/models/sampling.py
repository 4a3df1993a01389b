"""Samples pictures from networks in memory, as diffusers' StableDiffusionPipeline does."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import CLIPTokenizer

from enlight.models.networks import Autoencoder, Denoiser, TextEncoder, build_sampling_scheduler
from enlight.models.settings import RecipeSettings

GRID_PROMPTS: tuple[str, ...] = (
    "a pizza on the beach",
    "a cat in the snow",
    "a bicycle on a red background",
    "an elephant in a grass field",
    "a red car on the road",
    "a guitar on a stage",
    "a butterfly in a flower garden",
    "a fox in the forest",
    "an ufo in the night sky",
    "a camel in the desert",
    "a crab under water",
    "a hamburger on a wooden table",
    "a clock on a yellow background",
    "a giraffe in the mountains",
    "an alien on the moon",
    "a sofa in a living room",
    "a bear in front of a brick wall",
    "a sailboat at sunset",
    "a candle on a black background",
    "a parrot in the clouds",
    "a stack of books in a library",
    "an umbrella in the rain",
    "a zombie on lava",
    "a taxi in the city",
    "a lion on a checkered floor",
    "a photo of a banana on a purple background",
    "a bird on a blue background",
    "a dog on a white background",
    "a strawberry on a turquoise background",
    "a key on a green background",
    "a robot on the beach",
    "a teapot in the snow",
    "the beach",
    "a blue dog on a white background",
    "a small tiger in a grass field",
    "a pink car on the road",
)


@torch.no_grad()
def sample(
    prompts: tuple[str, ...],
    *,
    unet: Denoiser,
    text_encoder: TextEncoder,
    vae: Autoencoder,
    tokenizer: CLIPTokenizer,
    scaling_factor: float,
    settings: RecipeSettings,
    device: torch.device,
    seed: int,
    guidance: float,
) -> Tensor:
    """Samples one picture per prompt with classifier-free guidance.

    Returns:
        (B, 3, H, W) float in [0, 1].
    """
    scheduler = build_sampling_scheduler(settings)
    scheduler.set_timesteps(settings.sample_steps, device=device)
    encoded = tokenizer([*prompts, *[""] * len(prompts)], padding="max_length", truncation=True, return_tensors="pt")
    side = unet.config.sample_size
    noise = torch.randn(
        (len(prompts), settings.latent_channels, side, side), generator=torch.Generator().manual_seed(seed)
    )
    latents = noise.to(device)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        states = text_encoder(encoded["input_ids"].to(device))[0]
        for timestep in scheduler.timesteps:
            output = unet(torch.cat([latents, latents]), timestep, states).sample.float()
            with_text, without = output.chunk(2)
            latents = scheduler.step(without + guidance * (with_text - without), timestep, latents).prev_sample
        pixels: Tensor = vae.decode(latents / scaling_factor).sample.float()
    return (pixels * 0.5 + 0.5).clamp(0, 1)
