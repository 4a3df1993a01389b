"""Samples a contact sheet from a model folder, as any diffusers user would.

`python -m enlight.models.sample_grid --model models/pocket --out grid.png`
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from enlight.models.sampling import GRID_PROMPTS
from enlight.models.settings import RecipeSettings


def sample_pictures(
    model: Path, prompts: tuple[str, ...], *, steps: int, guidance: float, seed: int, device: str
) -> np.ndarray:
    """Samples one picture per prompt; picture i uses a CPU generator seeded seed + i.

    Args:
        model: a folder in diffusers' layout.
        prompts: what to show.
        steps: denoising steps.
        guidance: guidance scale.
        seed: seed of the first picture.
        device: "cpu" or "cuda".

    Returns:
        (B, H, W, 3) uint8.
    """
    load: Any = StableDiffusionPipeline.from_pretrained
    pipeline = load(model, dtype=torch.float32, local_files_only=True)
    pipeline.to(device)
    generators = [torch.Generator().manual_seed(seed + index) for index in range(len(prompts))]
    output = pipeline(
        list(prompts),
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=generators,
        output_type="np",
    ).images
    pictures: np.ndarray = (output * 255 + 0.5).astype(np.uint8)
    return pictures


def main() -> None:
    """Command line."""
    settings = RecipeSettings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prompts", nargs="+", default=list(GRID_PROMPTS))
    parser.add_argument("--steps", type=int, default=settings.sample_steps)
    parser.add_argument("--guidance", type=float, default=settings.sample_guidance)
    parser.add_argument("--seed", type=int, default=settings.seed)
    parser.add_argument("--columns", type=int, default=12)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    pictures = sample_pictures(
        arguments.model,
        tuple(arguments.prompts),
        steps=arguments.steps,
        guidance=arguments.guidance,
        seed=arguments.seed,
        device=arguments.device,
    )
    rows = [
        np.concatenate(pictures[i : i + arguments.columns], axis=1) for i in range(0, len(pictures), arguments.columns)
    ]
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    sheet = Image.fromarray(np.concatenate(padded))
    sheet = sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST)
    sheet.save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
