"""What `protocol.COPY_RMSE` rests on: `python fidelity/copy_threshold.py`.

A copy is the photo as the base could give it back at best or somewhat worse: through its autoencoder, with noise on the
latents. No copy is a picture of the same subject on the very same background at another place. The threshold lies above
nearly all of the first and below nearly all of the second.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from benchmark import pocket_base
from instance_photos import as_the_trainer_sees, photo_backgrounds, write_photos
from personalised_model import PictureMaker
from picture_measures import rmse_matrix
from protocol import COPY_RMSE, PICTURE_SIZE_PX, SEED, seeded
from renders import random_shot, random_variant
from rich.console import Console
from rich.progress import track
from rich.table import Table

from enlight.dreambooth_api.photos import rgb_to_pixels
from enlight.models.demo_photos import take_photo
from enlight.models.held_out import TUNING_SUBJECTS

LATENT_NOISE = (0.0, 0.1, 0.2, 0.3)
"""Standard deviations, where the base's own latents have about 1."""


def main() -> None:
    """Prints quantiles of both kinds of distances."""
    torch.set_num_threads(1)
    console = Console()
    pipeline = PictureMaker(pocket_base(), torch.device("cpu")).pipeline
    generator = torch.Generator().manual_seed(SEED)
    distances: dict[str, list[float]] = {}
    for subject in track(TUNING_SUBJECTS, "photos", console=console):
        with tempfile.TemporaryDirectory() as folder:
            photos = as_the_trainer_sees(write_photos(subject, Path(folder)))
        mean, std = pipeline.encode_photos(rgb_to_pixels(torch.from_numpy(photos)))
        for noise in LATENT_NOISE:
            drawn = mean + std * torch.randn(mean.shape, generator=generator)
            latents = drawn * pipeline.latent_factor + noise * torch.randn(mean.shape, generator=generator)
            copies = pipeline.decode(latents).numpy()
            distances.setdefault(f"photo, encoded and decoded, latent noise {noise:g}", []).extend(
                np.diag(rmse_matrix(copies, photos))
            )
        others = _at_other_places(subject)
        distances.setdefault("photo, the subject at another place", []).extend(np.diag(rmse_matrix(others, photos)))
    table = Table("", "5 %", "median", "95 %", f"below {COPY_RMSE:g}")
    for name, values in distances.items():
        quantiles = (f"{value:.3f}" for value in np.quantile(values, [0.05, 0.5, 0.95]))
        table.add_row(name, *quantiles, f"{100 * np.mean(np.asarray(values) < COPY_RMSE):.0f} %")
    console.print(table)


def _at_other_places(subject: str) -> np.ndarray:
    """The photos' own backgrounds, (B, H, W, 3) uint8, with the subject elsewhere."""
    as_photos, elsewhere, pictures = seeded("photos", subject), seeded("elsewhere", subject), []
    for background in photo_backgrounds(subject):
        random_shot(background, as_photos)  # the draws of `write_photos`, to come to the same variant
        variant = random_variant(as_photos)
        pictures.append(take_photo(subject, random_shot(background, elsewhere), variant, PICTURE_SIZE_PX))
    return np.stack(pictures)


if __name__ == "__main__":
    main()
