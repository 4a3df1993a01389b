"""Writes contact sheets and loss curves."""

from __future__ import annotations

import csv
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image
from torch import Tensor

matplotlib.use("Agg")
from matplotlib import pyplot


def save_grid(path: Path, pixels: Tensor, *, columns: int, zoom: int = 2) -> None:
    """Saves pictures as one PNG.

    Args:
        path: the file to write.
        pixels: (B, 3, H, W) float in [0, 1].
        columns: pictures in a row.
        zoom: each pixel becomes a square of this side.
    """
    array = (pixels.clamp(0, 1) * 255 + 0.5).byte().permute(0, 2, 3, 1).cpu().numpy()
    count, height, width, _ = array.shape
    rows = -(-count // columns)
    sheet = np.full((rows * height, columns * width, 3), 255, dtype=np.uint8)
    for index, picture in enumerate(array):
        top, left = index // columns * height, index % columns * width
        sheet[top : top + height, left : left + width] = picture
    image = Image.fromarray(sheet)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST).save(path, optimize=True)


def plot_losses(csv_path: Path, png_path: Path, columns: tuple[str, ...]) -> None:
    """Plots columns of a loss record against the step."""
    with csv_path.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    steps = [float(row["step"]) for row in rows]
    figure, axis = pyplot.subplots(figsize=(6, 3), dpi=90)
    for column in columns:
        axis.plot(steps, [float(row[column]) for row in rows], label=column)
    axis.set(xlabel="step", ylabel="loss", yscale="log")
    axis.legend()
    axis.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(png_path)
    pyplot.close(figure)
