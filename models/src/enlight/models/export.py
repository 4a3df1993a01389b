"""Writes the trained weights as model folders.

`python -m enlight.models.export --bank ... --run ... --models models`
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline

from enlight.models.backgrounds import BACKGROUNDS
from enlight.models.judge import write_judge_config
from enlight.models.networks import build_sampling_scheduler, build_text_encoder, build_unet, build_vae
from enlight.models.pictures import plot_losses
from enlight.models.run_record import load_weights, read_state
from enlight.models.settings import RecipeSettings, tiny
from enlight.models.tokenizer import load_tokenizer
from enlight.models.train_judge import WEIGHTS as JUDGE_WEIGHTS
from enlight.models.train_vae import STATE as VAE_STATE
from enlight.models.train_vae import WEIGHTS as VAE_WEIGHTS

_TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")


def export_pocket(run: Path, bank: Path, folder: Path, settings: RecipeSettings) -> None:
    """Writes the base in diffusers' folder layout, fp16 safetensors.

    Raises:
        FileNotFoundError: a part has not been trained in this run folder.
    """
    tokenizer = load_tokenizer(bank / "tokenizer")
    vae, unet = build_vae(settings), build_unet(settings)
    text_encoder = build_text_encoder(settings, tokenizer)
    for module, name in ((vae, VAE_WEIGHTS), (unet, "unet-ema.safetensors"), (text_encoder, "text-ema.safetensors")):
        if not load_weights(run / name, module):
            raise FileNotFoundError(run / name)
    vae.register_to_config(scaling_factor=round(read_state(run / VAE_STATE)["scaling_factor"], 5))
    pipeline: Any = StableDiffusionPipeline(  # type: ignore[no-untyped-call]
        vae=vae.half(),
        text_encoder=text_encoder.half(),
        tokenizer=tokenizer,
        unet=unet.half(),
        scheduler=build_sampling_scheduler(settings),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    for path in folder.rglob("*.safetensors"):
        path.chmod(0o644)
    # Only the files every version of the libraries reads
    shutil.rmtree(folder / "tokenizer")
    (folder / "tokenizer").mkdir()
    for name in _TOKENIZER_FILES:
        shutil.copyfile(bank / "tokenizer" / name, folder / "tokenizer" / name)
    for path in folder.rglob("*.json"):
        text = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(text, dict):
            text.pop("_name_or_path", None)
        path.write_text(json.dumps(text, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def export_loss_curve(run: Path, path: Path) -> None:
    """Plots the loss of the base over all of its runs."""
    plot_losses(run / "base.csv", path, ("loss",))


def export_judge(run: Path, folder: Path, settings: RecipeSettings) -> None:
    """Writes `judge.safetensors` and `judge.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run / JUDGE_WEIGHTS, folder / "judge.safetensors")
    names = tuple(background.name for background in BACKGROUNDS)
    write_judge_config(folder, settings.judge_channels, settings.judge_embedding_width, names, settings.image_size_px)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True, help="gets the folders pocket and judge")
    parser.add_argument("--tiny", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    settings = tiny(RecipeSettings()) if arguments.tiny else RecipeSettings()
    torch.set_grad_enabled(False)
    export_pocket(arguments.run, arguments.bank, arguments.models / "pocket", settings)
    export_loss_curve(arguments.run, arguments.models / "pocket" / "loss.png")
    export_judge(arguments.run, arguments.models / "judge", settings)


if __name__ == "__main__":
    main()
