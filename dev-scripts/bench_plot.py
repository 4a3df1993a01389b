"""Draws how much faster the picture services are than their peers, from the results of bench.sh: ``ratios.png``."""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

GOALS = {"bgrem, u2net, 12 MP": 5.0, "bgrem, u2net, 1024 px": 1.7, "bgrem under load, u2netp": 1.5}


def main() -> None:
    """Reads the folder's results and writes the plot into it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    ratios = read_ratios(folder)
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(ratios) + 1.2))
    positions = range(len(ratios))
    axes.barh(positions, [statistics.median(values) for values in ratios.values()], color="#4477aa", height=0.6)
    for position, (name, values) in zip(positions, ratios.items(), strict=True):
        axes.plot(values, [position] * len(values), "o", color="black", markersize=3)
        if name in GOALS:
            axes.plot([GOALS[name]] * 2, [position - 0.4, position + 0.4], color="#cc3311", linewidth=2)
    axes.axvline(1, color="grey", linewidth=1)
    axes.set_yticks(list(positions), list(ratios))
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("times as fast as the peer (dots: single pictures; red: goal)")
    figure.tight_layout()
    figure.savefig(folder / "ratios.png", dpi=120)
    print(f"wrote {folder / 'ratios.png'}")


def read_ratios(folder: Path) -> dict[str, list[float]]:
    """Every ratio that was measured, by what it is of."""
    ratios: dict[str, list[float]] = {}
    for row in json.loads((folder / "against-rembg.json").read_text())["rows"]:
        ratios.setdefault(f"bgrem, {row['model']}, {row['size']}", []).append(row["ratio"])
    load = json.loads((folder / "load-against-rembg-s.json").read_text())
    ratios["bgrem under load, u2netp"] = [load["ratio"]]
    for row in json.loads((folder / "realesrgan-on-cpu.json").read_text())["rows"]:
        ratios[f"realesrgan on a CPU, {row['model']}"] = [row["ratio"]]
    return ratios


if __name__ == "__main__":
    main()
