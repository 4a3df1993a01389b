"""The picture bank: every glyph and many background variants, drawn once and kept as arrays.

`python -m enlight.models.bank --bank FOLDER` draws the glyphs (needs the font) and trains the tokenizer;
the backgrounds are drawn where the bank is first used, since drawing them is quicker than moving them.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from enlight.models.backgrounds import BACKGROUNDS, render_background
from enlight.models.captions import CaptionTable, build_caption_table
from enlight.models.glyphs import render_glyph
from enlight.models.nameless import nameless_characters
from enlight.models.settings import RecipeSettings
from enlight.models.subjects import all_subjects
from enlight.models.tokenizer import load_tokenizer, train_tokenizer

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bank:
    """Everything pictures are composed from."""

    glyphs: np.ndarray
    """(S, G, G, 4) uint8 premultiplied, in the order of subjects.all_subjects(), the nameless ones after them."""
    backgrounds: np.ndarray
    """(K, V, H, H, 3) uint8, in the order of backgrounds.BACKGROUNDS."""


def build_glyphs(folder: Path, settings: RecipeSettings) -> None:
    """Draws every subject into `folder/glyphs.npz`."""
    folder.mkdir(parents=True, exist_ok=True)
    glyphs = np.stack([render_glyph(subject.character, settings.glyph_size_px) for subject in all_subjects()])
    nameless = np.stack([render_glyph(character, settings.glyph_size_px) for character in nameless_characters()])
    np.savez_compressed(folder / "glyphs.npz", glyphs=glyphs, nameless=nameless)


def render_backgrounds(settings: RecipeSettings, workers: int) -> np.ndarray:
    """Draws all background variants, (K, V, H, H, 3) uint8, over several processes."""
    jobs = list(itertools.product(range(len(BACKGROUNDS)), range(settings.background_variants)))
    indices, variants = zip(*jobs, strict=True)
    sizes, seeds = itertools.repeat(settings.image_size_px), itertools.repeat(settings.seed)
    if workers == 1:
        pictures = [render_background(i, v, settings.image_size_px, settings.seed) for i, v in jobs]
    else:
        with ProcessPoolExecutor(workers) as pool:
            pictures = list(pool.map(render_background, indices, variants, sizes, seeds, chunksize=32))
    return np.stack(pictures).reshape(len(BACKGROUNDS), settings.background_variants, *pictures[0].shape)


def load_bank(folder: Path, settings: RecipeSettings, *, workers: int, with_nameless: bool = False) -> Bank:
    """Reads the bank; draws and keeps the backgrounds when they are not there yet.

    ``with_nameless`` adds the glyphs that have no caption, for what is trained without captions.

    Raises:
        FileNotFoundError: `build_glyphs` has not been run in this folder.
    """
    with np.load(folder / "glyphs.npz") as stored:
        glyphs = np.concatenate([stored["glyphs"], stored["nameless"]]) if with_nameless else stored["glyphs"]
    path = folder / f"backgrounds-{settings.seed}-{settings.background_variants}.npy"
    if not path.exists():
        np.save(path, render_backgrounds(settings, workers))
    return Bank(glyphs, np.load(path))


def build_captions(folder: Path) -> None:
    """Tokenizes every caption into `folder/captions.npz`, with the tokenizer in `folder/tokenizer`."""
    table = build_caption_table(load_tokenizer(folder / "tokenizer"))
    np.savez_compressed(
        folder / "captions.npz",
        tokens=table.tokens,
        varied_tokens=table.varied_tokens,
        phrase_start=table.phrase_start,
        phrase_count=table.phrase_count,
        empty=table.empty,
    )


def load_captions(folder: Path) -> CaptionTable:
    """Reads what `build_captions` wrote."""
    with np.load(folder / "captions.npz") as stored:
        return CaptionTable(**{name: stored[name] for name in stored.files})


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, help="use this tokenizer, such as models/pocket/tokenizer, as it is")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)
    settings = RecipeSettings()
    build_glyphs(arguments.bank, settings)
    if arguments.tokenizer:
        shutil.copytree(arguments.tokenizer, arguments.bank / "tokenizer", dirs_exist_ok=True)
    else:
        train_tokenizer(arguments.bank / "tokenizer", settings)
    build_captions(arguments.bank)
    _log.info("bank with %d subjects in %s", len(all_subjects()), arguments.bank)


if __name__ == "__main__":
    main()
